"""Training of the bundled weights: one small model on four streams in parallel rows.

Three rows are the synthetic world at its three levels, with a new scene every 96 ticks; the fourth
is the MuJoCo room (extra `sim`). The only input is images, so the model can process any video.

Variants that train a small `stream_perceiver` (a CPU):

| variant | latent embedding | queries read input | latents bound to grid | windows | purpose |
|---|---|---|---|---|---|
| `nano` | none | yes | no | 700 | tests; without MuJoCo |
| `tiny` | none | yes | no | 700 | bundled weights |
| `apart` | learned | yes | no | 700 | ablation |
| `blind` | learned | no | no | 1600 | all predicted change passes through the latents |
| `grid` | learned | no | yes | 1600 | as `blind`, for the probes |

Other models: `motion` (`stream_perceiver/tiny_motion`: one latent per token, and all motion
information passes through the latents) and `moog` (`moog/tiny_world` with its own objective,
started from the weights of `configs/moog.py:tiny`).

  perceiver-stream train --config=pretrain:tiny
  perceiver-stream export runs/pretrain_tiny --output=tiny.safetensors
  perceiver-stream train --config=pretrain:moog --config.weights=MOOG.safetensors
"""

import dataclasses
from typing import Any

import perceiver_stream
from perceiver_stream.streams import mixture, mujoco, synthetic
from perceiver_stream.training import ExperimentConfig, ObjectiveConfig, OptimizerConfig
from perceiver_stream.training.objectives import next_frame

MODELS = {
  "nano": "stream_perceiver/nano",
  "tiny": "stream_perceiver/tiny_world",
  "apart": "stream_perceiver/tiny_world",
  "blind": "stream_perceiver/tiny_world",
  "grid": "stream_perceiver/tiny_grid",
}
BLIND = ("blind", "grid")
APART = ("apart", *BLIND)


def get_config(variant: str = "tiny") -> ExperimentConfig:
  others = {"moog": next_frames, "motion": motions}
  learning = others[variant]() if variant in others else futures(variant)
  shape = perceiver_stream.build(learning["model"]).modalities["pixels"].spec.shape
  same = {"height": shape[0], "width": shape[1], "audio_rate_hz": 0, "modalities": ("pixels",)}
  sources: dict[str, Any] = {
    level: synthetic.Config(**same, level=level, ticks_per_recording=96, seed=seed)
    for seed, level in enumerate(("easy", "medium", "hard"))
  }
  if variant != "nano":
    sources["room"] = mujoco.Config(**same, ticks_per_recording=750)
  return ExperimentConfig(
    **learning,
    stream=mixture.Config(sources=sources),
    num_rows=len(sources),
    use_baselines=False,
    run_dir=f"runs/pretrain_{variant}",
  )


def futures(variant: str) -> dict[str, Any]:
  """Returns the settings of a `stream_perceiver` that predicts 1 and 4 ticks ahead."""
  model = perceiver_stream.config(MODELS[variant])
  core = dataclasses.replace(model.core, identity=variant in APART)
  changes = {"core": core, "queries_see": variant not in BLIND, "displacements": (1, 4)}
  pixels = {"pixels": model.modalities["pixels"]}
  num = 1600 if variant in BLIND else 700
  return dict(
    model=dataclasses.replace(model, modalities=pixels, **changes),
    objective=ObjectiveConfig(window=8),
    optimizer=OptimizerConfig(
      name="rmsprop",
      b1=0.0,
      b2=0.95,
      learning_rate=5e-4,
      warmup_steps=20,
      schedule="cosine",
      decay_steps=num,
    ),
    max_windows=num,
  )


def motions() -> dict[str, Any]:
  """Returns the settings of `tiny_motion`: reconstruct the newest frame, predict the next."""
  num = 700
  return dict(
    model=perceiver_stream.config("stream_perceiver/tiny_motion"),
    objective=ObjectiveConfig(window=8),
    optimizer=OptimizerConfig(
      learning_rate=1e-3, b2=0.95, warmup_steps=20, schedule="cosine", decay_steps=num
    ),
    max_windows=num,
  )


def next_frames() -> dict[str, Any]:
  """Returns the settings of MooG: parameters as in `configs/moog.py:tiny`, larger images."""
  return dict(
    model=perceiver_stream.config("moog/tiny_world"),
    objective=next_frame.Config(window=8, score_ticks=1),
    optimizer=OptimizerConfig(
      learning_rate=2e-3, b2=0.95, warmup_steps=20, schedule="cosine", decay_steps=800
    ),
    max_windows=800,
  )
