"""Windows of ticks of parallel streams.

A window has W = window + max_displacement ticks, and the next one starts `window` ticks later, so
every tick is in the last `window` ticks of exactly one window (except the first
`max_displacement` ticks of a stream, which cannot be targets of the longest prediction).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np

from perceiver_stream.streams.base import ENDED, TIMESTAMP, check_state
from perceiver_stream.streams.wrapped import is_live
from perceiver_stream.types import IS_FIRST, VALID_SUFFIX, valid_key

Tick = dict[str, Any]


def windows(
  rows: Sequence[grain.IterDataset],
  window: int = 8,
  max_displacement: int = 16,
  *,
  goes_on: bool = False,
) -> grain.IterDataset:
  """Returns windows of `rows`: dicts of arrays `[W, B, ...]`, W = window + max_displacement.

  Names are those of a tick, plus `ended`. Rows reset separately (`is_first` is per row) and end
  separately: the ticks of a row after its end repeat its last arrays with every `<name>_valid`
  False, `is_first` False, and `ended` True, until all rows have ended. So all windows have
  the same names and shapes; the last is filled up in this way.

  State is the position of every row before the first tick of the next window: no arrays. After
  `set_state` the ticks that two windows share are read again.

  Args:
    rows: Streams whose ticks all have the same names and shapes; `next` raises ValueError otherwise.
    window: Ticks from the start of one window to that of the next.
    max_displacement: Ticks that two windows share, the longest prediction.
    goes_on: If True, windows of padding follow without end when all rows have ended, because rows
      of another process may continue.

  Raises:
    ValueError: There is no row, or a number is out of range.
  """
  if not rows:
    raise ValueError("streams.windows: no rows; give at least one stream.")
  if window < 1 or max_displacement < 0:
    raise ValueError(
      f"streams.windows: window={window}, max_displacement={max_displacement}; use a window of at "
      f"least 1 tick and a displacement of at least 0."
    )
  return _Windows(rows, window, max_displacement, goes_on)


class _Windows(grain.IterDataset):
  def __init__(self, rows: Sequence[grain.IterDataset], window: int, shared: int, goes_on: bool):
    super().__init__(list(rows))
    self._window, self._shared, self._goes_on = window, shared, goes_on

  def __iter__(self) -> "WindowIterator":
    rows = [_Row(parent.__iter__()) for parent in self._parents]
    return WindowIterator(rows, self._window, self._shared, self._goes_on)


class WindowIterator(grain.DatasetIterator):
  """Holds the ticks that the next window shares with the last one."""

  def __init__(self, rows: "list[_Row]", window: int, shared: int, goes_on: bool):
    super().__init__([row.ticks for row in rows])
    self._rows, self._window, self._shared, self._goes_on = rows, window, shared, goes_on
    self._read: deque[Tick] = deque()  # ticks from the start of the next window on
    self._before: deque[list] = deque()  # the rows' states before each of them
    self._first = True  # no window has been given yet
    self._shapes: dict[str, tuple[int, ...]] = {}  # of every tick

  @property
  def rows(self) -> list[grain.DatasetIterator]:
    """The rows' iterators, e.g. for their `damage`."""
    return [row.ticks for row in self._rows]

  def __next__(self) -> dict[str, np.ndarray]:
    self._assert_not_closed()
    while len(self._read) < self._window + self._shared:
      self._read_tick()
    ticks = list(self._read)
    new = ticks if self._first else ticks[self._shared :]
    if not self._goes_on and all(tick[ENDED].all() for tick in new):
      raise StopIteration
    for _ in range(self._window):
      self._read.popleft()
      self._before.popleft()
    self._first = False
    return {name: np.stack([tick[name] for tick in ticks]) for name in ticks[0]}

  def _read_tick(self) -> None:
    before = [row.get_state() for row in self._rows]
    ticks = [row.next() for row in self._rows]
    some = next((tick for tick in ticks if tick is not None), None)
    if some is None:  # no row has ever had a tick
      raise StopIteration
    for number, tick in enumerate(ticks):
      self._check(number, tick)
    whole = [tick for tick in ticks if tick is not None]
    if len(whole) < len(ticks):
      blank = _padding({name: np.zeros_like(value) for name, value in some.items()})
      whole = [blank if tick is None else tick for tick in ticks]
    self._before.append(before)
    self._read.append({name: np.stack([tick[name] for tick in whole]) for name in some})

  def _check(self, number: int, tick: Tick | None) -> None:
    """Raises ValueError if a row's tick has other names or shapes than the ticks before."""
    if tick is None:
      return
    found = {name: np.shape(value) for name, value in tick.items()}
    self._shapes = self._shapes or found
    if found == self._shapes:
      return
    names = sorted(found.keys() | self._shapes.keys())
    name = next(name for name in names if found.get(name) != self._shapes.get(name))
    has, expected = (
      f"'{name}' {list(shapes[name])}" if name in shapes else f"no '{name}'"
      for shapes in (found, self._shapes)
    )
    raise ValueError(
      f"streams.windows: a tick of row {number} has {has}, the ticks before it have {expected}; give "
      f"all ticks of all rows the same names and shapes."
    )

  def get_state(self) -> dict[str, Any]:
    """Returns the position of the next window's start, row by row."""
    states = self._before[0] if self._before else [row.get_state() for row in self._rows]
    return {"first": int(self._first), "rows": states}

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes to where a window starts."""
    check_state("windows", state, {"first": 1, "rows": []})
    if len(state["rows"]) != len(self._rows):
      raise ValueError(
        f"windows: the state to restore has {len(state['rows'])} rows, this has "
        f"{len(self._rows)}; use the number of rows it was saved with."
      )
    self._read.clear()
    self._before.clear()
    self._first = bool(state["first"])
    for row, saved in zip(self._rows, state["rows"], strict=True):
      row.set_state(saved)


class _Row:
  """A stream that continues after its end, repeating its last tick as padding.

  The state of a live stream is a time, so nothing is read again where it had ended.
  """

  def __init__(self, ticks: grain.DatasetIterator):
    self.ticks = ticks
    self._is_live = is_live(ticks)
    self._last: Tick | None = None
    self._before_last = ticks.get_state()
    self._ended = False

  def next(self) -> Tick | None:
    """Returns a tick; None after the end of a stream that never had one."""
    before = self._before_last if self._ended else self.ticks.get_state()
    try:
      tick = None if self._ended else next(self.ticks)
    except StopIteration:
      tick, self._ended = None, True
    if tick is None:
      return self._last if self._last is None else _padding(self._last)
    self._before_last = before
    self._last = {valid_key(name): np.bool_(True) for name in tick if _is_modality(name)}
    self._last |= tick | {ENDED: np.bool_(False)}
    return self._last

  def get_state(self) -> dict[str, Any]:
    """Returns the stream's state; after its end the one before its last tick."""
    ended = self._ended and not self._is_live
    return {"ended": int(ended), "ticks": self._before_last if ended else self.ticks.get_state()}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Goes to a tick; after the end, reads the last tick again, which padding repeats."""
    check_state("windows: a row", state, {"ended": 0, "ticks": {}})
    self.ticks.set_state(state["ticks"])
    self._last, self._ended, self._before_last = None, False, state["ticks"]
    if state["ended"]:
      self.next()
      self._ended = True


def _is_modality(name: str) -> bool:
  return name not in (IS_FIRST, TIMESTAMP) and not name.endswith(VALID_SUFFIX)


def _padding(tick: Tick) -> Tick:
  flags = {name: np.bool_(False) for name in tick if name.endswith(VALID_SUFFIX)}
  return tick | flags | {IS_FIRST: np.bool_(False), ENDED: np.bool_(True)}
