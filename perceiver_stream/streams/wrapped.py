"""Live sources under other iterators: those of `map`, batches, windows and prefetching."""

from collections.abc import Iterator
from typing import Any


def is_live(iterator: Any) -> bool:
  """Returns True if an iterator reads a live source, itself or through the iterators under it.

  Its state is then a time: where it had ended, more may come.
  """
  return any(getattr(one, "is_live", False) for one in _through(iterator))


def dropped(iterator: Any) -> int:
  """Returns the images that live sources under an iterator have dropped, newer ones having come first."""
  return sum(getattr(one, "dropped", 0) for one in _through(iterator))


def interrupt(iterator: Any) -> None:
  """Ends live sources under an iterator, for a thread that waits for them; closes nothing else."""
  for one in _through(iterator):
    getattr(one, "interrupt", lambda: None)()


def _through(iterator: Any) -> Iterator[Any]:
  """Yields an iterator and all those that it reads."""
  yield iterator
  # Grain's `_parents` is missing where a subclass does not call the constructor.
  for parent in getattr(iterator, "_parents", ()):
    yield from _through(parent)
