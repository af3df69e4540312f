"""Points followed through video that comes piece by piece, by a frozen model or without learning."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num, PyTree, UInt8

from perceiver_stream import zoo
from perceiver_stream.evaluation.trackers import TRACKERS
from perceiver_stream.evaluation.trackers_online import Online, Said
from perceiver_stream.inference.model_loading import warn_untrained
from perceiver_stream.inference.pretrained import load_tracker
from perceiver_stream.models import point_readout
from perceiver_stream.models.base import Model
from perceiver_stream.models.point_readout import Orders, Sight
from perceiver_stream.training.objectives.frozen import check_sees, frozen, look
from perceiver_stream.training.objectives.point_tracking import Watched
from perceiver_stream.types import IS_FIRST
from perceiver_stream.utils.opencv import resized
from perceiver_stream.utils.paths import user_path
from perceiver_stream.utils.suggest import did_you_mean
from perceiver_stream.zoo import bundled
from perceiver_stream.zoo.loading import blank_tick

CHUNK = 8  # ticks that are watched at once
MAX_SLOTS = 64  # points that are followed at once; more take turns
SHORT = {"lk": "lk_gray", "dis": "dis_finest0"}

# From the next frames of a video to what is said of the points in them.
Follower = Callable[[UInt8[np.ndarray, "T H W 3"]], Said]
# From queries, as `check_queries` returns them, to a follower that is before the first frame.
Start = Callable[[Float[np.ndarray, "N 3"]], Follower]


class Eye:
  """A frozen model that is fed frames of any size, `chunk` at a time; it sees them at its own.

  Attributes:
    ticks: Frames seen so far.
  """

  def __init__(self, model: Model, params: PyTree, chunk: int = CHUNK, *, flow: bool = False):
    """Starts before the first frame; `flow` has it say how places move, see `frozen.look`."""
    self.ticks = 0
    self._model, self._params, self._chunk, self._flow = model, params, chunk, flow
    self._state = model.initial_state(params, 1)

  def __call__(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Sight:
    """Returns what a read-out sees of the state after each frame, `[chunk, 1, ...]`.

    Fewer frames than a chunk are the last; what is beyond them repeats the last one.

    Raises:
      ValueError: There are more than a chunk, or the last came before.
    """
    count, chunk = len(frames), self._chunk
    if not 0 < count <= chunk or self.ticks % chunk:
      raise ValueError(
        f"Eye: {count} frames after {self.ticks}; give {chunk} at a time, fewer only at the end."
      )
    shape = self._model.modalities["pixels"].spec.shape[:2]
    pixels = np.stack([resized(frame, (shape[0], shape[1])) for frame in frames])
    pixels = np.concatenate([pixels, np.repeat(pixels[-1:], chunk - count, axis=0)])
    start = np.zeros((chunk, 1), bool)
    start[0] = self.ticks == 0
    seen = {"pixels": pixels[:, None], IS_FIRST: start}
    sight, self._state = look(self._model, self._params, self._state, seen, flow=self._flow)
    self.ticks += count
    return sight


class Watcher:
  """A frozen model with its tracker, fed frames of any size, `chunk` at a time.

  Places are shares of the picture, in [0, 1]: (x, y) of points, or (x, y, width, height) of boxes.
  """

  def __init__(
    self,
    watched: Watched,
    params: PyTree,
    times: Num[np.ndarray, " N"],
    places: Float[np.ndarray, "N K"],
    chunk: int = CHUNK,
  ):
    """Starts before the first frame, with the frames and places that are asked for."""
    self._watched, self._params, self._chunk = watched, params, chunk
    self._times, self._places = times.astype(int), places.astype(np.float32)
    flow = watched.tracker.config.use_flow
    self._eye = Eye(watched.model, watched.params, chunk, flow=flow)
    turns = max(1, -(-len(times) // watched.num_slots))  # one, of nothing, without a query
    self._slots = [watched.tracker.initial_state(1, watched.num_slots) for _ in range(turns)]

  def __call__(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Said:
    """Returns what is said of the places in the next frames; see `Eye`."""
    first = self._eye.ticks
    sight = self._eye(frames)
    told = [self._told(turn, sight, first) for turn in range(len(self._slots))]
    return Said(*(np.concatenate(x)[:, : len(frames)] for x in zip(*told, strict=True)))

  def _told(self, turn: int, sight: Sight, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns places `[N, chunk, K]`, and what else is said, of a turn."""
    slots, state = self._watched.num_slots, self._slots[turn]
    some = slice(turn * slots, (turn + 1) * slots)
    asked, now = self._places[some], self._times[some] - first
    start = np.zeros((self._chunk, 1, slots), bool)
    here = np.flatnonzero((now >= 0) & (now < self._chunk))
    start[now[here], 0, here] = True
    place = np.full((slots, asked.shape[1]), 0.5, np.float32)
    place[: len(asked)] = asked
    place = np.broadcast_to(place, (self._chunk, 1, *place.shape))
    orders = Orders(*map(jnp.asarray, (start, place, np.zeros_like(start))))
    said, self._slots[turn] = self._watched.tracker.unroll(self._params, state, sight, orders)
    found = said.position, said.seen(), jax.nn.sigmoid(said.certainty)
    position, seen, sure = (np.asarray(x)[:, 0, : len(asked)].swapaxes(0, 1) for x in found)
    return position, seen, np.where(np.isnan(position[..., 0]), np.float32(np.nan), sure)


def follow_points(
  watched: Watched, params: PyTree, asked: Float[np.ndarray, "N 3"], chunk: int = CHUNK
) -> Follower:
  """Returns what follows points, asked for as `check_queries` returns them, in a video's frames.

  In raster coordinates a place is the same share of the picture at any size.
  """
  started: list[Watcher] = []

  def follow(frames: UInt8[np.ndarray, "T H W 3"]) -> Said:
    size = np.array(frames.shape[2:0:-1], np.float32)
    if not started:
      started.append(Watcher(watched, params, asked[:, 0], asked[:, :0:-1] / size, chunk))
    said = started[0](frames)
    return said._replace(tracks=said.tracks * size)

  return follow


def untrained(
  name: str, num_slots: int = MAX_SLOTS, config: point_readout.Config | None = None
) -> tuple[Watched, PyTree]:
  """Returns a model of the zoo that watches pixels, and a tracker, with random weights.

  It shows that all runs; with frames, as the default is, the tracker goes by their motion.

  Raises:
    ValueError: There is no such model, or nothing can be read out of its states.
  """
  sizes = zoo.config(name)
  if "pixels" in getattr(sizes, "modalities", {}):
    sizes = dataclasses.replace(sizes, modalities={"pixels": sizes.modalities["pixels"]})
  model = zoo.build(sizes)
  if reason := check_sees(model):
    raise ValueError(f"{name} cannot follow points: {reason}; use stream_perceiver, moog or rvm.")
  tracker = point_readout.build(config or point_readout.Config())
  watched = Watched(model, frozen(model, ""), tracker, num_slots)
  return watched, watched.init(jax.random.PRNGKey(0), blank_tick(model))


def starter(name: str, num_points: int) -> tuple[Start, str]:
  """Returns what starts to follow points, and what it is in words.

  Args:
    name: Of a model with a tracker, a file of one, or of a method without learning.
    num_points: That will be followed.

  Raises:
    FileNotFoundError: There is no such thing; the message lists what there is.
    ValueError: The model cannot follow points.
  """
  key = SHORT.get(name, name)
  if key in TRACKERS:
    return lambda asked: Online(TRACKERS[key], asked), f"{key}, without learning"
  name = name if user_path(name).exists() else bundled.current(name)
  slots, trained = min(num_points, MAX_SLOTS), name in bundled.names()
  random = name in zoo.names() and not trained
  if not (trained or random or user_path(name).exists()):
    known = [*TRACKERS, *bundled.names()]
    raise FileNotFoundError(
      f"model {name!r} is neither a file nor one of {', '.join(known)}.{did_you_mean(name, known)} Names "
      f"of the zoo have random weights: {', '.join(zoo.names())}."
    )
  watched, params = untrained(name, slots) if random else load_tracker(name, slots)
  if random:
    warn_untrained(name)
  about = f"{name}, untrained" if random else name
  return lambda asked: follow_points(watched, params, asked), about
