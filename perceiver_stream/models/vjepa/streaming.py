"""V-JEPA on a stream: the newest frames are the clip, and its features the latents.

All tubelets of the clip are encoded anew at each tick, so that a tick costs a whole clip. The model
predicts nothing; the objective of this folder trains it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream import modalities as modality_room
from perceiver_stream.modalities import Memory, Modality, Queries, pixels
from perceiver_stream.models.base import Model, as_model
from perceiver_stream.models.family import Card, Family, fit_frames
from perceiver_stream.models.input_memory import Remembered
from perceiver_stream.models.recurrent import State, StreamNetwork
from perceiver_stream.models.vjepa import variants
from perceiver_stream.models.vjepa.config import Config, check
from perceiver_stream.models.vjepa.network import Encoder
from perceiver_stream.nn.precision import broadcast
from perceiver_stream.nn.rows import where_rows

NAME = "vjepa_stream"  # of the family, and of the encoder's parameters


@dataclass(kw_only=True)
class StreamConfig(Config):
  """Sizes of V-JEPA on a stream; those of the encoder."""


def normalised(config: Config, frames: Float[Array, "*B H W 3"]) -> Float[Array, "*B H W 3"]:
  """Returns frames in [0, 1] minus the mean, over the deviation."""
  mean, std = (jnp.broadcast_to(jnp.asarray(v), config.channels) for v in (config.mean, config.std))
  return (frames - broadcast(mean, frames)) / broadcast(std, frames)


class StreamingVJepa(StreamNetwork):
  """The encoder over the last frames of a stream."""

  def __init__(self, config: Config, modalities: dict[str, Modality]):
    self.config, self.modalities = config, modalities
    self.encoder = Encoder(config, name=NAME)

  def initial_latents(self, batch_size: int) -> Float[Array, "B L D"]:
    """Returns zeros."""
    t, y, x = self.config.grid
    return jnp.zeros((batch_size, t * y * x, self.config.dim))

  def initial_extra(
    self, latents: Array, memory: Mapping[str, Memory]
  ) -> Float[Array, "B T H W 3"]:
    """Returns a black clip."""
    del memory
    c = self.config
    return jnp.zeros((latents.shape[0], c.num_frames, c.height, c.width, c.channels))

  def unroll(self, state: State, kept: Remembered) -> State:
    """Returns the state after each of T ticks; at a first tick the clip is that frame, repeated."""

    def tick(clip: Array, now: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
      frame, is_first = now
      longer = jnp.concatenate([clip[:, 1:], frame[:, None]], axis=1)
      clip = where_rows(is_first, jnp.broadcast_to(frame[:, None], clip.shape), longer)
      return clip, (self.encoder(normalised(self.config, clip)), clip)

    frames = kept.memory["pixels"].last
    _, (latents, clips) = hk.scan(tick, state.extra, (frames, kept.is_first))
    return State(latents, kept.memory, clips)

  def predict(self, state: State, displacements: tuple[int, ...]) -> dict[str, Array]:
    """Returns nothing."""
    del state, displacements
    return {}

  def decode(self, state: State, queries: Mapping[str, Queries]) -> dict[str, Array]:
    """Returns nothing."""
    del state, queries
    return {}


def build(config: StreamConfig) -> Model:
  """Returns the model that `config` describes."""
  check(config)
  size = pixels.Config(
    height=config.height, width=config.width, patch=1, tokenizer="pixel", use_output=False
  )
  modalities = {"pixels": modality_room.build("pixels", size)}
  return as_model(lambda: StreamingVJepa(config, modalities), modalities, (0,), config)


FAMILY = Family(
  name=NAME,
  config=StreamConfig,
  build=build,
  fit=fit_frames(NAME),
  variants={
    name: lambda name=name: StreamConfig(**vars(variants.VARIANTS[name]()))
    for name in ("large", "tiny", "nano")
  },
  card=Card(
    summary="V-JEPA over the newest frames of a stream, trained by predicting features of hidden tubelets.",
    paper="Bardes et al. 2024, V-JEPA, 2404.08471",
    inputs="pixels in whole tubelets",
    limits="Each tick encodes a whole clip. It predicts no pixels; published files load as "
    "`zoo.clip_encoders` `vjepa`.",
  ),
  objective="perceiver_stream.models.vjepa.objective.FeaturePrediction",
)
