"""Baselines of whole windows, row by row, computed with the loop and stored in its checkpoints."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.reporting.scores import Errors
from perceiver_stream.training.distributed import Rows, gather_tree
from perceiver_stream.types import IS_FIRST, valid_key


@runtime_checkable
class Baseline(Protocol):
  """Predictors of one modality of one row, fed tick by tick.

  Attributes:
    displacements: Ticks ahead that are predicted, each 1 or more.
    names: Of the predictors.
  """

  displacements: tuple[int, ...]
  names: tuple[str, ...]

  def score(
    self, value: np.ndarray, /, *, is_first: bool = False, valid: bool = True
  ) -> dict[int, dict[str, float]]:
    """Adds the next tick; returns the errors of its predictions, if there were any."""
    ...

  def state(self) -> dict[str, Any]:
    """Returns the whole state, arrays of fixed shapes."""
    ...

  def restore(self, state: Mapping[str, Any]) -> None:
    """Restores a result of `state`."""
    ...


class BaselineSet:
  """All baselines of the rows of this process; any process can continue any row."""

  def __init__(self, make: Mapping[str, Callable[[], Baseline]], hop: int, rows: Rows):
    """Makes the baselines for windows that advance by `hop` ticks.

    Args:
      make: By modality, a function that returns a baseline of one row.
      hop: Ticks from one window to the next.
      rows: The rows of this process among all.
    """
    self._hop, self._all_rows = hop, rows
    self._rows = [{name: one() for name, one in make.items()} for _ in rows.own]
    self._has_begun = False

  def __call__(self, window: Mapping[str, np.ndarray]) -> Errors:
    """Returns errors `[K, B]` for the last `hop` ticks, K, of the own rows, B.

    Args:
      window: Arrays `[W, B, ...]`. All ticks of the first window are used, then the last `hop`.

    Returns:
      By `"<modality>@<displacement>"` and predictor, without `copy`, which objectives score; NaN
      where there is no prediction.
    """
    ticks, rows = next(iter(window.values())).shape[:2]
    shape, start = (self._hop, rows), ticks - self._hop
    errors: Errors = {}
    for name, one in self._rows[0].items():
      for d in one.displacements:
        errors[str(ScoreKey(name, d))] = {
          n: np.full(shape, np.nan) for n in one.names if n != "copy"
        }
    for tick in range(start if self._has_begun else 0, ticks):
      for row, baselines in enumerate(self._rows):
        for name, scores in _scores(baselines, window, tick, row):
          if tick >= start:
            _note(errors, name, scores, tick - start, row)
    self._has_begun = True
    return errors

  def state(self) -> dict[str, Any]:
    """Returns the state of all rows; all processes must call it at once."""
    begun = np.array(self._has_begun)
    mine = [{n: one.state() for n, one in row.items()} | {"begun": begun} for row in self._rows]
    states = self._all_rows.joined(mine, gather_tree)
    return {f"row_{i}": state for i, state in enumerate(states)}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Restores the own rows from a result of `state`."""
    for number, row in zip(self._all_rows.own, self._rows, strict=True):
      saved = state[f"row_{number}"]
      self._has_begun = bool(saved["begun"])
      for name, one in row.items():
        one.restore(saved[name])


def _scores(
  baselines: Mapping[str, Baseline], window: Mapping[str, np.ndarray], tick: int, row: int
):
  """Yields the name and the errors of each modality at one tick of one row."""
  is_first = bool(window[IS_FIRST][tick, row]) if IS_FIRST in window else False
  for name, one in baselines.items():
    valid = bool(window[valid_key(name)][tick, row]) if valid_key(name) in window else True
    yield name, one.score(window[name][tick, row], is_first=is_first, valid=valid)


def _note(
  errors: Errors, name: str, scores: Mapping[int, Mapping[str, float]], at: int, row: int
) -> None:
  """Writes the errors of one tick of one row into the arrays."""
  for displacement, by_name in scores.items():
    for predictor, array in errors[str(ScoreKey(name, displacement))].items():
      array[at, row] = by_name[predictor]
