"""Errors of a camera's path: absolute (ATE), relative (RPE), and KITTI's five-frame snippets.

Poses are camera-to-world matrices `[T, 4, 4]` in metres. Monocular estimates have no scale, so they
are aligned first: `"se3"` by a rigid motion, `"sim3"` with a scale too.

Source: Umeyama 1991 (alignment), Sturm et al. 2012 (ATE, RPE), SfMLearner and monodepth2 (snippets).
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, same_shapes


class Alignment(NamedTuple):
  """A similarity that maps positions of an estimate onto the truth: `scale R x + t`.

  Attributes:
    scale: 1 for a rigid alignment.
    rotation: `[3, 3]`.
    translation: `[3]`.
    aligned: The estimate's positions after it, `[T, 3]`.
  """

  scale: float
  rotation: Float[np.ndarray, "3 3"]
  translation: Float[np.ndarray, " 3"]
  aligned: Float[np.ndarray, "T 3"]


def align(
  gt: Float[np.ndarray, "T 3"],
  estimate: Float[np.ndarray, "T 3"],
  mode: Literal["se3", "sim3"] = "sim3",
) -> Alignment:
  """Returns the least-squares alignment of positions.

  Raises:
    ValueError: Shapes differ.
  """
  same_shapes("trajectory.align", gt=gt, estimate=estimate)
  gt, estimate = gt.astype(np.float64), estimate.astype(np.float64)
  centre_gt, centre = gt.mean(axis=0), estimate.mean(axis=0)
  a, b = gt - centre_gt, estimate - centre
  u, s, vt = np.linalg.svd(a.T @ b)
  sign = np.asarray([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
  rotation = (u * sign) @ vt
  spread = np.sum(b * b)
  scale = float(np.sum(s * sign) / spread) if mode == "sim3" and spread > 0 else 1.0
  translation = centre_gt - scale * rotation @ centre
  return Alignment(scale, rotation, translation, scale * estimate @ rotation.T + translation)


def absolute_error(
  gt: Float[np.ndarray, "T 4 4"],
  estimate: Float[np.ndarray, "T 4 4"],
  mode: Literal["se3", "sim3"] = "sim3",
) -> float:
  """Returns the root mean square distance of aligned positions (ATE), in the truth's unit."""
  truth = gt[:, :3, 3].astype(np.float64)
  aligned = align(truth, estimate[:, :3, 3], mode).aligned
  return float(np.sqrt(np.mean(np.sum((aligned - truth) ** 2, axis=-1))))


def motion_error(
  gt_start: Float[np.ndarray, "n 4 4"],
  gt_end: Float[np.ndarray, "n 4 4"],
  start: Float[np.ndarray, "n 4 4"],
  end: Float[np.ndarray, "n 4 4"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
  """Returns errors of estimated motions from start to end: metres and radians."""
  error = np.linalg.inv(np.linalg.inv(gt_start) @ gt_end) @ (np.linalg.inv(start) @ end)
  off = error[:, :3, :3]
  axis = np.stack(
    [off[:, 2, 1] - off[:, 1, 2], off[:, 0, 2] - off[:, 2, 0], off[:, 1, 0] - off[:, 0, 1]], -1
  )
  sine, cosine = np.linalg.norm(axis, axis=-1) / 2, (np.trace(off, axis1=1, axis2=2) - 1) / 2
  return np.linalg.norm(error[:, :3, 3], axis=-1), np.arctan2(sine, cosine)


def relative_error(
  gt: Float[np.ndarray, "T 4 4"], estimate: Float[np.ndarray, "T 4 4"], frames: int = 1
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
  """Returns errors of the motion over so many frames: metres and radians (RPE), T - frames each."""
  same_shapes("trajectory.relative_error", gt=gt, estimate=estimate)
  gt, estimate = gt.astype(np.float64), estimate.astype(np.float64)
  return motion_error(gt[:-frames], gt[frames:], estimate[:-frames], estimate[frames:])


def rescaled(
  gt: Float[np.ndarray, "T 4 4"], estimate: Float[np.ndarray, "T 4 4"], ticks: int | None = 10
) -> Float[np.ndarray, "T 4 4"]:
  """Returns the estimate with its translations scaled by the true length of its first steps.

  The scale that an online user can know: the length of the true path over that of the estimated
  one, up to tick `ticks` (None: of the whole path). An estimate at rest stays as it is.
  """
  same_shapes("trajectory.rescaled", gt=gt, estimate=estimate)

  def length(poses: np.ndarray) -> float:
    steps = np.diff(poses[: None if ticks is None else ticks + 1, :3, 3].astype(np.float64), axis=0)
    return float(np.sum(np.linalg.norm(steps, axis=-1)))

  own = length(estimate)
  scaled = estimate.astype(np.float64)
  scaled[:, :3, 3] *= length(gt) / own if own > 0 else 1.0
  return scaled


def snippet_error(
  gt: Float[np.ndarray, "T 4 4"], estimate: Float[np.ndarray, "T 4 4"], frames: int = 5
) -> Float[np.ndarray, " n"]:
  """Returns the error of every snippet after fitting a scale alone, T - frames + 1 numbers.

  Positions are relative to the snippet's first pose. As the released code of SfMLearner and
  monodepth2, the root of the summed squares is divided by `frames`, not by its root.
  """
  same_shapes("trajectory.snippet_error", gt=gt, estimate=estimate)

  def positions(poses: np.ndarray, start: int) -> np.ndarray:
    window = poses[start : start + frames].astype(np.float64)
    return (np.linalg.inv(window[0]) @ window)[:, :3, 3]

  errors = []
  for start in range(len(gt) - frames + 1):
    truth, found = positions(gt, start), positions(estimate, start)
    size = np.sum(found * found)
    scale = np.sum(truth * found) / size if size > 0 else 1.0
    errors.append(np.sqrt(np.sum((scale * found - truth) ** 2)) / frames)
  return np.asarray(errors)


def scores(
  gt: Float[np.ndarray, "T 4 4"], estimate: Float[np.ndarray, "T 4 4"]
) -> dict[str, float]:
  """Returns ATE under both alignments, mean RPE over 1 and 5 frames, and the snippets' mean.

  `ate_start` is the rigid alignment after `rescaled`.
  """
  result = {f"ate_{mode}": absolute_error(gt, estimate, mode) for mode in ("se3", "sim3")}
  result["ate_start"] = absolute_error(gt, rescaled(gt, estimate), "se3")
  for frames in (1, 5):
    metres, radians = relative_error(gt, estimate, frames)
    result |= {f"rpe_{frames}": float(metres.mean()), f"rpe_{frames}_rad": float(radians.mean())}
  return result | {"snippet_ate": float(snippet_error(gt, estimate).mean())}


def _turn(angles: np.ndarray) -> np.ndarray:
  """Returns poses turned about the vertical axis."""
  cos, sin, zero, one = np.cos(angles), np.sin(angles), 0 * angles, 1 + 0 * angles
  rows = [[cos, zero, sin, zero], [zero, one, zero, zero], [-sin, zero, cos, zero]]
  rows.append([zero, zero, zero, one])
  return np.moveaxis(np.asarray(rows), -1, 0)


def random_path(rng: np.random.Generator, ticks: int) -> Arrays:
  """Returns a random path and a noisy estimate of it, steps of about a metre."""
  gt = _turn(np.cumsum(rng.normal(0, 0.1, ticks)))
  gt[:, :3, 3] = np.cumsum(rng.normal(0, 1, (ticks, 3)), axis=0)
  noise = _turn(rng.normal(0, 0.05, ticks))
  noise[:, :3, 3] = rng.normal(0, 0.1, (ticks, 3))
  return {"gt": gt, "estimate": gt @ noise}


METRIC = Metric(
  name="trajectory",
  score=scores,
  best={
    "ate_se3": 0.0,
    "ate_start": 0.0,
    "ate_sim3": 0.0,
    "rpe_1": 0.0,
    "rpe_1_rad": 0.0,
    "snippet_ate": 0.0,
  },
  example=lambda rng: random_path(rng, 12),
  perfect=lambda arrays: arrays | {"estimate": arrays["gt"]},
)
