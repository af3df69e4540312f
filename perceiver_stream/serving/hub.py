"""The newest message for any number of viewers; a slow one misses some and slows nobody."""

import asyncio
import threading
from collections.abc import Callable


class Hub:
  """Passes messages from one thread to viewers in an event loop; keeps only the newest.

  Attributes:
    published: Number of messages so far.
  """

  def __init__(self) -> None:
    self.published = 0
    self._newest = b""
    self._lock = threading.Lock()
    self._wakers: set[Callable[[], None]] = set()

  def publish(self, message: bytes) -> None:
    """Replaces the newest message; waits for no viewer."""
    with self._lock:
      self._newest, self.published = message, self.published + 1
      wakers = list(self._wakers)
    for wake in wakers:
      wake()

  def newest(self) -> tuple[int, bytes]:
    """Returns the number of messages so far, and the newest."""
    with self._lock:
      return self.published, self._newest

  def viewer(self) -> "Viewer":
    """Returns a new viewer, in the running event loop."""
    return Viewer(self)

  def add(self, wake: Callable[[], None]) -> None:
    """Calls `wake` at each message from now on, from the publishing thread."""
    with self._lock:
      self._wakers.add(wake)

  def remove(self, wake: Callable[[], None]) -> None:
    """Calls it no more."""
    with self._lock:
      self._wakers.discard(wake)


class Viewer:
  """The position of one viewer among the messages.

  Attributes:
    skipped: Messages that were replaced before this viewer was ready for them.
  """

  def __init__(self, hub: Hub):
    self.skipped = 0
    self._hub, self._loop, self._came = hub, asyncio.get_running_loop(), asyncio.Event()
    self._seen = max(0, hub.published - 1)  # the newest is shown at once
    hub.add(self._wake)

  async def next(self) -> bytes:
    """Returns the newest message, once there is one that this viewer has not had."""
    while True:
      self._came.clear()
      number, message = self._hub.newest()
      if number > self._seen:
        self.skipped += number - self._seen - 1
        self._seen = number
        return message
      await self._came.wait()

  def close(self) -> None:
    """Leaves the hub."""
    self._hub.remove(self._wake)

  def _wake(self) -> None:
    try:
      self._loop.call_soon_threadsafe(self._came.set)
    except RuntimeError:  # the loop is closed
      self._hub.remove(self._wake)
