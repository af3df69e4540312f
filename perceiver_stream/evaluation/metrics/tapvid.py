"""TAP-Vid: scores of point tracks and of predicted occlusion.

Source: Doersch et al. 2022, arXiv 2211.03726; tapnet:tapnet/tapvid/evaluation_datasets.py. Differs:
nothing; 0/0 is NaN.
"""

import numpy as np
from jaxtyping import Bool, Float, Num

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, nanmean, ratio, same_shapes

THRESHOLDS = (1, 2, 4, 8, 16)  # pixels of a 256 x 256 image
KEYS = (
  "occlusion_accuracy",
  *(f"pts_within_{k}" for k in THRESHOLDS),
  *(f"jaccard_{k}" for k in THRESHOLDS),
  "average_jaccard",
  "average_pts_within_thresh",
)
MODES = ("first", "strided")


def scores(
  query_points: Num[np.ndarray, "B N 3"],
  gt_tracks: Num[np.ndarray, "B N T 2"],
  gt_occluded: Bool[np.ndarray, "B N T"],
  pred_tracks: Num[np.ndarray, "B N T 2"],
  pred_occluded: Bool[np.ndarray, "B N T"],
  mode: str = "first",
  *,
  trackwise: bool = False,
) -> dict[str, Float[np.ndarray, "..."]]:
  """Returns the TAP-Vid numbers of each video, `[B]` (of each track, `[B, N]`), by `KEYS`.

  Jaccard counts a prediction that is visible but far both as a miss and as a false alarm.

  Args:
    query_points: (t, y, x); t is rounded half to even.
    gt_tracks: (x, y) in a 256 x 256 raster whose first pixel has its centre at (0.5, 0.5).
    gt_occluded: True where the point is hidden.
    pred_tracks: As `gt_tracks`.
    pred_occluded: As `gt_occluded`.
    mode: `"first"` scores the frames after the query's, `"strided"` all but the query's.
    trackwise: If True, each track is scored by itself.

  Raises:
    ValueError: The arrays do not belong together, or there is no such mode.
  """
  same_shapes("tapvid", gt_tracks=gt_tracks, pred_tracks=pred_tracks)
  same_shapes("tapvid", gt_occluded=gt_occluded, pred_occluded=pred_occluded)
  counted = evaluated_frames(query_points, gt_tracks.shape[2], mode)
  visible, predicted = ~np.asarray(gt_occluded, bool), ~np.asarray(pred_occluded, bool)
  axes = (2,) if trackwise else (1, 2)
  total = lambda x: np.sum(x & counted, axis=axes)  # noqa: E731
  out = {"occlusion_accuracy": ratio(total(visible == predicted), total(counted))}
  # In the dtype of the tracks, as the reference: an error of exactly the threshold is not within.
  error = np.sum(np.square(pred_tracks - gt_tracks), axis=-1)
  within = {k: error < k**2 for k in THRESHOLDS}
  positives = total(visible)
  for k in THRESHOLDS:
    out[f"pts_within_{k}"] = ratio(total(within[k] & visible), positives)
  for k in THRESHOLDS:
    correct = within[k] & visible & predicted
    false = predicted & ~(within[k] & visible)
    out[f"jaccard_{k}"] = ratio(total(correct), positives + total(false))
  out["average_jaccard"] = np.mean([out[f"jaccard_{k}"] for k in THRESHOLDS], axis=0)
  out["average_pts_within_thresh"] = np.mean([out[f"pts_within_{k}"] for k in THRESHOLDS], axis=0)
  return out


def evaluated_frames(
  query_points: Num[np.ndarray, "B N 3"], num_frames: int, mode: str
) -> Bool[np.ndarray, "B N T"]:
  """Returns the mask of frames that count for each query."""
  times = np.round(query_points[..., :1]).astype(int)
  frames = np.arange(num_frames)
  if mode == "first":
    return frames > times
  if mode == "strided":
    return frames != times
  raise ValueError(f"tapvid: mode {mode!r} is not one of {MODES}.")


def data_set_mean(per_video: Num[np.ndarray, " B"]) -> float:
  """Returns the mean over the videos that have a value: those without (0/0) are left out."""
  return float(nanmean(per_video))


def queries_first(
  tracks: Num[np.ndarray, "N T 2"], occluded: Bool[np.ndarray, "N T"]
) -> tuple[Float[np.ndarray, "Q 3"], np.ndarray]:
  """Returns a query (t, y, x) at each track's first visible frame, and the tracks they are of.

  Tracks that are never visible have none.
  """
  track = np.flatnonzero((~occluded).any(axis=1))
  frame = np.argmax(~occluded[track], axis=1)
  return _queries(tracks, track, frame), track


def queries_strided(
  tracks: Num[np.ndarray, "N T 2"], occluded: Bool[np.ndarray, "N T"], stride: int = 5
) -> tuple[Float[np.ndarray, "Q 3"], np.ndarray]:
  """Returns a query at every point visible in frames 0, stride, ...: by frame, then by track."""
  frame, track = np.nonzero(~occluded[:, ::stride].T)
  return _queries(tracks, track, frame * stride), track


def convert_grid(
  coordinates: Num[np.ndarray, "*n C"], size: Num[np.ndarray, " C"], new_size: Num[np.ndarray, " C"]
) -> Float[np.ndarray, "*n C"]:
  """Returns raster coordinates in an image of another size: the ratio, and no half pixel.

  Args:
    coordinates: (x, y) or (t, y, x).
    size: Of the image, in the same order.
    new_size: Likewise; a clip cannot change its length.
  """
  size, new_size = np.asarray(size, np.float64), np.asarray(new_size, np.float64)
  if len(size) == 3 and size[0] != new_size[0]:
    raise ValueError(
      f"convert_grid: {size[0]:.0f} frames to {new_size[0]:.0f}; only height and width can change."
    )
  return np.asarray(coordinates, np.float64) * new_size / size


def _queries(tracks: np.ndarray, track: np.ndarray, frame: np.ndarray) -> np.ndarray:
  x, y = np.asarray(tracks, np.float64)[track, frame].T
  return np.stack([frame, y, x], axis=-1)


def _score(**arrays: np.ndarray) -> dict[str, float]:
  return {key: data_set_mean(value) for key, value in scores(**arrays).items()}  # type: ignore[arg-type]


def _example(rng: np.random.Generator) -> Arrays:
  tracks = rng.uniform(0, 256, (2, 6, 10, 2))
  return {
    "query_points": np.zeros((2, 6, 3)),
    "gt_tracks": tracks,
    "gt_occluded": rng.uniform(size=(2, 6, 10)) < 0.3,
    "pred_tracks": tracks + rng.normal(0, 4, tracks.shape),
    "pred_occluded": rng.uniform(size=(2, 6, 10)) < 0.3,
  }


def _perfect(arrays: Arrays) -> Arrays:
  return arrays | {"pred_tracks": arrays["gt_tracks"], "pred_occluded": arrays["gt_occluded"]}


METRIC = Metric(
  name="tapvid",
  score=_score,
  best=dict.fromkeys(KEYS, 1.0),
  example=_example,
  perfect=_perfect,
)
