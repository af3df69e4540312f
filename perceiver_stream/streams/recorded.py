"""Recordings of several sensors, each with its own clock, on the ticks of one.

Tick i of a recording comes at the time i / rate_hz after its start. It has what each sensor gave
last by then: nothing later than the tick, and valid if not older than `max_age_s`. The state is a
position, so any tick is found again without those before it.
"""

import bisect
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Protocol, runtime_checkable

import grain
import numpy as np

from perceiver_stream.streams.base import (
  check_state,
  exact_rate,
  is_over,
  make_tick,
  samples_per_tick,
)
from perceiver_stream.types import ModalitySpec

_MOST_LOST = 100  # observations in a row that cannot be read, after which there is none


@runtime_checkable
class Recording(Protocol):
  """One recording."""

  def read(self, tick: int) -> dict[str, tuple[np.ndarray, bool]] | None:
    """Returns arrays and their validity at a tick; None after the last one."""
    ...

  def close(self) -> None:
    """Closes its files."""
    ...


class Sensor(NamedTuple):
  """The observations of one sensor.

  Attributes:
    spec: Of each.
    times: Seconds from the start of the recording, ascending.
    load: Returns the observation of a number; None where there is none or it cannot be read.
  """

  spec: ModalitySpec
  times: Sequence[Fraction]
  load: Callable[[int], np.ndarray | None]


class Newest:
  """Finds what each of several sensors gave last by the time of a tick."""

  def __init__(self, sensors: Mapping[str, Sensor], rate_hz: float, max_age_s: float):
    """Makes one.

    Args:
      sensors: By modality.
      rate_hz: Ticks per second.
      max_age_s: Older than this, an observation is not valid.
    """
    self._sensors, self._rate, self._max_age_s = sensors, exact_rate(rate_hz), max_age_s
    self._kept: dict[tuple[str, int], np.ndarray | None] = {}  # of the tick before

  def read(self, tick: int) -> dict[str, tuple[np.ndarray, bool]]:
    """Returns arrays and their validity at a tick."""
    time, kept, self._kept = tick / self._rate, self._kept, {}
    values = {}
    for name, sensor in self._sensors.items():
      last = bisect.bisect_right(sensor.times, time) - 1
      at, value = self._newest(name, sensor, last, kept)
      fresh = at >= 0 and time - sensor.times[at] <= self._max_age_s
      values[name] = (value, fresh and at == last)
    return values

  def _newest(
    self, name: str, sensor: Sensor, last: int, kept: Mapping[tuple[str, int], np.ndarray | None]
  ) -> tuple[int, np.ndarray]:
    """Returns the last that can be read, and its number; zeros and -1 where there is none."""
    for at in range(last, max(-1, last - _MOST_LOST), -1):
      value = kept[name, at] if (name, at) in kept else sensor.load(at)
      self._kept[name, at] = value
      if value is not None:
        return at, value
    return -1, np.zeros(sensor.spec.shape, sensor.spec.dtype)


def no_sound(config: Any) -> dict[str, tuple[np.ndarray, bool]]:
  """Returns the sound of a tick of a recording without any, which is not valid."""
  if not config.audio_rate_hz:
    return {}
  samples = samples_per_tick(config.rate_hz, config.audio_rate_hz)
  return {"audio": (np.zeros(samples, np.float32), False)}


def from_video(config: Any) -> dict[str, Any]:
  """Returns the fields that a `streams.video.Config` shares with configs of recordings.

  Raises:
    ValueError: It wants each image as a tick, without a rate.
  """
  if not config.rate_hz:
    raise ValueError(
      f"video: path={config.path!r} is a recording of a robot, or clips of a data set, whose ticks have a "
      f"constant rate; set a rate_hz, that of the camera."
    )
  return {name: getattr(config, name) for name in _OF_VIDEOS}


_OF_VIDEOS = (
  "path", "rate_hz", "audio_rate_hz", "max_ticks", "height", "width", "crop", "loops", "on_damage",
)  # fmt: skip


class RecordedStream(grain.IterDataset):
  """The ticks of recordings, one after the other.

  Attributes:
    config: With `rate_hz`, `max_ticks` and `loops`.
    sources: What each recording is opened from.
    open_recording: Opens one, of a source and the config; a function of a module.
  """

  def __init__(
    self, config: Any, sources: Sequence[Any], open_recording: Callable[[Any, Any], Recording]
  ):
    super().__init__()
    self.config, self.sources, self.open_recording = config, tuple(sources), open_recording

  def __iter__(self) -> "RecordedIterator":
    return RecordedIterator(self.config, self.sources, self.open_recording)


class RecordedIterator(grain.DatasetIterator):
  """Holds one recording open; its state is the position of the next tick."""

  def __init__(
    self, config: Any, sources: Sequence[Any], open_recording: Callable[[Any, Any], Recording]
  ):
    super().__init__()
    self._config, self._sources, self._open = config, sources, open_recording
    self._rate = exact_rate(config.rate_hz)
    self._recording: Recording | None = None
    self._state = {"loop": 0, "file": 0, "tick": 0, "count": 0}

  def __next__(self) -> dict[str, Any]:
    self._assert_not_closed()
    state, config = self._state, self._config
    while not is_over(state, config):
      if self._recording is None:
        self._recording = self._open(self._sources[state["file"]], config)
      values = self._recording.read(state["tick"])
      if values is not None:
        tick = make_tick(values, state["tick"] == 0, state["count"] / self._rate)
        state |= {"tick": state["tick"] + 1, "count": state["count"] + 1}
        return tick
      self._drop()
      file = (state["file"] + 1) % len(self._sources)
      state |= {"tick": 0, "file": file, "loop": state["loop"] + (file == 0)}
    self._drop()
    raise StopIteration

  def _drop(self) -> None:
    if self._recording is not None:
      self._recording.close()
      self._recording = None

  def get_state(self) -> dict[str, int]:
    """Returns the position of the next tick."""
    return dict(self._state)

  def set_state(self, state: Mapping[str, int]) -> None:
    """Goes to a tick; its recording is opened at the next read.

    Raises:
      ValueError: The state is of another stream.
    """
    what = f"{type(self._config).__module__.rpartition('.')[2]} stream"
    check_state(what, state, self._state)
    if not 0 <= state["file"] < len(self._sources):
      raise ValueError(
        f"{what}: the state to restore is at recording {state['file']}, but there are "
        f"{len(self._sources)}; restore with the same path."
      )
    self._drop()
    self._state = {name: int(value) for name, value in state.items()}

  def close(self) -> None:
    """Closes the recording."""
    super().close()
    self._drop()
