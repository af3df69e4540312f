"""Point tracking in a video given in chunks, by a read-out of a frozen model or a classical tracker."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, Num, PyTree, UInt8

from perceiver_stream import zoo
from perceiver_stream.evaluation.trackers import TRACKERS
from perceiver_stream.evaluation.trackers_online import OnlineTracker, TrackChunk
from perceiver_stream.inference.frame_chunks import CHUNK, padded_chunk
from perceiver_stream.inference.latent_tracking import LatentTracker, trained_model, untrained_model
from perceiver_stream.inference.model_loading import warn_untrained
from perceiver_stream.inference.pretrained import load_tracker
from perceiver_stream.inference.slot_tracking import SlotTracker
from perceiver_stream.models import point_readout
from perceiver_stream.models.base import Model
from perceiver_stream.models.point_readout import Features, TrackCommands, Tracks
from perceiver_stream.training.objectives.base import model_params
from perceiver_stream.training.objectives.point_tracking import TrackerLearner
from perceiver_stream.training.objectives.readout_base import observe_features, why_unreadable
from perceiver_stream.types import IS_FIRST
from perceiver_stream.utils import moved
from perceiver_stream.utils.paths import user_path
from perceiver_stream.utils.suggest import did_you_mean
from perceiver_stream.zoo import bundled, hub, point_trackers
from perceiver_stream.zoo.loading import blank_tick

MAX_SLOTS = 64  # points tracked at once; more are tracked in turns
SHORT = {"lk": "lk_gray", "dis": "dis_finest0"}

# From the next frames of a video to the tracks in them.
FrameTracker = Callable[[UInt8[np.ndarray, "T H W 3"]], TrackChunk]
# From queries, as `check_queries` returns them, to a tracker at the start of the video.
TrackerFactory = Callable[[Float[np.ndarray, "N 3"]], FrameTracker]


class FeatureExtractor:
  """Features of a frozen model for frames of any size, resized to the model's, `chunk` at a time.

  Attributes:
    ticks: Frames observed so far.
  """

  def __init__(self, model: Model, params: PyTree, chunk: int = CHUNK, *, flow: bool = False):
    """Starts before the first frame; with `flow` the features have motion, see `observe_features`."""
    self.ticks = 0
    self._model, self._params, self._chunk, self._flow = model, params, chunk, flow
    self._state = model.initial_state(params, 1)

  def __call__(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Features:
    """Returns the input of a read-out after each frame, `[chunk, 1, ...]`.

    Fewer frames than a chunk end the video; the chunk is padded with the last frame.

    Raises:
      ValueError: There are more frames than a chunk, or the video has ended.
    """
    pixels = padded_chunk("FeatureExtractor", self._model, frames, self.ticks, self._chunk)
    start = np.zeros((self._chunk, 1), bool)
    start[0] = self.ticks == 0
    observation = {"pixels": pixels[:, None], IS_FIRST: start}
    features, self._state = observe_features(
      self._model, self._params, self._state, observation, flow=self._flow
    )
    self.ticks += len(frames)
    return features


class TrackerRunner:
  """Read-out tracker on a frozen model, for frames of any size, `chunk` at a time.

  Positions are relative to the image, in [0, 1]: (x, y) of points, (x, y, width, height) of boxes.
  """

  def __init__(
    self,
    watched: TrackerLearner,
    params: PyTree,
    times: Num[np.ndarray, " N"],
    places: Float[np.ndarray, "N K"],
    chunk: int = CHUNK,
  ):
    """Starts before the first frame, with the frames and positions of the queries."""
    self._watched, self._params, self._chunk = watched, params, chunk
    self._times, self._places = times.astype(int), places.astype(np.float32)
    self._extractor = FeatureExtractor(watched.model, watched.params, chunk, flow=watched.use_flow)
    turns = max(1, -(-len(times) // watched.num_slots))  # one, of nothing, without a query
    self._slots = [watched.readout.initial_state(1, watched.num_slots) for _ in range(turns)]

  def __call__(self, frames: UInt8[np.ndarray, "T H W 3"]) -> TrackChunk:
    """Returns the tracks in the next frames; see `FeatureExtractor`."""
    first = self._extractor.ticks
    features = self._extractor(frames)
    chunks = [self._track_slots(turn, features, first) for turn in range(len(self._slots))]
    return TrackChunk(*(np.concatenate(x)[:, : len(frames)] for x in zip(*chunks, strict=True)))

  def _track_slots(
    self, turn: int, features: Features, first: int
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns positions `[N, chunk, K]`, visibility and certainty of the queries of a turn."""
    slots, state = self._watched.num_slots, self._slots[turn]
    some = slice(turn * slots, (turn + 1) * slots)
    queries, now = self._places[some], self._times[some] - first
    start = np.zeros((self._chunk, 1, slots), bool)
    here = np.flatnonzero((now >= 0) & (now < self._chunk))
    start[now[here], 0, here] = True
    place = np.full((slots, queries.shape[1]), 0.5, np.float32)
    place[: len(queries)] = queries
    place = np.broadcast_to(place, (self._chunk, 1, *place.shape))
    commands = TrackCommands(*jax.device_put((start, place, np.zeros_like(start))))
    said, self._slots[turn] = self._watched.readout.unroll(self._params, state, features, commands)
    found = _answers(said)
    position, visible, sure = (np.asarray(x)[:, 0, : len(queries)].swapaxes(0, 1) for x in found)
    return position, visible, np.where(np.isnan(position[..., 0]), np.float32(np.nan), sure)


@jax.jit
def _answers(said: Tracks) -> tuple[Array, Array, Array]:
  """Returns positions, where slots count as visible, and certainty in [0, 1]."""
  return said.position, said.seen(), jax.nn.sigmoid(said.certainty)


def track_points(
  watched: TrackerLearner, params: PyTree, queries: Float[np.ndarray, "N 3"], chunk: int = CHUNK
) -> FrameTracker:
  """Returns a tracker of points by a read-out, for queries as `check_queries` returns them.

  Tracks are in raster coordinates of the frames.
  """
  started: list[TrackerRunner] = []

  def follow(frames: UInt8[np.ndarray, "T H W 3"]) -> TrackChunk:
    size = np.array(frames.shape[2:0:-1], np.float32)
    if not started:
      started.append(TrackerRunner(watched, params, queries[:, 0], queries[:, :0:-1] / size, chunk))
    said = started[0](frames)
    return said._replace(tracks=said.tracks * size)

  return follow


def untrained(
  name: str, num_slots: int = MAX_SLOTS, config: point_readout.Config | None = None
) -> tuple[TrackerLearner, PyTree]:
  """Returns a model of the zoo that observes pixels, and a tracker, both with random weights.

  With features from frames, the default, even an untrained tracker follows their motion.

  Raises:
    ValueError: There is no such model, or its states have no feature map to read.
  """
  sizes = zoo.config(name)
  if "pixels" in getattr(sizes, "modalities", {}):
    sizes = dataclasses.replace(sizes, modalities={"pixels": sizes.modalities["pixels"]})
  model = zoo.build(sizes)
  if reason := why_unreadable(model):
    raise ValueError(f"{name} cannot track points. {reason} Use stream_perceiver, moog or rvm.")
  tracker = point_readout.build(config or point_readout.Config())
  watched = TrackerLearner(model, model_params(model, ""), tracker, num_slots=num_slots)
  return watched, watched.init_params(jax.random.PRNGKey(0), blank_tick(model))


def make_tracker(name: str, num_points: int) -> tuple[TrackerFactory, str]:
  """Returns a function that starts a tracker on queries, and a description of the tracker.

  Args:
    name: Name of bundled weights, file of a model with a tracker, its address on the Hugging Face Hub
      (`hf://OWNER/NAME`), or classical tracker.
    num_points: Number of queries.

  Raises:
    FileNotFoundError: There is no such tracker; the message lists the available ones.
    ValueError: The model cannot track points.
  """
  key = SHORT.get(name, name)
  if key in TRACKERS:
    return lambda queries: OnlineTracker(TRACKERS[key], queries), f"{key}, without learning"
  if name.startswith(hub.SCHEME):
    name = str(hub.fetch(name))
  if name in point_trackers.names() or point_trackers.is_tracker(name):
    return _point_tracker(name)
  name = name if user_path(name).exists() else bundled.current(name)
  slots, trained = min(num_points, MAX_SLOTS), name in bundled.names()
  random = name in zoo.names() and not trained
  if not (trained or random or user_path(name).exists()):
    known = [*TRACKERS, *bundled.names()]
    raise FileNotFoundError(
      f"model {name!r} is neither a file nor one of {', '.join(known)}.{did_you_mean(name, known)} Names "
      f"of the zoo have random weights: {', '.join([*point_trackers.names(), *zoo.names()])}."
    )
  found = untrained_model(name) if random else trained_model(name)
  if found is not None:
    how = "by the fixed rules of its latents" if random else "by the positions of its latents"
    return lambda queries: LatentTracker(*found, queries), f"{name}, {how}"
  watched, params = untrained(name, slots) if random else load_tracker(name, slots)
  if random:
    warn_untrained(name)
  about = f"{name}, untrained" if random else name
  return lambda queries: track_points(watched, params, queries), about


def _point_tracker(name: str) -> tuple[TrackerFactory, str]:
  """Returns `make_tracker` for a tracker of the zoo, with random weights, or of a file."""
  if user_path(name).is_file():
    tracker, params = point_trackers.load(name)
    return lambda queries: SlotTracker(tracker, params, queries), name
  warn_untrained(name)
  tracker = point_trackers.build(name)
  params = tracker.init(jax.random.key(0))
  return lambda queries: SlotTracker(tracker, params, queries), f"{name}, untrained"


__getattr__ = moved.renamed_names(
  __name__,
  {
    "follow_points": "inference.tracking.track_points",
    "starter": "inference.tracking.make_tracker",
  },
)
