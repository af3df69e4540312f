"""The mean-depth predictor: what one knows of depth without looking."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perceiver_stream.training.beside import Baselines, Errors
from perceiver_stream.types import valid_key


class MeanDepth:
  """Predicts, everywhere, the mean depth of all ticks before those it is asked about.

  Its error is AbsRel, mean |m - g| / g over pixels, as that of the depth modality; depths are
  clipped to the same range. NaN until a depth has been seen.
  """

  def __init__(
    self, name: str, displacements: Sequence[int], hop: int, nearest: float, farthest: float
  ):
    """Makes it for windows that advance by `hop` ticks; `name` is that of the modality."""
    self.name, self.hop = name, hop
    self.keys = [f"{name}@{d}" for d in displacements]
    self.nearest, self.farthest = nearest, farthest
    self._sum, self._count = 0.0, 0

  def __call__(self, window: Mapping[str, np.ndarray]) -> Errors:
    """Returns AbsRel `[K, B]` for the last `hop` ticks; then takes them in."""
    raw = np.nan_to_num(window[self.name][-self.hop :].astype(np.float64), nan=self.farthest)
    depth = np.clip(raw, self.nearest, self.farthest)
    mean = self._sum / self._count if self._count else np.nan
    error = np.mean(np.abs(mean - depth) / depth, axis=(-2, -1))
    valid = window.get(valid_key(self.name), np.ones(window[self.name].shape[:2], bool))
    seen = depth[valid[-self.hop :]]
    self._sum, self._count = self._sum + float(seen.sum()), self._count + seen.size
    return {key: {"mean": error} for key in self.keys}

  def state(self) -> dict[str, Any]:
    """Returns all that is remembered."""
    return {"sum": np.array(self._sum), "count": np.array(self._count, np.int64)}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Goes on from what `state` returned."""
    self._sum, self._count = float(state["sum"]), int(state["count"])


class Together:
  """Several baselines as one."""

  def __init__(self, parts: Mapping[str, Baselines]):
    self.parts = dict(parts)

  def __call__(self, window: Mapping[str, np.ndarray]) -> Errors:
    """Returns the errors of all."""
    errors: Errors = {}
    for part in self.parts.values():
      for key, by_name in part(window).items():
        errors.setdefault(key, {}).update(by_name)
    return errors

  def state(self) -> dict[str, Any]:
    """Returns all that is remembered, by part."""
    return {name: part.state() for name, part in self.parts.items()}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Goes on from what `state` returned."""
    for name, part in self.parts.items():
      part.restore(state[name])
