"""Point tracking without learning: the baselines of read-outs of frozen latents.

All use OpenCV. They track each query forwards and backwards from its frame; a point that is lost
stays lost ("sticky"), save where it is found again by its template.

Positions are (x, y) in raster coordinates of the video given: the first pixel has its centre at
(0.5, 0.5). OpenCV's are half a pixel less.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num, UInt8

from perceiver_stream.evaluation.optical_flow import dis_flow, sample
from perceiver_stream.evaluation.queries import check_queries
from perceiver_stream.utils.opencv import opencv

MAX_ROUND_TRIP_PX = 1.0  # at 128 pixels: forward and back again
_LK_WINDOW, _LK_LEVELS = 17, 4
_PATCH = 9
_SEARCH_PX, _MIN_LIKENESS = 12, 0.6
_NUDGE_PX, _NUDGE_LIKENESS, _NUDGE = 2, 0.7, 0.4
_MIN_VARIANCE = 1.0  # grey levels squared, over the channels
_REDETECT_PX, _REDETECT_LIKENESS = 10, 0.8


class Points(NamedTuple):
  """Positions of points in one frame.

  Attributes:
    positions: (x, y), pixel centres at whole numbers.
    visible: True where they are predicted visible.
    velocities: Pixels per frame.
  """

  positions: Float[np.ndarray, "Q 2"]
  visible: Bool[np.ndarray, " Q"]
  velocities: Float[np.ndarray, "Q 2"]


Patches = Float[np.ndarray, "Q p p 3"]
Frame = UInt8[np.ndarray, "H W 3"]
# Data of a pair of frames (or None), and a step with it.
Prepare = Callable[[Frame, Frame], tuple[np.ndarray, np.ndarray] | None]
Step = Callable[[Frame, Frame, Points, Patches, tuple[np.ndarray, np.ndarray] | None], Points]


class Tracker(NamedTuple):
  """A method: how points go from one frame to the next.

  Attributes:
    prepare: Computed once per pair of frames.
    step: From two frames, the points in the first, and their appearance in the query frame,
      to the points in the second.
  """

  prepare: Prepare
  step: Step


def track(
  video: UInt8[np.ndarray, "T H W 3"], query_points: Num[np.ndarray, "Q 3"], tracker: Tracker
) -> tuple[Float[np.ndarray, "Q T 2"], Bool[np.ndarray, "Q T"]]:
  """Returns the position of each point in every frame, (x, y), and whether it is hidden.

  Args:
    video: RGB.
    query_points: (t, y, x); t is rounded half to even.
    tracker: One of `TRACKERS`.

  Raises:
    ValueError: A query is invalid; see `check_queries`.
  """
  num_frames, queries = len(video), check_queries(video, query_points, "track")
  frame, start = queries[:, 0].astype(int), queries[:, :0:-1] - 0.5
  flows = [tracker.prepare(a, b) for a, b in zip(video[:-1], video[1:], strict=True)]
  tracks, hidden = _follow(video, frame, start, tracker.step, flows)
  flows = [None if flow is None else flow[::-1] for flow in flows[::-1]]
  back = _follow(video[::-1], num_frames - 1 - frame, start, tracker.step, flows)
  before = np.arange(num_frames) < frame[:, None]
  tracks = np.where(before[..., None], back[0][:, ::-1], tracks)
  return tracks + 0.5, np.where(before, back[1][:, ::-1], hidden)


class TrackingState:
  """Points that are tracked forwards, a frame at a time, each from the frame of its query.

  Attributes:
    points: Positions in the newest frame; those of later queries wait, not visible.
  """

  def __init__(self, step: Step, frame: Int[np.ndarray, " Q"], start: Float[np.ndarray, "Q 2"]):
    """Starts before the first frame."""
    self.points = Points(start.copy(), np.zeros(len(start), bool), np.zeros_like(start))
    self._step, self._frame, self._tick = step, frame, 0
    self._patches = np.zeros((len(start), _PATCH, _PATCH, 3), np.float32)
    self._last: Frame | None = None

  @property
  def active(self) -> Bool[np.ndarray, " Q"]:
    """Mask of the points with a query before the next frame."""
    return self._frame < self._tick

  def __call__(self, frame: Frame, known: tuple[np.ndarray, np.ndarray] | None) -> None:
    """Takes the next frame, with the output of `Tracker.prepare` for it and the one before."""
    active = np.flatnonzero(self.active)
    if active.size and self._last is not None:
      some = Points(*(x[active] for x in self.points))
      moved = self._step(self._last, frame, some, self._patches[active], known)
      for kept, new in zip(self.points, moved, strict=True):
        kept[active] = new
    for n in np.flatnonzero(self._frame == self._tick):
      self._patches[n] = patch_around(frame, self.points.positions[n])
      self.points.visible[n] = True
    self._last, self._tick = frame, self._tick + 1


def _follow(
  video: np.ndarray, frame: np.ndarray, start: np.ndarray, step: Step, flows: list
) -> tuple[np.ndarray, np.ndarray]:
  """Returns positions in every frame, and whether hidden, tracked forwards."""
  following, results = TrackingState(step, frame, start), []
  for image, known in zip(video, [None, *flows], strict=True):
    following(image, known)
    results.append((following.points.positions.copy(), ~following.points.visible))
  tracks, hidden = (np.stack(x, axis=1) for x in zip(*results, strict=True))
  return tracks, hidden


def _static(first: Frame, second: Frame, points: Points, patches: Patches, flow: object) -> Points:
  """Stays at its query."""
  return points


def _lucas_kanade(
  first: Frame, second: Frame, points: Points, patches: Patches, flow: object
) -> Points:
  """Pyramidal Lucas-Kanade in grey, forth and back."""
  cv2 = opencv()
  grey = [cv2.cvtColor(np.ascontiguousarray(x), cv2.COLOR_RGB2GRAY) for x in (first, second)]
  options = {"winSize": (_LK_WINDOW, _LK_WINDOW), "maxLevel": _LK_LEVELS - 1}
  here = points.positions.astype(np.float32)[:, None]
  there, found, _ = cv2.calcOpticalFlowPyrLK(*grey, here, None, **options)
  again, found_back, _ = cv2.calcOpticalFlowPyrLK(*grey[::-1], there, None, **options)
  trip = np.linalg.norm((again - here)[:, 0], axis=-1)
  good = (found[:, 0] > 0) & (found_back[:, 0] > 0) & (trip <= MAX_ROUND_TRIP_PX)
  return _moved(points, there[:, 0].astype(np.float64), good, first.shape)


def _dis(
  first: Frame,
  second: Frame,
  points: Points,
  patches: Patches,
  flow: tuple[np.ndarray, np.ndarray] | None,
) -> Points:
  """Dense inverse search, forth and back."""
  assert flow is not None
  there = points.positions + _at(flow[0], points.positions)
  trip = np.linalg.norm(there + _at(flow[1], there) - points.positions, axis=-1)
  return _moved(points, there, trip <= MAX_ROUND_TRIP_PX, first.shape)


def _template(
  first: Frame, second: Frame, points: Points, patches: Patches, flow: object
) -> Points:
  """The position most similar to the point's template, near its extrapolated position."""
  expected = points.positions + points.velocities
  found, likeness = _match(second, patches, expected, _SEARCH_PX)
  visible = likeness >= _MIN_LIKENESS
  positions = np.where(visible[:, None], found, expected)
  return Points(positions, visible, positions - points.positions)


def _with_template(by_motion: Step) -> Step:
  """Returns a step that is drawn towards the template, and found again by it."""

  def step(
    first: Frame,
    second: Frame,
    points: Points,
    patches: Patches,
    flow: tuple[np.ndarray, np.ndarray] | None,
  ) -> Points:
    moved = by_motion(first, second, points, patches, flow)
    return _corrected(second, points, moved, patches)

  return step


def _corrected(second: Frame, points: Points, moved: Points, patches: Patches) -> Points:
  """Returns moved points, corrected by their templates."""
  near, likeness = _match(second, patches, moved.positions, _NUDGE_PX)
  share = np.where(likeness >= _NUDGE_LIKENESS, _NUDGE, 0.0)[:, None]
  drawn = moved.positions + share * (near - moved.positions)
  far, likeness = _match(second, patches, points.positions, _REDETECT_PX)
  again = (~moved.visible & (likeness >= _REDETECT_LIKENESS))[:, None]
  lost = np.where(again, far, points.positions)  # waits where it was last
  positions = np.where(moved.visible[:, None], drawn, lost)
  return Points(positions, moved.visible | again[:, 0], moved.velocities)


def _moved(points: Points, there: np.ndarray, good: np.ndarray, shape: tuple[int, ...]) -> Points:
  """Returns the points at new positions; those not good, or outside, are lost permanently."""
  inside = ((there >= -0.5) & (there <= [shape[1] - 0.5, shape[0] - 0.5])).all(axis=-1)
  return Points(there, points.visible & good & inside, there - points.positions)


def _at(flow: np.ndarray, positions: np.ndarray) -> np.ndarray:
  return sample(flow, positions[None].astype(np.float32))[0].astype(np.float64)


def patch_around(frame: np.ndarray, at: np.ndarray) -> np.ndarray:
  """Returns the image around a position, at whole steps from it."""
  steps = np.arange(_PATCH) - _PATCH // 2
  grid = np.stack(np.meshgrid(steps, steps), axis=-1) + at
  return sample(frame.astype(np.float32), grid.astype(np.float32))


def _match(
  frame: Frame, patches: Patches, around: np.ndarray, reach: int
) -> tuple[Float[np.ndarray, "Q 2"], Float[np.ndarray, " Q"]]:
  """Returns the best match of each patch within `reach` pixels, and its correlation.

  A patch without texture matches nothing, -1: OpenCV's correlation with it is 1 everywhere.
  """
  cv2 = opencv()
  margin = reach + _PATCH // 2
  wide = np.pad(np.asarray(frame, np.float32), [(margin, margin)] * 2 + [(0, 0)], mode="reflect")
  flat = _is_flat(cv2, wide)
  height, width, _ = frame.shape
  centres = np.clip(np.round(around), 0, [width - 1, height - 1]).astype(int)
  steps = np.arange(-reach, reach + 1)
  places, likeness = [], []
  for (x, y), patch in zip(centres, patches, strict=True):
    window = wide[y : y + 2 * margin + 1, x : x + 2 * margin + 1]
    scores = cv2.matchTemplate(window, np.ascontiguousarray(patch), cv2.TM_CCOEFF_NORMED)
    if np.var(patch, axis=(0, 1)).sum() < _MIN_VARIANCE:
      scores[:] = -1.0
    side = slice(_PATCH // 2, -(_PATCH // 2))
    scores[flat[y : y + 2 * margin + 1, x : x + 2 * margin + 1][side, side]] = -1.0
    scores[(y + steps < 0) | (y + steps >= height)] = -1.0
    scores[:, (x + steps < 0) | (x + steps >= width)] = -1.0
    row, column = divmod(int(np.argmax(scores)), scores.shape[1])
    shift = _peak(scores[row], column), _peak(scores[:, column], row)
    places.append([x - reach + column + shift[0], y - reach + row + shift[1]])
    likeness.append(scores[row, column])
  return np.asarray(places, np.float64).reshape(-1, 2), np.asarray(likeness, np.float64)


def _is_flat(cv2: Any, picture: np.ndarray) -> np.ndarray:
  """Returns the mask of patches without texture: correlation there is rounding error."""
  size = (_PATCH, _PATCH)
  variance = cv2.blur(picture**2, size) - cv2.blur(picture, size) ** 2
  return variance.sum(axis=-1) < _MIN_VARIANCE


def _peak(values: np.ndarray, index: int) -> float:
  """Returns the offset from `index` of the maximum of the parabola through its neighbours."""
  if not 0 < index < len(values) - 1:
    return 0.0
  before, at, after = values[index - 1 : index + 2]
  bend = before - 2 * at + after
  return float(0.5 * (before - after) / bend) if bend < 0 else 0.0


def _nothing(first: Frame, second: Frame) -> None:
  return None


def _both_ways(first: Frame, second: Frame) -> tuple[np.ndarray, np.ndarray]:
  return dis_flow(first, second), dis_flow(second, first)


TRACKERS = {
  "static": Tracker(_nothing, _static),
  "lk_gray": Tracker(_nothing, _lucas_kanade),
  "dis_finest0": Tracker(_both_ways, _dis),
  "template": Tracker(_nothing, _template),
  "dis_template": Tracker(_both_ways, _with_template(_dis)),
  "lk_template": Tracker(_nothing, _with_template(_lucas_kanade)),
}
