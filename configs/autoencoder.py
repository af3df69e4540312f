"""A Perceiver IO autoencodes clips of the synthetic world: pictures and sound through few latents.

Variants: `nano` (tests), `tiny` (a CPU), `kinetics` (the size of the released model; a GPU).

  python scripts/train.py --config=configs/autoencoder.py:tiny --config.model.encoder.num_latents=16
"""

import perceiver_stream
from perceiver_stream.models.perceiver_io import FourierConfig
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import autoencoding


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"perceiver_autoencoder/{variant}")
  if variant == "tiny":
    model.height = model.width = 32
    model.num_frames, model.samples = 4, 4 * 320
    model.image_positions = FourierConfig(num_bands=16, as_released=False)
  samples = model.samples // model.num_frames
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(
      height=model.height,
      width=model.width,
      audio_rate_hz=25 * samples,
      modalities=("pixels", "audio"),
    ),
    objective=autoencoding.Config(window=model.num_frames, score_ticks=1),
    optimizer=OptimizerConfig(
      learning_rate=1e-3 if variant != "kinetics" else 1e-4,
      warmup_steps=50,
      schedule="cosine",
      decay_steps=1000,
    ),
    num_rows=4,
    max_windows=1000,
    run_dir=f"runs/autoencoder_{variant}",
  )
