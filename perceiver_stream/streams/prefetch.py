"""Reading ahead in a thread, with a bounded queue, and the time spent waiting for it counted."""

import logging
import threading
import time
import weakref
from typing import Any

import grain

from perceiver_stream.streams.wrapped import dropped, interrupt, is_live

STALL_S = 60.0
logger = logging.getLogger(__name__)


def prefetch(dataset: grain.IterDataset, depth: int = 4) -> grain.IterDataset:
  """Returns the same elements, made ahead of time in a thread.

  The reader stops when `depth` elements wait to be consumed. State is that of the element last
  consumed, not of the one last read. Errors of the reader are raised by `next`.

  Iterators have `waiting_s`, the seconds that `next` has waited for the reader so far, and
  `close()`, which ends the thread. A stream that gives nothing for a minute (a disk or network that
  is gone) is waited for: the log reports it, and a second ctrl-C leaves it.

  Raises:
    ValueError: `depth` is below 1.
  """
  if depth < 1:
    raise ValueError(f"streams.prefetch: depth={depth}; use at least 1 element.")
  return _Prefetch(dataset, depth)


class _Prefetch(grain.IterDataset):
  def __init__(self, parent: grain.IterDataset, depth: int):
    super().__init__(parent)
    self._dataset, self._depth = parent, depth

  def __iter__(self) -> "PrefetchIterator":
    ahead = grain.experimental.ThreadPrefetchIterDataset(
      _Carried(self._dataset), prefetch_buffer_size=self._depth
    )
    return PrefetchIterator(ahead.__iter__())


class _CarriedError(Exception):
  """Carries a KeyboardInterrupt or SystemExit out of the reader's thread.

  Grain forwards only `Exception`; its thread would end, and the consumer wait for ever.
  """

  def __init__(self, carried: BaseException):
    super().__init__(repr(carried))
    self.carried = carried


class _Carried(grain.IterDataset):
  def __init__(self, parent: grain.IterDataset):
    super().__init__(parent)
    self._dataset = parent

  def __iter__(self) -> "_CarriedIterator":
    return _CarriedIterator(self._dataset.__iter__())


class _CarriedIterator(grain.DatasetIterator):
  def __init__(self, iterator: grain.DatasetIterator):
    super().__init__()
    self._iterator = iterator

  def __next__(self) -> Any:
    try:
      return next(self._iterator)
    except Exception:
      raise
    except BaseException as error:
      raise _CarriedError(error) from error

  def get_state(self) -> dict[str, Any]:
    return self._iterator.get_state()

  def set_state(self, state: dict[str, Any]) -> None:
    self._iterator.set_state(state)

  @property
  def is_live(self) -> bool:
    """See `wrapped.is_live`."""
    return is_live(self._iterator)

  @property
  def dropped(self) -> int:
    """See `wrapped.dropped`."""
    return dropped(self._iterator)

  def interrupt(self) -> None:
    """Ends live sources under it."""
    interrupt(self._iterator)

  def close(self) -> None:
    super().close()
    getattr(self._iterator, "close", lambda: None)()


class PrefetchIterator(grain.DatasetIterator):
  """Counts the time that its thread keeps the consumer waiting."""

  def __init__(self, ahead: grain.DatasetIterator):
    super().__init__()
    self.waiting_s = 0.0
    self._watched = _Watch()
    self._ahead = [ahead]
    # Also at the end of the program: Grain's thread would complain later on, and from Python 3.13
    # on, joining a daemon thread never returns once the interpreter is shutting down.
    weakref.finalize(self, _let_go, self._ahead, self._watched)

  def __next__(self) -> Any:
    self._assert_not_closed()
    start = time.perf_counter()
    with self._watched:
      try:
        return next(self._ahead[0])
      except _CarriedError as error:
        raise error.carried from error
      finally:
        self.waiting_s += time.perf_counter() - start

  @property
  def is_live(self) -> bool:
    """See `wrapped.is_live`."""
    return is_live(self._ahead[0])

  @property
  def dropped(self) -> int:
    """See `wrapped.dropped`."""
    return dropped(self._ahead[0])

  def get_state(self) -> dict[str, Any]:
    """Returns the state after the element last consumed."""
    return self._ahead[0].get_state()

  def set_state(self, state: dict[str, Any]) -> None:
    """Continues after the element at which `state` was taken."""
    self._ahead[0].set_state(state)

  def close(self) -> None:
    """Ends the thread and closes what it reads from."""
    super().close()
    self._watched.close()
    for ahead in self._ahead:
      interrupt(ahead)
      ahead.close()


class _Watch:
  """Logs when a `with` block takes too long, from a thread of its own."""

  def __init__(self) -> None:
    self._since: float | None = None
    self._ended = threading.Event()
    self._thread: threading.Thread | None = None

  def __enter__(self) -> None:
    self._since = time.monotonic()
    if self._thread is None:
      self._thread = threading.Thread(target=_say_stalls, args=(weakref.ref(self), self._ended))
      self._thread.daemon = True
      self._thread.start()

  def __exit__(self, *error: object) -> None:
    self._since = None

  def stalled_s(self) -> float:
    """Returns the time since the block began, in seconds."""
    since = self._since
    return 0.0 if since is None else time.monotonic() - since

  def close(self) -> None:
    """Ends the thread."""
    self._ended.set()
    if self._thread is not None:
      self._thread.join()


def _say_stalls(reference: "weakref.ref[_Watch]", ended: threading.Event) -> None:
  reported = 0
  while not ended.wait(STALL_S / 4) and (watch := reference()) is not None:
    stalls = int(watch.stalled_s() / STALL_S)
    if stalls > reported:
      logger.warning("The stream has given nothing for %.3g s; waiting for it.", stalls * STALL_S)
    reported = stalls
    del watch


def _let_go(ahead: list[grain.DatasetIterator], watched: _Watch) -> None:
  watched.close()
  while ahead:
    interrupt(ahead[-1])
    ahead.pop().close()
