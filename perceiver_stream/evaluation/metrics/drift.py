"""Drift of a camera's path: errors of position and rotation per metre travelled.

Poses are camera-to-world matrices `[T, 4, 4]` in metres. Every tick starts a section that ends where
the true path is longer than a given length; its error is that of the estimated motion from start to
end, in the start's own axes, so earlier errors do not count again.

Source: the odometry benchmark of KITTI (Geiger et al. 2012), whose sections are 100 to 800 m long
and start at every tenth frame. Ours are for rooms.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from perceiver_stream.evaluation.metrics.base import Metric, nanmean, same_shapes
from perceiver_stream.evaluation.metrics.trajectory import motion_error, random_path

LENGTHS_M = (1.0, 2.0, 4.0)


def per_metre(
  gt: Float[np.ndarray, "T 4 4"], estimate: Float[np.ndarray, "T 4 4"], length_m: float
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
  """Returns errors of every section of a length: metres per metre and radians per metre.

  Sections that the path is too short for are left out, so both may be empty.

  Raises:
    ValueError: Shapes differ, or the length is not above 0.
  """
  same_shapes("drift", gt=gt, estimate=estimate)
  if not length_m > 0:
    raise ValueError(f"drift: length_m={length_m}; use a length above 0 metres.")
  gt, estimate = gt.astype(np.float64), estimate.astype(np.float64)
  steps = np.linalg.norm(np.diff(gt[:, :3, 3], axis=0), axis=-1)
  travelled = np.concatenate([[0.0], np.cumsum(steps)])
  end = np.searchsorted(travelled, travelled + length_m)
  start = np.flatnonzero(end < len(gt))
  end = end[start]
  metres, radians = motion_error(gt[start], gt[end], estimate[start], estimate[end])
  length = travelled[end] - travelled[start]
  return metres / length, radians / length


def scores(
  gt: Float[np.ndarray, "T 4 4"],
  estimate: Float[np.ndarray, "T 4 4"],
  lengths_m: Sequence[float] = LENGTHS_M,
) -> dict[str, float]:
  """Returns the means over the sections of all lengths: `drift` (a share) and `drift_rad_per_m`.

  NaN where the path is shorter than all lengths.
  """
  found = [per_metre(gt, estimate, length) for length in lengths_m]
  metres, radians = (np.concatenate(part) for part in zip(*found, strict=True))
  return {"drift": float(nanmean(metres)), "drift_rad_per_m": float(nanmean(radians))}


METRIC = Metric(
  name="drift",
  score=scores,
  best={"drift": 0.0, "drift_rad_per_m": 0.0},
  example=lambda rng: random_path(rng, 12),
  perfect=lambda arrays: arrays | {"estimate": arrays["gt"]},
)
