"""A Perceiver IO autoencodes clips of the synthetic world: pictures and sound through few latents.

Variants: `nano` (tests), `tiny` (a CPU), `kinetics` (the size of the released model; a GPU).

  python scripts/train.py --config=configs/autoencoder.py:tiny --config.model.encoder.num_latents=16

Each row is a new world every 8 ticks, that is two clips: one world would be learnt by heart, and
then a handful of latents says all that there is to say of a clip.
"""

import perceiver_stream
from perceiver_stream.models.perceiver_autoencoder import Config
from perceiver_stream.models.perceiver_io import FourierConfig
from perceiver_stream.streams import synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import autoencoding

RATES = {"nano": 1e-3, "tiny": 2e-3}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  model = perceiver_stream.config(f"perceiver_autoencoder/{variant}")
  if variant == "tiny":
    _narrow(model)
  samples = model.samples // model.num_frames
  return ExperimentConfig(
    model=model,
    stream=synthetic.Config(
      height=model.height,
      width=model.width,
      level="medium",
      audio_rate_hz=25 * samples,
      ticks_per_recording=8,
      modalities=("pixels", "audio"),
    ),
    objective=autoencoding.Config(window=model.num_frames, score_ticks=1, audio_weight=4.0),
    optimizer=OptimizerConfig(
      learning_rate=RATES.get(variant, 1e-4),
      warmup_steps=50,
      schedule="cosine",
      decay_steps=1500,
    ),
    num_rows=4,
    max_windows=1500,
    run_dir=f"runs/autoencoder_{variant}",
  )


def _narrow(model: Config) -> None:
  model.height = model.width = 24
  model.num_frames, model.samples = 4, 4 * 160
  model.image_positions = FourierConfig(num_bands=8, as_released=False)
  model.audio_positions = FourierConfig(num_bands=16, as_released=False)
  model.decoded_dim = model.label_query_dim = model.encoder.latent_dim = 64
  model.encoder.num_layers = 2
