"""A frozen model with its tracker as a method of `evaluation.clips`, to be scored like any other."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from perceiver_stream.evaluation.clips import Method
from perceiver_stream.evaluation.queries import check_queries
from perceiver_stream.models.point_readout import Orders, Sight
from perceiver_stream.training.objectives.frozen import look as look
from perceiver_stream.training.objectives.point_tracking import Watched as Watched
from perceiver_stream.types import IS_FIRST


def as_method(
  watched: Watched, params: PyTree, *, both_ways: bool = False, chunk: int = 8
) -> Method:
  """Returns the tracker as a method of `evaluation.clips`, for models that read pixels.

  The model watches each clip from its initial state, `chunk` ticks at a time, so that clips of any
  length use one program. Queries are answered in turns where there are more than slots.

  Args:
    watched: The frozen model and the tracker.
    params: Of the tracker.
    both_ways: Whether frames before a query are answered too, by watching the clip backwards.
    chunk: Ticks at a time; what is left over at a clip's end is padded.
  """
  model, tracker = watched.model, watched.tracker
  see = jax.jit(lambda state, seen: look(model, watched.params, state, seen))

  def sights(frames: np.ndarray) -> list[Sight]:
    state, found = model.initial_state(watched.params, 1), []
    for first in range(0, len(frames), chunk):
      piece = frames[first : first + chunk]
      piece = np.concatenate([piece, np.repeat(piece[-1:], chunk - len(piece), axis=0)])
      start = np.zeros((chunk, 1), bool)
      start[0] = first == 0
      sight, state = see(state, {"pixels": piece[:, None], IS_FIRST: start})
      found.append(sight)
    return found

  def follow(
    seen: list[Sight], asked: np.ndarray, size: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    slots = watched.num_slots
    state, tracks, hidden = tracker.initial_state(1, slots), [], []
    place = np.zeros((slots, 2), np.float32)
    place[: len(asked)] = asked[:, :0:-1] / size
    for number, sight in enumerate(seen):
      start = np.zeros((chunk, 1, slots), bool)
      now = asked[:, 0] - number * chunk
      for slot in np.flatnonzero((now >= 0) & (now < chunk)):
        start[int(now[slot]), 0, slot] = True
      position = jnp.broadcast_to(jnp.asarray(place), (chunk, 1, slots, 2))
      orders = Orders(jnp.asarray(start), position, jnp.zeros((chunk, 1, slots), bool))
      said, state = tracker.unroll(params, state, sight, orders)
      tracks.append(np.asarray(said.position)[:, 0, : len(asked)])
      hidden.append(~np.asarray(said.seen())[:, 0, : len(asked)])
    return np.concatenate(tracks).swapaxes(0, 1) * size, np.concatenate(hidden).T

  def method(frames: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    num, size = len(frames), np.array(frames.shape[2:0:-1], np.float64)
    asked = check_queries(frames, asked, "point tracker")
    before = np.arange(num) < asked[:, :1]
    tracks = np.repeat(asked[:, None, :0:-1], num, axis=1)
    hidden = before.copy()
    turns = [(sights(frames), asked, ~before, slice(None))]
    if both_ways:
      turned = asked * (-1, 1, 1) + (num - 1, 0, 0)
      turns.append((sights(frames[::-1]), turned, before, slice(None, None, -1)))
    for seen, queries, counted, order in turns:
      for first in range(0, len(asked), watched.num_slots):
        some = slice(first, first + watched.num_slots)
        found, unseen = follow(seen, queries[some], size)
        found, unseen = found[:, :num][:, order], unseen[:, :num][:, order]
        tracks[some] = np.where(counted[some][..., None], found, tracks[some])
        hidden[some] = np.where(counted[some], unseen, hidden[some])
    return tracks, hidden

  return method
