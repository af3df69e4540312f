"""Pieces: latents with positions follow points of clips that are made of the stream's own images.

For every window of the stream, clips are generated of images from a small reservoir of earlier
frames, or of the window alone (`training.moving_pieces`). The core observes them from its initial
state, with latents at random positions, which start on the first tick; the loss is the distance of its
position from that of the point, which is known by construction. No label of the stream is used.

The reservoir is the only memory of the past besides parameters: `reservoir` frames of each row,
a uniform sample of the last frames of all windows so far (Vitter 1985, algorithm R).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.models.base import Model
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.moving_pieces import Clip, generate
from perceiver_stream.training.objectives.base import (
  Aux,
  Objective,
  Score,
  check_window,
  flag,
  mean_where,
)
from perceiver_stream.types import IS_FIRST, Observation

_FINE, _COARSE = 0.25, 1.0  # pixels where the losses become linear
_HIDDEN = 0.1  # weight of points that are not visible
_NEAR = 3.0  # pixels within which a position is accurate


@dataclass(kw_only=True)
class Config:
  """Sizes of the generated clips.

  Attributes:
    window: Ticks of the stream between updates.
    reservoir: Earlier frames that are kept for each row, R; 0: images of the window alone.
    clips: Clips for each row and update.
    ticks: Length of a clip.
    pieces: Pieces of other images that move in front.
    max_speed: Largest mean speed of an image, pixels per tick.
  """

  window: int = 8
  reservoir: int = 16
  clips: int = 4
  ticks: int = 12
  pieces: int = 4
  max_speed: float = 4.0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("pieces", self.window)
    if self.reservoir < 0 or self.clips < 1 or self.ticks < 2 or self.pieces < 0:
      raise ValueError(
        f"pieces: reservoir={self.reservoir} and pieces={self.pieces} must be 0 or more, "
        f"clips={self.clips} 1 or more and ticks={self.ticks} 2 or more."
      )
    if self.max_speed <= 0.1:
      raise ValueError(f"pieces: max_speed={self.max_speed} pixels per tick; use more than 0.1.")


class Reservoir(NamedTuple):
  """Frames of the past of each row.

  Attributes:
    frames: RGB in [0, 1]; the first `count` are filled, up to R.
    count: Frames that have been offered.
  """

  frames: Float[Array, "B R H W 3"]
  count: Int[Array, " B"]


class Pieces(Objective):
  """Loss and scores of following points of clips made of the stream's own images."""

  name, config_type = "pieces", Config
  needs = ("pixels",)
  labels = {"pixels": ("positions", "px")}  # of generated clips, not of the stream

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model has no positions to train, a sentence; None if it has."""
    if not getattr(getattr(model.config, "core", None), "num_positioned", 0):
      return "Its latents have no positions (its core is no PositionedConfig)."
    reads = "pixels" in model.modalities and model.modalities["pixels"].config.use_input
    return None if reads else "It does not read pixels."

  def initial_state(
    self, params: PyTree, batch_size: int = 1, rng: Array | None = None
  ) -> Reservoir | tuple[()]:
    """Returns an empty reservoir; () if nothing is kept."""
    del params, rng
    if not self.config.reservoir:
      return ()
    shape = (batch_size, self.config.reservoir, *self.model.modalities["pixels"].spec.shape)
    return Reservoir(jnp.zeros(shape), jnp.zeros(batch_size, jnp.int32))

  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the loss of clips made of the window and the reservoir, with its other results."""
    if rng is None:
      raise ValueError("Pieces: clips are random; give a key as rng.")
    frames = self.model.modalities["pixels"].preprocess(window["pixels"])
    valid = flag(window, "pixels")
    frames = jnp.where(valid.reshape(*valid.shape, 1, 1, 1), frames, jnp.zeros_like(frames))
    rows, clips = frames.shape[1], self.config.clips
    pool, usable = self._pool(state, frames, valid)
    keys = jax.random.split(rng, rows * clips + 2)
    first = self._start(keys[1], params, rows * clips)
    points = _pixels(first.latents.position, frames.shape[2:4])
    images, usable = (jnp.repeat(x, clips, axis=0) for x in (pool, usable))
    counts = jnp.any(usable, axis=1)
    made = jax.vmap(self._clip)(keys[2:], images, usable, points)
    made = jax.tree.map(lambda x: jax.lax.stop_gradient(jnp.swapaxes(x, 0, 1)), made)
    begins = jnp.zeros(made.frames.shape[:2], bool)  # True would reset the positions of latents
    states, _ = self.model.observe(params, first, {"pixels": made.frames, IS_FIRST: begins})
    loss, error = _losses(states.latents, made, counts)
    next_state = self._kept(keys[0], state, frames[-1], valid[-1])
    scores = {str(ScoreKey("positions", 0)): self._score(error, made, counts, rows)}
    return loss, Aux(*jax.lax.stop_gradient((next_state, scores, {})))

  def _start(self, rng: Array, params: PyTree, rows: int) -> PyTree:
    """Returns the state before a clip, with latents at random positions, other ones in each row."""
    first = self.model.initial_state(params, rows)
    latents = first.latents
    place = jax.random.uniform(rng, latents.position.shape, minval=-1.0)
    started = latents.restart(jnp.ones(latents.age.shape, bool), place)
    return first._replace(latents=started)

  def _pool(
    self, state: Any, frames: Float[Array, "W B H W2 3"], valid: Bool[Array, "W B"]
  ) -> tuple[Float[Array, "B N H W2 3"], Bool[Array, "B N"]]:
    """Returns the images that clips are made of, and which of them were observed."""
    if not self.config.reservoir:
      return jnp.swapaxes(frames, 0, 1), valid.T
    pool = jnp.concatenate([jnp.swapaxes(frames, 0, 1), state.frames], axis=1)
    filled = jnp.arange(state.frames.shape[1])[None] < state.count[:, None]
    return pool, jnp.concatenate([valid.T, filled], axis=1)

  def _clip(
    self, rng: Array, pool: Float[Array, "N H W 3"], usable: Bool[Array, " N"], points: Array
  ) -> Clip:
    """Returns one clip; images are drawn with replacement among the usable."""
    pick, make = jax.random.split(rng)
    weights = jnp.where(usable, 0.0, -1e9)
    chosen = jax.random.categorical(pick, weights, shape=(self.config.pieces + 1,))
    sizes = {"ticks": self.config.ticks, "max_speed": self.config.max_speed}
    return generate(make, pool[chosen], points, **sizes)

  def _kept(
    self, rng: Array, state: Any, frame: Float[Array, "B H W 3"], valid: Bool[Array, " B"]
  ) -> Reservoir | tuple[()]:
    """Returns the reservoir after a frame was offered to it."""
    if not self.config.reservoir:
      return ()
    size = state.frames.shape[1]
    count = state.count + valid.astype(jnp.int32)
    drawn = jax.random.randint(rng, count.shape, 0, jnp.maximum(count, 1))
    slot = jnp.where(count <= size, count - 1, drawn)
    here = (jnp.arange(size)[None] == slot[:, None]) & valid[:, None]
    here = here.reshape(*here.shape, 1, 1, 1)
    return Reservoir(jnp.where(here, frame[:, None], state.frames), count)

  def _score(self, error: Array, made: Clip, counts: Bool[Array, " B"], rows: int) -> Score:
    """Returns the mean error in pixels of visible points by tick and row; staying is the baseline."""
    stays = jnp.linalg.norm(made.tracks - made.tracks[:1], axis=-1)[1:]
    use = made.visible[1:] & counts[None, :, None]
    by_row = lambda x: x.reshape(x.shape[0], rows, -1)  # noqa: E731
    total = jnp.maximum(jnp.sum(by_row(use).astype(jnp.float32), axis=-1), 1.0)
    mean = lambda x: jnp.sum(by_row(jnp.where(use, x, 0.0)), axis=-1) / total  # noqa: E731
    return Score(mean(error), {"static": mean(stays)}, jnp.any(by_row(use), axis=-1))


def _losses(
  found: PyTree, made: Clip, counts: Bool[Array, " B"]
) -> tuple[Float[Array, ""], Float[Array, "T B P"]]:
  """Returns the loss, and errors in pixels from the second tick on."""
  size = made.frames.shape[2:4]
  away = _pixels(found.position[1:], size) - made.tracks[1:]
  error = jnp.sqrt(jnp.sum(jnp.square(away), axis=-1) + 1e-8)
  visible, known = made.visible[1:], jnp.broadcast_to(counts[None, :, None], error.shape)
  inside = made.inside[1:] & known
  weight = jnp.where(visible, 1.0, _HIDDEN)
  place = weight * (_huber(error, _FINE) + 0.3 * _huber(error, _COARSE))
  near = jax.lax.stop_gradient(error) < _NEAR
  sure = _cross_entropy(found.confidence[1:], near)
  seen = _cross_entropy(found.visible[1:], visible)  # points outside the image are not visible
  loss = mean_where(place, inside) + mean_where(sure, inside) + mean_where(seen, known)
  return loss, error


def _huber(error: Array, width: float) -> Array:
  """Returns the Huber loss divided by its width: its slope is at most 1."""
  return jnp.where(error < width, jnp.square(error) / (2 * width), error - width / 2)


def _cross_entropy(logit: Array, truth: Array) -> Array:
  return jax.nn.softplus(jnp.where(truth, -logit, logit))


def _pixels(position: Float[Array, "*n 2"], size: tuple[int, ...]) -> Float[Array, "*n 2"]:
  """Returns positions in [-1, 1] as pixels (y, x), whole numbers at pixel centres."""
  scale = jnp.asarray(size, jnp.float32).reshape((1,) * (position.ndim - 1) + (2,)) / 2
  return (position + 1) * scale - 0.5
