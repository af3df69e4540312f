"""The definition of a table."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perceiver_stream.lab.comparing import Effect
from perceiver_stream.lab.trials import SIZES, Size, Trial


@dataclass(frozen=True, kw_only=True)
class Table:
  """Trials that are compared, and published results about them.

  Attributes:
    title: Of its page.
    about: The question, and published results; a paragraph.
    trials: By the name of their row, in their order.
    effects: The effects to test.
    remarks: Notes needed to read it.
    note: Function that makes a paragraph from the results, if a table has one.
    changes: Fields of a size, by its name, that differ for this table.
  """

  title: str
  about: str
  trials: Mapping[str, Trial]
  effects: Sequence[Effect] = ()
  remarks: Sequence[str] = ()
  note: Callable[[Mapping[str, list]], str] | None = None
  changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

  def size(self, name: str) -> Size:
    """Returns a size of `SIZES` with the changes of this table."""
    return dataclasses.replace(SIZES[name], **self.changes.get(name, {}))

  def on(self, source: str) -> "Table":
    """Returns the table with all trials on another source of footage: see `sources.sets_of`.

    Raises:
      ValueError: Its trials are of several sources, because it compares them.
    """
    found = {trial.source for trial in self.trials.values()}
    if len(found) > 1:
      raise ValueError(
        f"lab: '{self.title}' compares {sorted(found)} and cannot be put on {source!r}; choose another "
        f"table, or leave out the source."
      )
    trials = {n: dataclasses.replace(t, source=source) for n, t in self.trials.items()}
    return dataclasses.replace(self, trials=trials)
