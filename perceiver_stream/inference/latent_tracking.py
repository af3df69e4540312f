"""Tracks of points read from the positions of latents: no read-out, nothing to train.

A query is followed by a latent that starts at it with the frame of the query, or (`from_grid`) by the
visible latent nearest to it in that frame, at a constant offset.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree, UInt8

from perceiver_stream import zoo
from perceiver_stream.evaluation.trackers_online import TrackChunk
from perceiver_stream.inference.frame_chunks import CHUNK, padded_chunk
from perceiver_stream.models.base import Model
from perceiver_stream.types import IS_FIRST
from perceiver_stream.zoo.loading import blank_tick, read_config, readout_names


def num_positioned(model: Model) -> int:
  """Returns the number of latents of a model with a position that `LatentTracker` can read."""
  reads = "pixels" in model.modalities and model.modalities["pixels"].config.use_input
  return _positioned(model.config) if reads else 0


def _positioned(config: Any) -> int:
  return getattr(getattr(config, "core", None), "num_positioned", 0)


def trained_model(name_or_path: str | pathlib.Path) -> tuple[Model, PyTree] | None:
  """Returns the model of a file, or bundled weights by name, whose latents are its tracker.

  None if no latent has a position, or the file also has a read-out of points.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: The file is damaged or hostile.
  """
  if not _positioned(read_config(name_or_path)) or "points" in readout_names(name_or_path):
    return None
  return zoo.load(name_or_path)


def untrained_model(name: str) -> tuple[Model, PyTree] | None:
  """Returns a model of the zoo that observes pixels alone, and random parameters.

  Its latents follow places by fixed rules, which random parameters do not change. None if it has no
  latents with positions.
  """
  config = zoo.config(name)
  if not _positioned(config):
    return None
  pixels = {"pixels": config.modalities["pixels"]}
  model = zoo.build(dataclasses.replace(config, modalities=pixels))
  return model, model.init(jax.random.key(0), blank_tick(model))


class LatentTracker:
  """Tracks of points by the latents of a model that have positions, for frames of any size.

  Frames are resized to the model's size. Memory does not grow with the video.
  """

  def __init__(
    self,
    model: Model,
    params: PyTree,
    queries: Float[np.ndarray, "N 3"],
    *,
    from_grid: bool = False,
    chunk: int = CHUNK,
  ):
    """Starts before the first frame.

    Args:
      model: With a core of latents with positions.
      params: Of the model.
      queries: Queries (frame, y, x) as `check_queries` returns them.
      from_grid: True if queries are followed by the latents nearest to them instead of latents that
        start there.
      chunk: Most frames in one call.

    Raises:
      ValueError: No latent has a position.
    """
    self._slots = num_positioned(model)
    if not self._slots:
      raise ValueError(
        f"LatentTracker: no latent of this model has a position in pixels; use one with a "
        f"PositionedConfig such as stream_perceiver/tiny_positions, not core="
        f"{type(getattr(model.config, 'core', None)).__name__}."
      )
    self._model, self._params, self._chunk, self._ticks = model, params, chunk, 0
    self._times, self._places = queries[:, 0].astype(int), queries[:, 1:].astype(np.float32)
    self._from_grid = from_grid
    self._carrier = np.full(len(queries), -1)
    self._offset = np.zeros((len(queries), 2), np.float32)
    turns = 1 if from_grid else max(1, -(-len(queries) // self._slots))
    self._states = [model.initial_state(params, 1)] * turns

  def __call__(self, frames: UInt8[np.ndarray, "T H W 3"]) -> TrackChunk:
    """Returns the tracks in the next frames, in raster coordinates; NaN before the query.

    Fewer frames than a chunk end the video; the chunk is padded with the last frame.

    Raises:
      ValueError: There are more frames than a chunk, or the video has ended.
    """
    count, size = len(frames), np.array(frames.shape[1:3], np.float32)
    pixels = padded_chunk("LatentTracker", self._model, frames, self._ticks, self._chunk)
    targets = 2 * self._places / size - 1  # (y, x) in [-1, 1]
    found = [self._turn(turn, pixels, targets) for turn in range(len(self._states))]
    position, visible, sure = (np.concatenate(x, axis=1)[:count] for x in zip(*found, strict=True))
    position, visible, sure = self._chosen(position, visible, sure, targets)
    waits = np.arange(self._ticks, self._ticks + count)[:, None] < self._times
    self._ticks += count
    tracks = np.where(waits[..., None], np.float32(np.nan), (position[..., ::-1] + 1) / 2)
    sure = np.where(waits, np.float32(np.nan), sure)
    answer = (tracks * size[::-1]).astype(np.float32), visible & ~waits, sure
    return TrackChunk(*(x.swapaxes(0, 1) for x in answer))

  def _turn(self, turn: int, pixels: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns positions, visibility and confidence `[chunk, P, ...]` of the latents of a turn."""
    start = np.zeros((self._chunk, 1, self._slots), bool)
    place = np.zeros((1, self._slots, 2), np.float32)
    if not self._from_grid:
      some = slice(turn * self._slots, (turn + 1) * self._slots)
      now = self._times[some] - self._ticks
      here = np.flatnonzero((now >= 0) & (now < self._chunk))
      start[now[here], 0, here] = True
      place[0, : len(targets[some])] = targets[some]
    args = self._params, self._states[turn], pixels[:, None], start, place
    found, self._states[turn] = _watch(self._model.observe, *jax.device_put(args))
    return tuple(np.asarray(x)[:, 0] for x in found)

  def _chosen(
    self, position: np.ndarray, visible: np.ndarray, sure: np.ndarray, targets: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns position, visibility and confidence of each query, `[T, N, ...]`."""
    num = len(self._times)
    if not self._from_grid:
      return position[:, :num], visible[:, :num], sure[:, :num]
    for query in np.flatnonzero(
      (self._times >= self._ticks) & (self._times < self._ticks + len(position))
    ):
      at = self._times[query] - self._ticks
      away = np.linalg.norm(position[at] - targets[query], axis=-1)
      carrier = int(np.argmin(np.where(visible[at], away, away + 4)))
      self._carrier[query] = carrier
      self._offset[query] = targets[query] - position[at, carrier]
    carriers = self._carrier
    return position[:, carriers] + self._offset, visible[:, carriers], sure[:, carriers]


@functools.partial(jax.jit, static_argnums=0)
def _watch(
  observe, params: PyTree, state: PyTree, pixels: Array, start: Bool[Array, "T 1 P"], place: Array
) -> tuple[tuple[Array, Array, Array], PyTree]:
  """Returns positions, visibility and confidence after each tick, and the state after the last."""

  def tick(state: PyTree, now: tuple) -> tuple[PyTree, tuple[Array, Array, Array]]:
    image, start = now
    state = state._replace(latents=state.latents.restart(start, place))
    seen = {"pixels": image[None], IS_FIRST: jnp.zeros((1, 1), bool)}
    _, state = observe(params, state, seen)
    known = state.latents
    return state, (known.position, known.visible > 0, jax.nn.sigmoid(known.confidence))

  state, found = jax.lax.scan(tick, state, (pixels, start))
  return found, state
