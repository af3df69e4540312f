"""Tracks of points by a model with slots (`models.point_trackers`), for frames of any size."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree, UInt8

from perceiver_stream.evaluation.trackers_online import TrackChunk
from perceiver_stream.inference.frame_chunks import CHUNK, padded_frames
from perceiver_stream.models.point_readout import TrackCommands
from perceiver_stream.models.point_trackers import PointTracker

MAX_SLOTS = 1024  # points tracked at once; more are tracked in turns


class SlotTracker:
  """Tracks of points in a video that comes piece by piece; memory does not grow with it.

  A query starts in a free slot at its frame; slots are as many as queries. Frames are resized to
  the model's size.
  """

  def __init__(
    self,
    tracker: PointTracker,
    params: PyTree,
    queries: Float[np.ndarray, "N 3"],
    *,
    chunk: int = CHUNK,
  ):
    """Starts before the first frame.

    Args:
      tracker: The model.
      params: Its parameters.
      queries: Queries (frame, y, x) as `check_queries` returns them.
      chunk: Most frames in one call.
    """
    self._tracker, self._params, self._chunk, self._ticks = tracker, params, chunk, 0
    self._times, self._places = queries[:, 0].astype(int), queries[:, :0:-1].astype(np.float32)
    turns = max(1, -(-len(queries) // MAX_SLOTS))
    self._slots = max(1, -(-len(queries) // turns))
    self._states = [tracker.initial_state(1, self._slots) for _ in range(turns)]

  def __call__(self, frames: UInt8[np.ndarray, "T H W 3"]) -> TrackChunk:
    """Returns the tracks in the next frames, in raster coordinates; NaN before the query.

    Fewer frames than a chunk end the video; the chunk is padded with the last frame.

    Raises:
      ValueError: There are more frames than a chunk, or the video has ended.
    """
    count, size = len(frames), np.array(frames.shape[2:0:-1], np.float32)
    shape = (self._tracker.height, self._tracker.width)
    pixels = padded_frames("SlotTracker", shape, frames, self._ticks, self._chunk)
    pixels = jnp.asarray(pixels[:, None], jnp.float32) / 255
    found = [self._turn(turn, pixels, size) for turn in range(len(self._states))]
    self._ticks += count
    position, visible, sure = (
      np.concatenate(x, axis=1)[:count].swapaxes(0, 1) for x in zip(*found, strict=True)
    )
    waits = np.isnan(position[..., 0])
    return TrackChunk(position * size, visible, np.where(waits, np.float32(np.nan), sure))

  def _turn(self, turn: int, pixels: jax.Array, size: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns positions, visibility and certainty `[chunk, N, ...]` of the queries of a turn."""
    some = slice(turn * self._slots, (turn + 1) * self._slots)
    places, now = self._places[some] / size, self._times[some] - self._ticks
    start = np.zeros((self._chunk, 1, self._slots), bool)
    here = np.flatnonzero((now >= 0) & (now < self._chunk))
    start[now[here], 0, here] = True
    place = np.full((self._chunk, 1, self._slots, 2), 0.5, np.float32)
    place[:, 0, : len(places)] = places
    commands = TrackCommands(*jax.device_put((start, place, np.zeros_like(start))))
    tracks, state = self._tracker.unroll(self._params, self._states[turn], pixels, commands)
    self._states[turn] = state
    return tuple(np.asarray(x)[:, 0, : len(places)] for x in tracks)
