"""Points followed through video that comes piece by piece, by a frozen model or without learning."""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree, UInt8

from perceiver_stream import zoo
from perceiver_stream.evaluation.optical_flow import opencv
from perceiver_stream.evaluation.trackers import TRACKERS
from perceiver_stream.evaluation.trackers_online import Online, Said
from perceiver_stream.models import point_readout
from perceiver_stream.models.point_readout import Orders, Sight, TrackState
from perceiver_stream.training.names import nearest
from perceiver_stream.training.objectives.frozen import check_sees, frozen, look
from perceiver_stream.training.point_tracking import Watched
from perceiver_stream.training.pretrained import load_tracker
from perceiver_stream.types import IS_FIRST
from perceiver_stream.zoo import shipped

CHUNK = 8  # ticks that are watched at once
MAX_SLOTS = 64  # points that are followed at once; more take turns
SHORT = {"lk": "lk_gray", "dis": "dis_finest0"}

# From the next frames of a video to what is said of the points in them.
Follower = Callable[[UInt8[np.ndarray, "T H W 3"]], Said]
# From queries, as `check_queries` returns them, to a follower that is before the first frame.
Start = Callable[[Float[np.ndarray, "N 3"]], Follower]


class Watcher:
  """A frozen model with its tracker, fed frames of any size, `chunk` at a time.

  The model sees them at its own size. In raster coordinates a place is the same share of the
  picture at any size.
  """

  def __init__(
    self, watched: Watched, params: PyTree, asked: Float[np.ndarray, "N 3"], chunk: int = CHUNK
  ):
    """Starts before the first frame, with queries as `check_queries` returns them."""
    model, tracker = watched.model, watched.tracker
    self._watched, self._params, self._asked, self._chunk = watched, params, asked, chunk
    self._state = model.initial_state(watched.params, 1)
    turns = -(-len(asked) // watched.num_slots)
    self._slots = [tracker.initial_state(1, watched.num_slots) for _ in range(turns)]
    self._tick = 0

  def __call__(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Said:
    """Returns what is said of the points in the next frames; fewer than a chunk are the last.

    Raises:
      ValueError: There are more than a chunk, or the last came before.
    """
    count, chunk = len(frames), self._chunk
    if not 0 < count <= chunk or self._tick % chunk:
      raise ValueError(
        f"Watcher: {count} frames after {self._tick}; give {chunk} at a time, fewer only at the end."
      )
    size = np.array(frames.shape[2:0:-1], np.float32)
    sight = self._sight(np.concatenate([frames, np.repeat(frames[-1:], chunk - count, axis=0)]))
    each = range(len(self._slots))
    told = [self._told(turn, sight, size) for turn in each]
    self._tick += count
    tracks, visible, certainty = (np.concatenate(x)[:, :count] for x in zip(*told, strict=True))
    return Said(tracks * size, visible, certainty)

  def _sight(self, frames: np.ndarray) -> Sight:
    model = self._watched.model
    height, width = model.modalities["pixels"].spec.shape[:2]
    pixels = np.stack([resized(frame, (height, width)) for frame in frames])[:, None]
    start = np.zeros((len(frames), 1), bool)
    start[0] = self._tick == 0
    seen = {"pixels": pixels, IS_FIRST: start}
    sight, self._state = look(model, self._watched.params, self._state, seen)
    return sight

  def _told(
    self, turn: int, sight: Sight, size: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns places in [0, 1] of the picture, `[N, chunk, 2]`, and what else is said, of a turn."""
    slots = self._watched.num_slots
    asked = self._asked[turn * slots : (turn + 1) * slots]
    start, place = np.zeros((self._chunk, 1, slots), bool), np.full((slots, 2), 0.5, np.float32)
    place[: len(asked)] = asked[:, :0:-1] / size
    now = asked[:, 0].astype(int) - self._tick
    here = np.flatnonzero((now >= 0) & (now < self._chunk))
    start[now[here], 0, here] = True
    position = np.broadcast_to(place, (self._chunk, 1, slots, 2))
    orders = Orders(*map(jnp.asarray, (start, position, np.zeros_like(start))))
    state: TrackState = self._slots[turn]
    said, self._slots[turn] = self._watched.tracker.unroll(self._params, state, sight, orders)
    found = said.position, said.seen(), jax.nn.sigmoid(said.certainty)
    position, seen, sure = (np.asarray(x)[:, 0, : len(asked)].swapaxes(0, 1) for x in found)
    return position, seen, np.where(np.isnan(position[..., 0]), np.float32(np.nan), sure)


def resized(frame: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
  """Returns a picture squashed to `size` (H, W); means of areas where it gets smaller."""
  if frame.shape[:2] == size:
    return frame
  cv2 = opencv()
  smaller = frame.shape[0] >= size[0] and frame.shape[1] >= size[1]
  return cv2.resize(
    frame, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
  )


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
  blank = np.zeros((1, *model.modalities["pixels"].spec.shape), np.uint8)
  return watched, watched.init(jax.random.PRNGKey(0), {"pixels": blank})


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
  slots, ships = min(num_points, MAX_SLOTS), name in shipped.names()
  random = name in zoo.names() and not ships
  if not (ships or random or pathlib.Path(name).exists()):
    known = [*TRACKERS, *shipped.names()]
    raise FileNotFoundError(
      f"model {name!r} is neither a file nor one of {', '.join(known)}.{nearest(name, known)} Names "
      f"of the zoo have random weights: {', '.join(zoo.names())}."
    )
  watched, params = untrained(name, slots) if random else load_tracker(name, slots)
  about = f"{name}, untrained" if random else name
  return lambda asked: Watcher(watched, params, asked), about
