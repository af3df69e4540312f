"""The check of track queries, shared by all point trackers."""

import numpy as np
from jaxtyping import Float, Num, UInt8

MARGIN_PX = 1.0  # points of the field's data sets are up to this far outside by rounding


def check_queries(
  frames: UInt8[np.ndarray, "T H W 3"], query_points: Num[np.ndarray, "Q C"], name: str = "queries"
) -> Float[np.ndarray, "Q 3"]:
  """Returns query points in float64, their times rounded (half to even) to whole frames.

  No query is allowed: its answer has no track.

  Args:
    frames: The video that they are about.
    query_points: (t, y, x), in raster coordinates: the first pixel's centre is (0.5, 0.5).
    name: Name of the method in messages.

  Raises:
    ValueError: One is not (t, y, x), not finite, in a frame that does not exist, or outside the
      image.
  """
  return check_queries_for_size(frames.shape[1:3], query_points, name, len(frames))


def check_queries_for_size(
  size: tuple[int, ...],
  query_points: Num[np.ndarray, "Q C"],
  name: str = "queries",
  num: int | None = None,
) -> Float[np.ndarray, "Q 3"]:
  """Returns the same for a video given by its size (H, W), and optionally its length."""
  height, width = size
  if query_points.shape[1] != 3:
    raise ValueError(
      f"{name}: query points {list(query_points.shape)}; give one row (t, y, x) for each, [Q, 3]."
    )
  queries = np.array(query_points, np.float64)
  queries[:, 0] = np.round(queries[:, 0])
  about = "" if num is None else f", for a video of {num} frames"
  here = "give finite (t, y, x) with t from 0" + ("" if num is None else f" to {num - 1}")
  bad = np.asarray(~np.isfinite(queries).all(axis=1))
  if bad.any():
    raise ValueError(f"{name}: query {_first(query_points, bad)} is not finite{about}; {here}.")
  bad = (queries[:, 0] < 0) | (queries[:, 0] >= (np.inf if num is None else num))
  if bad.any():
    raise ValueError(
      f"{name}: query {_first(query_points, bad)} is at a time that is not there{about}; {here}."
    )
  beyond = np.maximum(-queries[:, 1:], queries[:, 1:] - (height, width))
  bad = np.asarray((beyond > MARGIN_PX).any(axis=1))
  if bad.any():
    raise ValueError(
      f"{name}: query {_first(query_points, bad)} is outside the image of {height} x {width} "
      f"pixels; give y from 0 to {height} and x from 0 to {width}, in pixels and not in [0, 1]."
    )
  return queries


def _first(query_points: np.ndarray, bad: np.ndarray) -> str:
  number = int(np.argmax(bad))
  t, y, x = (f"{value:g}" for value in query_points[number])
  return f"{number} (t={t}, y={y}, x={x})"
