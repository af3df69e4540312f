"""Paths of a camera from its motions, in numpy."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

Pose = Float[np.ndarray, "4 4"]


def chained(motions: Sequence[Pose] | Float[np.ndarray, "T 4 4"]) -> Float[np.ndarray, "T 4 4"]:
  """Returns camera-to-world poses of a path; the first motion is not used, its camera is the world.

  Args:
    motions: Of each frame from the one before it, `T_source_target`.
  """
  poses = [np.eye(4)]
  for motion in list(motions)[1:]:
    poses.append(poses[-1] @ motion)
  return np.stack(poses)
