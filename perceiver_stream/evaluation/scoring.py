"""Scores of any method over the clips of `datasets`, as each benchmark has them.

Points are scored by `clips.score`. The inputs and outputs of methods are in the types below; the
static baselines accompany every number.

| clips | score | number |
|---|---|---|
| masks, DAVIS-2017 | `masks` | J&F: mean over all objects of all clips, first and last frame left out |
| masks, VIP | `classes` | mIoU of 20 classes, one confusion matrix over the data set, all frames |
| joints, JHMDB | `joints` | PCK@0.1 to 0.5, per joint over the data set, then mean; first frame left out |
| boxes | `boxes` | IoU after the query's frame, mean per track, clip and data set |
| points, as they come | `streaming` | TAP-Vid of the tracks available at each frame's time |
"""

import time
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Bool, Float, Int32, Num, UInt8

from perceiver_stream.evaluation.clips import RASTER, Clip
from perceiver_stream.evaluation.datasets.base import UNKNOWN, BoxClip, JointClip, MaskClip
from perceiver_stream.evaluation.datasets.vip import NUM_CLASSES
from perceiver_stream.evaluation.metrics import boxes as box_metrics
from perceiver_stream.evaluation.metrics import davis, miou, pck, tapvid
from perceiver_stream.evaluation.metrics import streaming as streams
from perceiver_stream.evaluation.metrics.base import same_shapes
from perceiver_stream.evaluation.queries import check_queries

Video = UInt8[np.ndarray, "T H W 3"]
# From a video and the mask of its first frame (0 is background) to the masks of all.
MaskMethod = Callable[[Video, Int32[np.ndarray, "H W"]], Int32[np.ndarray, "T H W"]]
# From a video and the joints of its first frame to those of all, and whether each is there.
JointMethod = Callable[
  [Video, Float[np.ndarray, "J 2"]],
  tuple[Float[np.ndarray, "T J 2"], Bool[np.ndarray, "T J"]],
]
# From a video and queries (t, y1, x1, y2, x2) to boxes in all frames, in [0, 1].
BoxMethod = Callable[[Video, Float[np.ndarray, "Q 5"]], Float[np.ndarray, "Q T 4"]]
# From a video and queries (t, y, x) to a function of a frame's number: positions and occlusions.
Step = Callable[[int], tuple[Float[np.ndarray, "Q 2"], Bool[np.ndarray, " Q"]]]
StreamMethod = Callable[[Video, Num[np.ndarray, "Q 3"]], Step]


def masks(method: MaskMethod, clips: Iterable[MaskClip]) -> dict[str, float]:
  """Returns DAVIS's numbers: J&F, J, F, and of both the recall and the decay.

  Objects are the ids that occur in a clip's masks, also those that are not in its first: ids that
  jump make no objects between them. Frames without a mask and `UNKNOWN` pixels do not count.

  Args:
    method: The method that propagates the masks.
    clips: Each with at least three masks; one with fewer counts for nothing.
  """
  rows = []
  for clip in clips:
    predicted = _answer("masks", method(clip.frames, np.maximum(clip.masks[0], 0)), clip.masks)
    counted = _with_mask(clip)[1:-1]
    truth, predicted = clip.masks[counted], predicted[counted]
    for identity in np.unique(clip.masks[clip.masks > 0]) if counted.size else ():
      pair = truth == identity, predicted == identity, truth == UNKNOWN
      measured = np.stack([davis.jaccard(*pair), davis.boundary_f(*pair)])
      rows.append(davis.statistics(measured))
  j, f = np.mean(_some("masks", rows), axis=0).tolist()
  names = [f"{kind}{of}" for kind in "JF" for of in ("", "_recall", "_decay")]
  return {"J&F": (j[0] + f[0]) / 2} | dict(zip(names, j + f, strict=True))


def classes(
  method: MaskMethod, clips: Iterable[MaskClip], num_classes: int = NUM_CLASSES
) -> dict[str, float]:
  """Returns the mean IoU of classes over a data set; frames without a mask do not count.

  Args:
    method: The method that propagates the masks.
    clips: Their ids are classes; those from `num_classes` on do not count.
    num_classes: With the background, 0.
  """
  matrices = []
  for clip in clips:
    predicted = _answer("classes", method(clip.frames, np.maximum(clip.masks[0], 0)), clip.masks)
    matrices.append(miou.confusion(clip.masks, predicted, num_classes))
  return {"mIoU": miou.mean_iou(np.sum(_some("classes", matrices), axis=0))}


def joints(method: JointMethod, clips: Iterable[JointClip]) -> dict[str, float]:
  """Returns PCK, in percent, at each threshold; a joint counts where the method predicts it present.

  Args:
    method: The method that tracks the joints.
    clips: Of any lengths.
  """
  truth, predicted, there = [], [], []
  for clip in clips:
    places, visible = method(clip.frames, clip.joints[0])
    truth.append(clip.joints)
    predicted.append(_answer("joints", places, clip.joints))
    there.append(visible)
  _some("joints", truth)
  return {
    f"PCK@{share}": float(np.mean(pck.pck(truth, predicted, there, share)))
    for share in pck.THRESHOLDS
  }


def boxes(method: BoxMethod, clips: Iterable[BoxClip]) -> dict[str, float]:
  """Returns the mean IoU of boxes; each track is queried at its first box.

  Args:
    method: The method that tracks the boxes.
    clips: A track without a box is left out.
  """
  means = []
  for clip in clips:
    some = clip.present.any(axis=1)
    truth, present = clip.boxes[some], clip.present[some]
    at = present.argmax(axis=1)
    queries = np.concatenate([at[:, None], truth[np.arange(len(at)), at]], axis=1).astype(
      np.float64
    )
    predicted = _answer("boxes", method(clip.frames, queries), truth)
    pair = (np.swapaxes(x, 0, 1)[None] for x in (truth, predicted, present))  # [1, T, N, ...]
    means.append(float(box_metrics.track_means(*box_metrics.track_iou(*pair))["mean_over_videos"]))
  return {"IoU": tapvid.data_set_mean(np.asarray(_some("boxes", means)))}


def streaming(
  method: StreamMethod,
  clips: Iterable[Clip],
  fps: float,
  *,
  clock: Callable[[], float] = time.perf_counter,
  sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Float[np.ndarray, " V"]]:
  """Returns the TAP-Vid numbers of each clip (queries first) for tracks available in time.

  Frames come at `fps`; whenever the method is free it gets the newest, and each frame is scored
  with the newest answer finished by its time. Until there is one a point stays at its query.

  Args:
    method: The method that tracks points frame by frame.
    clips: The clips.
    fps: Frames per second.
    clock: Seconds; the real one, or a `metrics.streaming.SimulatedClock`.
    sleep: Waits so many of them.
  """
  rows = []
  for clip in clips:
    queries, track = tapvid.queries_first(clip.tracks, clip.occluded)
    queries = check_queries(clip.frames, queries, "scoring.streaming")
    step = method(clip.frames, queries)
    outputs = streams.run(step, len(clip.frames), fps, clock=clock, sleep=sleep)
    tracks = np.repeat(queries[:, None, :0:-1], len(clip.frames), axis=1)
    hidden = np.zeros(tracks.shape[:2], bool)
    for t, (places, unseen) in zip(outputs.input_frames, outputs.values, strict=True):
      begun = queries[:, 0] <= t  # earlier frames have no information about the point
      tracks[begun, t], hidden[begun, t] = places[begun], unseen[begun]
    known = streams.associate(outputs.input_frames, outputs.finish_times, len(clip.frames), fps)
    late = streams.stream_tracks(queries[None], tracks[None], hidden[None], known)
    scale = RASTER / np.array(clip.frames.shape[2:0:-1])
    truth = clip.tracks[None, track] * scale, clip.occluded[None, track]
    rows.append(tapvid.scores(queries[None], *truth, late[0] * scale, late[1]))
  return {key: np.array([float(row[key][0]) for row in rows]) for key in tapvid.KEYS}


def static_masks(frames: Video, first: Int32[np.ndarray, "H W"]) -> Int32[np.ndarray, "T H W"]:
  """Leaves masks where they were: a `MaskMethod`."""
  return np.repeat(first[None], len(frames), axis=0)


def static_joints(
  frames: Video, first: Float[np.ndarray, "J 2"]
) -> tuple[Float[np.ndarray, "T J 2"], Bool[np.ndarray, "T J"]]:
  """Leaves joints where they were: a `JointMethod`."""
  return np.repeat(first[None], len(frames), axis=0), np.ones((len(frames), len(first)), bool)


def static_boxes(frames: Video, queries: Float[np.ndarray, "Q 5"]) -> Float[np.ndarray, "Q T 4"]:
  """Leaves boxes where they were: a `BoxMethod`."""
  return np.repeat(queries[:, None, 1:], len(frames), axis=1)


def _with_mask(clip: MaskClip) -> np.ndarray:
  return np.flatnonzero((clip.masks != UNKNOWN).any(axis=(1, 2)))


def _answer(name: str, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
  same_shapes(f"scoring.{name}", truth=truth, answer=answer)
  return answer


def _some(name: str, rows: list) -> list:
  if not rows:
    raise ValueError(
      f"scoring.{name}: there was nothing to score: no clip, or none with what counts; check the "
      f"data set's folder and split."
    )
  return rows
