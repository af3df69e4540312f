"""The iterator of a live stream: one clock, repeated ticks, the end."""

import logging
import math
import weakref
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple, Protocol, runtime_checkable

import grain

from perceiver_stream.streams.base import check_state, exact_rate, make_tick
from perceiver_stream.streams.live_buffer import Buffer, EndOfSource, LiveTick, Pulse
from perceiver_stream.streams.live_sources import LiveError
from perceiver_stream.utils.addresses import hidden

logger = logging.getLogger(__name__)


class Start(NamedTuple):
  """The begin of a reading.

  Attributes:
    reader: Number of the reader, for `Feed.stop`.
    images: Images that came for readers before.
    dropped: Those of them that were dropped.
  """

  reader: int = 0
  images: int = 0
  dropped: int = 0


@runtime_checkable
class Feed(Protocol):
  """The source of a live stream's ticks: a reader of a camera or address, or `Push`.

  Attributes:
    name: For messages.
    buffer: Of ticks.
    pulse: Beats when something came.
    images: Number of images that came.
  """

  name: str
  buffer: Buffer
  pulse: Pulse
  images: int

  @property
  def rate_hz(self) -> float:
    """Images per second, as measured."""
    ...

  @property
  def limit_s(self) -> float:
    """Seconds without a beat after which the stream ends."""
    ...

  def start(self) -> Start:
    """Starts to fill the buffer, for a new reader."""
    ...

  def stop(self, reader: int) -> None:
    """Closes the buffer, unless another reader has started since; waits for no thread."""

  def join(self) -> None:
    """Waits, after `stop`, for the thread that fills the buffer."""


class _Reading:
  """A feed while one iterator reads it: the counts are those of this time."""

  def __init__(self, feed: Feed):
    self.feed = feed
    self._start = feed.start()
    self._counts: tuple[int, int, float] | None = None  # at the end

  def counts(self) -> tuple[int, int, float]:
    """Returns the images that came, those dropped, and the images per second."""
    if self._counts is not None:
      return self._counts
    feed, start = self.feed, self._start
    return feed.images - start.images, feed.buffer.dropped - start.dropped, feed.rate_hz

  def interrupt(self) -> None:
    """Lets nothing more come."""
    self.feed.stop(self._start.reader)

  def stop(self) -> None:
    """Ends the reading, and keeps the counts."""
    self._counts = self.counts()
    self.interrupt()
    self.feed.join()


class LiveIterator(grain.DatasetIterator):
  """Gives the ticks of a feed on one clock that starts at 0 and never goes back.

  The state is a time, not a place: `set_state` sets the clock and the counts, and the next tick is
  the next one that comes, with `is_first`.
  """

  is_live = True  # for `windows`: a stream that had ended may continue

  def __init__(self, config: Any, make_feed: Callable[[], Feed]):
    """Makes one.

    Args:
      config: A `streams.live.Config`.
      make_feed: Called at the first tick.
    """
    super().__init__()
    self._config, self._make_feed = config, make_feed
    self._readings: list[_Reading] = []  # one, once it has started
    self._state: dict[str, int] = {"time_us": 0, "count": 0, "dropped": 0}
    self._time = Fraction(0)  # of the newest tick
    self._shift: Fraction | None = None  # from the source's clock to the stream's
    self._newest: LiveTick | None = None
    self._dropped_before = 0
    self._is_over = self._is_interrupted = False
    weakref.finalize(self, _stop, self._readings)

  @property
  def dropped(self) -> int:
    """Images that were in a tick and not given, because newer ones came first."""
    return self._dropped_before + sum(reading.counts()[1] for reading in self._readings)

  @property
  def images(self) -> int:
    """Images that came from the source since it was opened."""
    return sum(reading.counts()[0] for reading in self._readings)

  @property
  def rate_hz(self) -> float:
    """Images per second that come from the source, as measured; 0 before the second."""
    return sum((reading.counts()[2] for reading in self._readings), 0.0)

  @property
  def arrived_s(self) -> float:
    """Arrival of the newest tick's image, see `LiveTick`; NaN before the first."""
    return math.nan if self._newest is None else self._newest.arrived_s

  def __next__(self) -> dict[str, Any]:
    self._assert_not_closed()
    state, config = self._state, self._config
    if self._is_over or 0 < config.max_ticks <= state["count"]:
      self._finish(f"max_ticks={config.max_ticks} is reached")
      raise StopIteration
    if not self._readings:
      self._readings.append(_Reading(self._make_feed()))
      if self._is_interrupted:  # while it started
        self._readings[0].interrupt()
    tick = self._take(self._readings[0].feed)
    self._newest, is_first = tick, tick.is_first or self._shift is None
    self._time = self._placed(tick.time)
    self._state = {
      "time_us": round(self._time * 10**6),
      "count": state["count"] + 1,
      "dropped": self.dropped,
    }
    return make_tick(tick.values, is_first, self._time)

  def _take(self, feed: Feed) -> LiveTick:
    """Returns the next tick, waiting for it; raises StopIteration or LiveError at the end."""
    wait_s = self._config.repeat_after_s or feed.limit_s
    while True:
      try:
        tick = feed.buffer.take(min(wait_s, feed.limit_s))
      except EndOfSource as end:
        self._end(feed, str(end))
      else:
        if tick is not None:
          return tick
        if feed.pulse.silent_s() >= feed.limit_s:
          self._end(feed, f"nothing came for {feed.limit_s:g} s")
        elif self._config.repeat_after_s and self._newest is not None:
          return self._repeated(self._newest)

  def _repeated(self, newest: LiveTick) -> LiveTick:
    """Returns the tick that stands for one that has not come: nothing in it is valid."""
    later = newest.time + Fraction(self._config.repeat_after_s).limit_denominator(10**6)
    values = {name: (array, False) for name, (array, _) in newest.values.items()}
    return LiveTick(values, False, later, newest.image, newest.arrived_s)

  def _placed(self, time: Fraction) -> Fraction:
    """Returns a time of the source on the stream's clock."""
    if self._shift is None:
      step = 1 / exact_rate(self._config.rate_hz) if self._state["count"] else Fraction(0)
      self._shift = self._time + step - time
    return max(self._time, time + self._shift)

  def _end(self, feed: Feed, why: str) -> None:
    """Raises StopIteration; LiveError if the source has never given anything."""
    if not feed.images:
      self.close()
      text = why if why.startswith("live: ") else f"live: no tick from {feed.name}: {why}."
      raise LiveError(text)
    self._finish(why)
    raise StopIteration

  def _finish(self, why: str) -> None:
    if not self._is_over:
      self._is_over = True
      logger.warning(
        "live: %s is over: %s. %d ticks were given, %d images dropped; %.4g images/s came.",
        self._readings[0].feed.name if self._readings else hidden(self._config.source),
        why,
        self._state["count"],
        self.dropped,
        self.rate_hz,
      )
      _stop(self._readings)

  def get_state(self) -> dict[str, Any]:
    """Returns the time and the counts."""
    return dict(self._state)

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Sets the clock and the counts.

    Raises:
      ValueError: The state is of another stream.
    """
    check_state("live stream", state, self._state)
    if self._is_over:
      self._readings.clear()
      self._is_over = False
    self._state = dict(state)
    self._time, self._shift, self._newest = Fraction(state["time_us"], 10**6), None, None
    self._dropped_before = state["dropped"] - sum(one.counts()[1] for one in self._readings)

  def interrupt(self) -> None:
    """Ends the stream, also for a thread that waits in `next`; waits for none."""
    self._is_interrupted = True
    for reading in self._readings:
      reading.interrupt()

  def close(self) -> None:
    """Closes the source, and logs the counts."""
    super().close()
    if self._state["count"] and self._readings:
      self._finish("it was closed")
    _stop(self._readings)


def _stop(readings: list[_Reading]) -> None:
  for reading in readings:
    reading.stop()
