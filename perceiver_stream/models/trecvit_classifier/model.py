"""The TRecViT classifier as a recurrent model of the common contract."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream import modalities as modality_room
from perceiver_stream.core.lru import LruState
from perceiver_stream.modalities import Memory, Modality, Queries, pixels, vector
from perceiver_stream.models.base import Model, as_model
from perceiver_stream.models.input_memory import Remembered
from perceiver_stream.models.recurrent import State, StreamNetwork
from perceiver_stream.models.trecvit_classifier.classifier import Classifier, Config
from perceiver_stream.nn import where_rows


class ClipState(NamedTuple):
  """State of the clip; the latents are not part of it.

  Attributes:
    layers: State of every layer's recurrence.
    count: Frames of the current clip so far.
    total: Sum of their representations.
  """

  layers: tuple[LruState, ...]
  count: Int[Array, "*T B"]
  total: Float[Array, "*T B R"]


class ClassifierNetwork(StreamNetwork):
  """Class logits of the current clip up to the newest frame, as a vector called "label".

  A clip ends after `frames_per_clip` ticks, as in training; the next one starts without a state.
  The latents are the encoded tokens of the newest frame, the class token first.
  """

  def __init__(self, config: Config, modalities: dict[str, Modality]):
    self.config = config
    self.modalities = modalities
    self.net = Classifier(config)

  def initial_latents(self, batch_size: int) -> Float[Array, "B N D"]:
    """Returns zeros."""
    return jnp.zeros((batch_size, self.config.num_tokens, self.config.backbone.dim))

  def initial_extra(self, latents: Array, memory: Mapping[str, Memory]) -> ClipState:
    """Returns a clip without a frame."""
    del memory
    rows = latents.shape[0]
    layers = self.net.backbone.initial_state(rows, self.config.num_tokens)
    return ClipState(layers, jnp.zeros(rows, jnp.int32), jnp.zeros((rows, self.config.rep_dim)))

  def unroll(self, state: State, kept: Remembered) -> State:
    """Returns the state after each of T ticks, computed in parallel."""
    before: ClipState = state.extra
    counts, starts = self._counts(before.count, kept.is_first)
    tokens = self.net.tokens(kept.memory["pixels"].last)
    encoded, layers = self.net.encode(tokens, starts, before.layers)
    inflow = self.net.represent(encoded)

    def add(total: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
      total = where_rows(now[0], 0.0, total) + now[1]
      return total, total

    _, totals = jax.lax.scan(add, before.total, (starts, inflow))
    return State(encoded, kept.memory, ClipState(layers, counts, totals))

  def _counts(
    self, count: Int[Array, " B"], is_first: Bool[Array, "T B"]
  ) -> tuple[Int[Array, "T B"], Bool[Array, "T B"]]:
    """Returns the number of frames of the clip up to each tick, and True where a clip starts."""
    length = self.config.frames_per_clip

    def tick(count: Array, first: Array) -> tuple[Array, tuple[Array, Array]]:
      starts = first | (count == 0) | (count == length)
      count = jnp.where(starts, 1, count + 1)
      return count, (count, starts)

    return jax.lax.scan(tick, count, is_first)[1]

  def _logits(self, state: State) -> Float[Array, "B K"]:
    clip: ClipState = state.extra
    count = jnp.maximum(clip.count, 1).astype(jnp.float32)[:, None]
    return self.net.logits(clip.total / jnp.broadcast_to(count, clip.total.shape))

  def predict(self, state: State, displacements: tuple[int, ...]) -> dict[str, Array]:
    """Returns logits `[B, num_displacements, classes]`, the same for every displacement."""
    return {"label": jnp.repeat(self._logits(state)[:, None], len(displacements), axis=1)}

  def decode(self, state: State, queries: Mapping[str, Queries]) -> dict[str, Array]:
    """Returns logits `[B, Q, classes]`, the same for every query."""
    logits = self._logits(state)[:, None]
    return {n: jnp.repeat(logits, q.positions.shape[0], axis=1) for n, q in queries.items()}


def build(config: Config) -> Model:
  """Returns the classifier that `config` describes: pixels to label logits."""
  assert config.num_tokens  # raises for frames that are not whole patches
  sizes = {
    "pixels": pixels.Config(
      height=config.height, width=config.width, patch=1, tokenizer="pixel", use_output=False
    ),
    "label": vector.Config(size=config.num_classes, use_input=False),
  }
  modalities = {n: modality_room.build(n, m) for n, m in sizes.items()}
  return as_model(lambda: ClassifierNetwork(config, modalities), modalities, (0,), config)
