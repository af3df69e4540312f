"""The declaration of a family of metrics, checked by one conformance test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]
Numbers = np.ndarray | np.generic | float | int


@dataclass(frozen=True, kw_only=True)
class Metric:
  """A family of numbers that are computed together.

  Attributes:
    name: Of the family.
    score: Arrays of a data set, by keyword, to numbers by name; NaN is 0/0.
    best: Value of each number for a perfect prediction.
    example: A small random problem, and a prediction that is not perfect.
    perfect: The same problem, its prediction replaced by the truth.
  """

  name: str
  score: Callable[..., Mapping[str, float]]
  best: Mapping[str, float]
  example: Callable[[np.random.Generator], Arrays]
  perfect: Callable[[Arrays], Arrays]


def ratio(above: Numbers, below: Numbers) -> np.ndarray:
  """Returns `above / below` in float64, 0/0 being NaN, without a warning."""
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.asarray(np.asarray(above, np.float64) / np.asarray(below, np.float64))


def nanmean(values: Numbers, axis: int | None = None) -> np.ndarray:
  """Returns the mean of values that are not NaN; NaN if there are none, without a warning."""
  values = np.asarray(values, np.float64)
  known = ~np.isnan(values)
  return ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


def same_shapes(name: str, **arrays: np.ndarray) -> None:
  """Raises ValueError where arrays that belong together differ in shape."""
  shapes = {key: list(value.shape) for key, value in arrays.items()}
  if len({tuple(shape) for shape in shapes.values()}) > 1:
    listed = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
    raise ValueError(f"{name}: {listed} differ in shape; give one value per element of the truth.")
