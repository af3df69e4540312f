"""Latents of `stream_perceiver` that predict themselves: a JEPA on one stream of the synthetic world.

Variants: `nano` (tests), `tiny` (a CPU).

  perceiver-stream train --config=latent_prediction:tiny
"""

import perceiver_stream
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import latent_prediction


def get_config(variant: str = "tiny") -> ExperimentConfig:
  name = "stream_perceiver/" + {"tiny": "tiny_world"}.get(variant, variant)
  model = perceiver_stream.config(name)
  pixels = model.modalities["pixels"]
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(
      height=pixels.height, width=pixels.width, modalities=tuple(model.modalities)
    ),
    objective=latent_prediction.Config(window=8),
    optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=50),
    use_baselines=False,
    num_rows=2,
    max_windows=1500,
    run_dir=f"runs/latent_prediction_{variant}",
  )
