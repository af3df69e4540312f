"""Graceful stop: a signal sets a request, and the loop stops when its window is done.

The signals are SIGINT (ctrl-C), SIGTERM (a scheduler) and SIGHUP (the terminal or connection is gone).
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class StopRequest:
  """A request to stop, and its cause."""

  def __init__(self) -> None:
    self.reason = ""

  def __bool__(self) -> bool:
    return bool(self.reason)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
  """Yields a request that becomes true on a signal; a second one ends the process.

  Outside the main thread, where Python cannot handle signals, it never becomes true.
  """
  request = StopRequest()
  before: dict[int, Any] = {}

  def handle(number: int, frame: FrameType | None) -> None:
    del frame
    request.reason = signal.Signals(number).name
    for each, handler in before.items():
      signal.signal(each, handler)

  if threading.current_thread() is threading.main_thread():
    for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
      before[number] = signal.signal(number, handle)
  try:
    yield request
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
