"""Baselines of whole windows, all rows, in step with the loop and kept in its checkpoints."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from perceiver_stream.evaluation.baselines import NAMES, FrameBaselines
from perceiver_stream.types import IS_FIRST, valid_key

Errors = dict[str, dict[str, np.ndarray]]


@runtime_checkable
class Baselines(Protocol):
  """Predictors on the host that are scored beside the model."""

  def __call__(self, window: Mapping[str, np.ndarray]) -> Errors:
    """Returns errors `[K, B]` by `"<modality>@<displacement>"` and predictor."""
    ...

  def state(self) -> dict[str, Any]:
    """Returns all that is remembered, arrays of fixed shapes."""
    ...

  def restore(self, state: Mapping[str, Any]) -> None:
    """Goes on from what `state` returned."""
    ...


class PixelBaselines:
  """Flow extrapolation and its mix with copying, for each row of successive windows."""

  def __init__(self, displacements: tuple[int, ...], hop: int, shape: tuple[int, ...], rows: int):
    """Makes them for windows that advance by `hop` ticks of pictures `[H, W, 3]`."""
    self.displacements = tuple(d for d in displacements if d > 0)
    self.hop = hop
    self.rows = [FrameBaselines(self.displacements, *shape[:2]) for _ in range(rows)]
    self._has_begun = False

  def __call__(self, window: Mapping[str, np.ndarray]) -> Errors:
    """Returns the errors for the last `hop` ticks; NaN where there is no prediction."""
    pixels = window["pixels"]
    nothing = np.zeros(pixels.shape[:2], bool)
    first, valid = window.get(IS_FIRST, nothing), window.get(valid_key("pixels"), ~nothing)
    names = [name for name in NAMES if name != "copy"]  # the objective has that one
    keys = [f"pixels@{d}" for d in self.displacements]
    errors = {k: {n: np.full((self.hop, len(self.rows)), np.nan) for n in names} for k in keys}
    new = self.hop if self._has_begun else len(pixels)
    self._has_begun = True
    for row, baselines in enumerate(self.rows):
      for tick in range(len(pixels) - new, len(pixels)):
        scores = baselines.score(
          pixels[tick, row], is_first=bool(first[tick, row]), valid=bool(valid[tick, row])
        )
        target = tick - (len(pixels) - self.hop)
        for displacement, by_name in scores.items() if target >= 0 else ():
          for name in set(names) & set(by_name):
            errors[f"pixels@{displacement}"][name][target, row] = by_name[name]
    return errors

  def state(self) -> dict[str, Any]:
    """Returns all that is remembered."""
    rows = {str(i): row.state() for i, row in enumerate(self.rows)}
    return {"rows": rows, "has_begun": np.array(self._has_begun)}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Goes on from what `state` returned."""
    for i, row in enumerate(self.rows):
      row.restore(state["rows"][str(i)])
    self._has_begun = bool(state["has_begun"])
