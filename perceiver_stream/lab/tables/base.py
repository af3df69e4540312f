"""What a table is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from perceiver_stream.lab.comparing import Effect
from perceiver_stream.lab.trials import Trial


@dataclass(frozen=True, kw_only=True)
class Table:
  """Trials that are compared, and what was published about them.

  Attributes:
    title: Of its page.
    about: What is asked, and what was published; a paragraph.
    trials: By the name of their row, in their order.
    effects: To be found, or not.
    remarks: What must be known to read it.
    note: Makes a paragraph of the results, where a table has more to say.
  """

  title: str
  about: str
  trials: Mapping[str, Trial]
  effects: Sequence[Effect] = ()
  remarks: Sequence[str] = ()
  note: Callable[[Mapping[str, list]], str] | None = None
