"""Training of the bundled weights: one small model on four streams in parallel rows.

Three rows are the synthetic world at its levels, a new scene every 96 ticks; the fourth is the
MuJoCo room (extra `sim`). Images only, so that the model can process any video.

| variant | latent embedding | queries conditioned on input | latents bound to grid | windows | purpose |
|---|---|---|---|---|---|
| `nano` | none | yes | no | 700 | tests; without MuJoCo |
| `tiny` | none | yes | no | 700 | `stream_perceiver/tiny_world`, on a CPU |
| `tiny_latent_embed` | learned | yes | no | 700 | do latents stay apart? |
| `tiny_bottleneck` | learned | no | no | 1600 | changes pass through the latents |
| `tiny_grid_bound` | learned | no | 8 × 8 | 1600 | control of `tiny_bottleneck` in the probes |
| `tiny_motion` | grid | no | 16 × 16 | 700 | `stream_perceiver/tiny_motion`: motion in the latents |
| `moog` | | | | 800 | `moog/tiny_world`, from where `--config=moog:tiny` ends |

  perceiver-stream train --config=pretrain:tiny
  perceiver-stream export runs/pretrain_tiny --output=tiny.safetensors
  perceiver-stream train --config=pretrain:moog --config.weights=MOOG.safetensors
"""

import dataclasses
from typing import Any

import perceiver_stream
from perceiver_stream.models.moog import objective
from perceiver_stream.models.stream_perceiver import BottleneckConfig
from perceiver_stream.streams import mixture, mujoco, synthetic
from perceiver_stream.training import ExperimentConfig, ObjectiveConfig, OptimizerConfig
from perceiver_stream.utils.warn import warn

CONDITIONED, BOTTLENECK = BottleneckConfig(), BottleneckConfig(condition_queries_on_input=False)
# Model, latent embedding and bottleneck of the variants that learn by future prediction.
MODELS = {
  "nano": ("stream_perceiver/nano", "none", CONDITIONED),
  "tiny": ("stream_perceiver/tiny_world", "none", CONDITIONED),
  "tiny_latent_embed": ("stream_perceiver/tiny_world", "learned", CONDITIONED),
  "tiny_bottleneck": ("stream_perceiver/tiny_world", "learned", BOTTLENECK),
  "tiny_grid_bound": (
    "stream_perceiver/tiny_world",
    "learned",
    dataclasses.replace(BOTTLENECK, latent_grid=(8, 8)),
  ),
}
# Known until version 0.2.
RENAMED = {
  "apart": "tiny_latent_embed",
  "blind": "tiny_bottleneck",
  "grid": "tiny_grid_bound",
  "motion": "tiny_motion",
}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  if variant in RENAMED:
    old, variant = variant, RENAMED[variant]
    warn(
      f"pretrain:{old} is now pretrain:{variant}, with another run_dir; resume an old run with "
      f"--resume=FOLDER. Version 0.2 will not know the old name.",
      DeprecationWarning,
    )
  others = {"moog": next_frames, "tiny_motion": motions}
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
  name, embedding, bottleneck = MODELS[variant]
  model = perceiver_stream.config(name)
  num = 700 if bottleneck.condition_queries_on_input else 1600
  return dict(
    model=dataclasses.replace(
      model,
      modalities={"pixels": model.modalities["pixels"]},
      core=dataclasses.replace(model.core, latent_embedding=embedding),
      bottleneck=dataclasses.replace(bottleneck),
      displacements=(1, 4),
    ),
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
  """Returns the settings of MooG: parameters as in `--config=moog:tiny`, larger images."""
  return dict(
    model=perceiver_stream.config("moog/tiny_world"),
    objective=objective.Config(window=8, score_ticks=1),
    optimizer=OptimizerConfig(
      learning_rate=2e-3, b2=0.95, warmup_steps=20, schedule="cosine", decay_steps=800
    ),
    max_windows=800,
  )
