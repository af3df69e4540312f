"""Autoencoding of clips of the synthetic world with a Perceiver IO: images and sound, few latents.

Variants: `nano` (tests), `tiny` (a CPU), `shards` (as `tiny`, from shards, in half the time),
`kinetics` (the size of the released model; a GPU).

  perceiver-stream shards --config=autoencoder:tiny --config.stream.max_ticks=512 --parts=32 --output=shards/clips
  perceiver-stream train --config=autoencoder:shards --config.model.encoder.num_latents=16

Every clip of every row is a new world. A single world would be memorised, and a few latents would
then suffice to describe a clip.
"""

import perceiver_stream
from perceiver_stream.models.perceiver_io.autoencoder import Config
from perceiver_stream.models.perceiver_io.halves import FourierConfig
from perceiver_stream.streams import shards, synthetic
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.training.objectives import autoencoding

RATES = {"nano": 1e-3, "tiny": 3e-3, "kinetics": 1e-4}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  size = "tiny" if variant == "shards" else variant
  model = perceiver_stream.config(f"perceiver_autoencoder/{size}")
  if size == "tiny":
    _narrow(model)
  samples = model.samples // model.num_frames
  world = synthetic.Config(
    height=model.height,
    width=model.width,
    level="easy",
    audio_rate_hz=25 * samples,
    ticks_per_recording=model.num_frames,
    modalities=("pixels", "audio"),
  )
  return ExperimentConfig(
    model=model,
    stream=shards.Config(path="shards/clips", loops=-1) if variant == "shards" else world,
    # With a lower weight sound is learned long after images; with twice this weight, images after
    # sound.
    objective=autoencoding.Config(
      window=model.num_frames, num_pixels=256, score_ticks=1, audio_weight=22.4
    ),
    optimizer=OptimizerConfig(
      learning_rate=RATES[size], warmup_steps=100, schedule="cosine", decay_steps=4000
    ),
    num_rows=2 if variant == "nano" else 32,
    max_windows=4000,
    run_dir=f"runs/autoencoder_{variant}",
  )


def _narrow(model: Config) -> None:
  """Reduces clips to 0.16 s: four images of 16×16, and sound at 1600 Hz."""
  model.height = model.width = 16
  model.num_frames, model.samples = 4, 4 * 64
  model.image_positions = FourierConfig(num_bands=8, as_released=False)
  model.audio_positions = FourierConfig(num_bands=4, as_released=False)
  model.decoded_dim = model.label_query_dim = 64
  model.encoder.latent_dim, model.encoder.num_self_heads, model.encoder.num_layers = 32, 2, 2
