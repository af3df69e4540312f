"""Frames that a program pushes into a stream: a robot's node, a simulator, a notebook."""

import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, SupportsFloat

import grain
import numpy as np

from perceiver_stream.streams.live_buffer import NEWEST, Buffer, LiveTick, Pulse
from perceiver_stream.streams.live_iterator import LiveIterator, Start
from perceiver_stream.types import ModalitySpec

_MOST_AHEAD = 64  # values of one name that wait for a tick of their time

_NAMED: "weakref.WeakValueDictionary[str, Push]" = weakref.WeakValueDictionary()


class Push(grain.IterDataset):
  """A stream of the values that `put` receives, from any thread.

    push = live.Push({"pixels": ModalitySpec(shape=(64, 64, 3), dtype="uint8")}, rate_hz=20)
    threading.Thread(target=node, args=(push,)).start()  # calls push.put("pixels", frame, time_s)
    training.train(dataclasses.replace(config, stream=push.config()))

  The first name of `specs` makes the ticks: each of its values is a tick at its time. The other
  names have in it their newest value that is not later, and are valid where that is new.

  A stream of pushed values has no past to return to: its position is a time. A run that is resumed
  continues its clock, with `is_first`, at the value that comes next; what was pushed in between,
  or was waiting in the buffer, is not read again.
  """

  def __init__(
    self,
    specs: Mapping[str, ModalitySpec],
    rate_hz: float = 25.0,
    *,
    name: str = "",
    when_faster: str = NEWEST,
    every: int = 2,
    buffer: int = 8,
    repeat_after_s: float = 0.0,
    timeout_s: float = 60.0,
    may_be_nan: Sequence[str] = (),
  ):
    """Makes a stream.

    Args:
      specs: Shape and dtype of each value, by name; `"pixels"` and `"audio"` as of other streams.
      rate_hz: Ticks per second that are meant, for what depends on a rate.
      name: By which `streams.live.Config(source="push:NAME")` finds it, in this process; by
        default `push`, or `push-1` and so on while others of that name are kept.
      when_faster: See `streams.live.Config`.
      every: Likewise.
      buffer: Likewise.
      repeat_after_s: Likewise.
      timeout_s: Seconds without a value after which the stream ends; and for which `put` waits.
      may_be_nan: Names whose NaN means no reading, as of depth.

    Raises:
      ValueError: A field is wrong, or another stream of that name is kept.
    """
    super().__init__()
    if not specs:
      raise ValueError("live.Push: specs is empty; give it the ModalitySpec of each value by name.")
    name = _free_name(name)
    self.specs, self.name, self.limit_s = dict(specs), f"live.Push {name!r}", timeout_s
    self._settings = {
      "source": f"push:{name}",
      "rate_hz": rate_hz,
      "when_faster": when_faster,
      "every": every,
      "buffer": buffer,
      "repeat_after_s": repeat_after_s,
      "timeout_s": timeout_s,
    }
    self.config().validate()
    self._leader, self._may_be_nan = next(iter(specs)), frozenset(may_be_nan)
    self.buffer, self.pulse, self.images = Buffer(when_faster, every, buffer), Pulse(), 0
    # By one thread at a time: taking a tick's place; the values. Reentrant: the garbage collector may
    # call `stop` anywhere.
    self._order, self._lock = threading.Lock(), threading.RLock()
    self._reader = 0  # number of the newest
    self._times: dict[str, float] = {}  # of the newest value
    self._ahead = {n: deque(maxlen=_MOST_AHEAD) for n in specs if n != self._leader}
    self._held = {n: np.zeros(s.shape, s.dtype) for n, s in specs.items()}
    self._arrivals: deque[float] = deque(maxlen=100)
    self._is_closed = self._is_stopped = False  # by the program; because its reader stopped
    _NAMED[name] = self

  def config(self, max_ticks: int = 0) -> Any:
    """Returns the `streams.live.Config` of this stream, for an experiment."""
    from perceiver_stream.streams import live  # which lists this class

    return live.Config(audio_rate_hz=0, max_ticks=max_ticks, **self._settings)

  def put(self, name: str, value: Any, time_s: SupportsFloat) -> bool:
    """Adds a value, which is copied; returns False where nobody will read it.

    That is after `close`, and after the iterator that read the stream was closed or had all its
    ticks, until another one starts.

    Args:
      name: One of `specs`.
      value: Of the shape of its spec; its dtype must fit without loss of kind (float64 to float32
        does, float to uint8 does not).
      time_s: On any clock; later than the one before of this name.

    Raises:
      ValueError: Name, shape, dtype or time are wrong, or a value is not finite.
      TimeoutError: With `when_faster="wait"`, the model took nothing for `timeout_s`.
    """
    spec, at_s = self.specs.get(name), float(time_s)
    if spec is None:
      raise ValueError(f"live.Push: there is no {name!r} in specs; use one of {list(self.specs)}.")
    array = self._checked(name, spec, value)
    if name == self._leader:
      return self._put_tick(array, at_s)
    with self._lock:
      self._check_time(name, at_s)
      self._times[name] = at_s
      self._ahead[name].append((at_s, array))
      return not (self._is_closed or self._is_stopped)

  def _put_tick(self, array: np.ndarray, at_s: float) -> bool:
    """Adds a value of the leader; one that finds no room changes nothing."""
    name = self._leader
    try:
      with self._order:
        self._check_time(name, at_s)
        if not self.buffer.wait_for_room(self.limit_s):
          return False
        with self._lock:
          self._times[name], self._held[name] = at_s, array
          tick = self._tick(at_s)
        return self.buffer.put(tick)
    except TimeoutError:
      raise TimeoutError(
        f"live.Push: the model took no tick for timeout_s={self.limit_s:g} while {name!r} waited; "
        f"start to read the stream, close it, or use when_faster='newest'."
      ) from None

  def _checked(self, name: str, spec: ModalitySpec, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != spec.shape or not np.can_cast(array.dtype, spec.dtype, "same_kind"):
      raise ValueError(
        f"live.Push: {name!r} is {array.dtype} {list(array.shape)}, expected {spec.dtype} "
        f"{list(spec.shape)}; convert it, or change its spec."
      )
    array = array.astype(spec.dtype)  # a copy
    if array.dtype.kind == "f" and name not in self._may_be_nan and not np.isfinite(array).all():
      raise ValueError(
        f"live.Push: {name!r} holds NaN or infinity; put nothing where there is no reading, or list "
        f"it in may_be_nan."
      )
    array.flags.writeable = False
    return array

  def _check_time(self, name: str, time_s: float) -> None:
    last = self._times.get(name)
    if not np.isfinite(time_s) or (last is not None and time_s <= last):
      raise ValueError(
        f"live.Push: {name!r} at time_s={time_s!r} after {last!r}; times of a name must be finite "
        f"and increase."
      )

  def _tick(self, time_s: float) -> LiveTick:
    """Returns the tick of the leader's newest value."""
    valid = {self._leader: True}
    for name, ahead in self._ahead.items():
      valid[name] = bool(ahead) and ahead[0][0] <= time_s
      while ahead and ahead[0][0] <= time_s:
        self._held[name] = ahead.popleft()[1]
    self.images += 1
    self._arrivals.append(time.monotonic())
    self.pulse.beat()
    values = {name: (self._held[name], valid[name]) for name in self.specs}
    at = Fraction(time_s).limit_denominator(10**9)
    return LiveTick(values, False, at, self.images, time.time())

  @property
  def dropped(self) -> int:
    """Values of the first name that were not given, because newer ones came first."""
    return self.buffer.dropped

  @property
  def rate_hz(self) -> float:
    """Values of the first name per second, as the newest 100 arrived; 0 before the second."""
    arrivals = list(self._arrivals)
    passed = arrivals[-1] - arrivals[0] if arrivals else 0.0
    return (len(arrivals) - 1) / passed if passed > 0 else 0.0

  def close(self) -> None:
    """Ends the stream after the ticks that wait."""
    self._is_closed = True
    self.buffer.close("it was closed")

  def start(self) -> Start:
    """Takes values, again if a reader before had stopped; called by the stream's iterator."""
    self.pulse.beat()
    with self._lock:
      if self._is_stopped and not self._is_closed:
        self._is_stopped = False
        self.buffer.reopen()
      self._reader += 1
      if self._reader == 1:  # what came before the first reader counts as its own
        return Start(1)
      return Start(self._reader, self.images - self.buffer.waiting, self.dropped)

  def stop(self, reader: int) -> None:
    """Refuses values until somebody reads them again, if `reader` is the newest."""
    with self._lock:
      if reader == self._reader:
        self._is_stopped = True
        self.buffer.close("its reader stopped")

  def join(self) -> None:
    """Returns: there is no thread."""

  def __iter__(self) -> LiveIterator:
    return LiveIterator(self.config(), lambda: self)


def _free_name(name: str) -> str:
  """Returns a name, or for "" one that is free; raises ValueError if it is taken."""
  if name in _NAMED:
    raise ValueError(
      f"live.Push: name={name!r} is that of another stream, which is still kept; use another name, "
      f"or let go of the other one first (del)."
    )
  names = itertools.chain(["push"], (f"push-{number}" for number in itertools.count(1)))
  return name or next(free for free in names if free not in _NAMED)


def named(name: str) -> Push:
  """Returns the stream of that name.

  Raises:
    ValueError: There is none in this process.
  """
  found = _NAMED.get(name)
  if found is None:
    raise ValueError(
      f"live: there is no live.Push named {name!r} in this process; make it first, and keep it: "
      f"push = streams.live.Push(specs, name={name!r}). There are: {sorted(_NAMED) or 'none'}."
    )
  return found
