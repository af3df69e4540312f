"""Topics of a recording as modalities: which topic is which, and its values."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np

from perceiver_stream.files.limits import RefusedError
from perceiver_stream.streams import bag_images, messages
from perceiver_stream.streams.bag_index import Topic
from perceiver_stream.streams.base import exact_rate, pixels_spec
from perceiver_stream.streams.damage import DamagedError, Ledger
from perceiver_stream.streams.picker import Picker
from perceiver_stream.streams.recorded import Sensor
from perceiver_stream.types import ModalitySpec

PIXELS, DEPTH, IMU, JOINTS = DEFAULTS = ("pixels", "depth", "imu", "joints")
GRAVITY = 9.80665  # m/s², the unit of accelerations: they are then about 1
_TRIED = 20  # messages at the start that are read to learn a topic's kind and size


class Source(NamedTuple):
  """A topic, and how to read a message of it by number."""

  topic: Topic
  read: Callable[[int], bytes]

  def message(self, at: int) -> Any:
    """Returns a message; DamagedError if it cannot be decoded."""
    return messages.decode(self.read(at), self.topic.type, self.topic.encoding)

  def first(self) -> Any:
    """Returns the first message that can be decoded."""
    error: Exception = DamagedError("it has no message")
    for at in range(min(_TRIED, len(self.topic.times_ns))):
      try:
        return self.message(at)
      except (DamagedError, RefusedError) as failed:
        error = failed
    raise DamagedError(f"{self.topic}: its first messages cannot be decoded: {error}.") from error


def kind_of(source: Source) -> str:
  """Returns one of `DEFAULTS`, or "" for messages that are no modality."""
  topic = source.topic
  if not messages.is_known(topic.type, topic.encoding) or not len(topic.times_ns):
    return ""
  if topic.type in (messages.IMU, messages.JOINTS):
    return IMU if topic.type == messages.IMU else JOINTS
  if topic.type in messages.IMAGES:
    first = source.first()
    if isinstance(first, messages.RawImage) and first.encoding in bag_images.DEPTHS:
      return DEPTH
  return PIXELS


def choose(sources: Sequence[Source], wanted: Sequence[str], where: str) -> dict[str, str]:
  """Returns the name of a topic for each modality.

  Args:
    sources: All topics of the recording.
    wanted: "NAME=TOPIC", or one of `DEFAULTS`: the first topic of this kind; empty: all of
      `DEFAULTS` that there are.
    where: Name of the recording, for messages.

  Raises:
    ValueError: A topic is not there, or is no modality; the message lists the topics.
  """
  kinds: dict[str, str] = {}  # topic by kind; the first counts
  for source in sources:
    if not all("=" in entry for entry in wanted) or not wanted:
      kinds.setdefault(kind_of(source), source.topic.name)
  chosen = {}
  for entry in wanted or [kind for kind in DEFAULTS if kind in kinds]:
    name, _, topic = entry.partition("=")
    topic = topic or (kinds.get(name, "") if name in DEFAULTS else "")
    source = next((s for s in sources if s.topic.name == topic), None)
    if source is None or not kind_of(source):
      raise ValueError(f"{where}: {_why_not(entry, source)} {_present(sources)}")
    chosen[name] = topic
  if not chosen:
    raise ValueError(f"{where}: no topic has images, IMU data or joint states. {_present(sources)}")
  return chosen


def _why_not(entry: str, source: Source | None) -> str:
  if source is None:
    return (
      f"topics={entry!r}: there is no such topic; use NAME=TOPIC, or one of {DEFAULTS} for the first "
      f"of its kind."
    )
  return f"topics={entry!r}: messages of {source.topic} ({source.topic.encoding}) are not decoded."


def _present(sources: Sequence[Source]) -> str:
  return f"It has: {', '.join(str(s.topic) for s in sources[:50]) or 'no message'}."


class Seconds(Sequence):
  """Times of a topic in exact seconds from the start of its recording."""

  def __init__(self, times_ns: np.ndarray, start_ns: int):
    self._times_ns, self._start_ns = times_ns, start_ns

  def __len__(self) -> int:
    return len(self._times_ns)

  def __getitem__(self, at: Any) -> Any:
    return Fraction(int(self._times_ns[at]) - self._start_ns, 10**9)


def make_sensor(source: Source, config: Any, start_ns: int, ledger: Ledger) -> Sensor:
  """Returns the observations of a topic.

  Args:
    source: Of the topic.
    config: A `streams.bags.Config`.
    start_ns: Start of the recording, on the clock of the messages.
    ledger: Receives damage.
  """
  spec, value = _VALUES[kind_of(source)](source, config)

  def load(at: int) -> np.ndarray | None:
    try:
      array = value(at)
    except (DamagedError, RefusedError) as error:
      ledger.book("packets", f"message {at} of {source.topic.name}: {error}")
      return None
    if array.shape != spec.shape:
      ledger.book("packets", f"message {at} of {source.topic.name} has {array.shape} values")
      return None
    array.flags.writeable = False
    return array

  return Sensor(spec, Seconds(source.topic.times_ns, start_ns), load)


Values = tuple[ModalitySpec, Callable[[int], np.ndarray]]


def _pixels(source: Source, config: Any) -> Values:
  picker = Picker(config.height, config.width, config.crop)
  is_video = source.topic.type == messages.VIDEO
  frame = bag_images.VideoFrames(source.message) if is_video else _frames(source)
  return pixels_spec(config, config.height, config.width), lambda at: picker(frame(at))


def _frames(source: Source) -> Callable[[int], av.VideoFrame]:
  def frame(at: int) -> av.VideoFrame:
    message = source.message(at)
    is_raw = isinstance(message, messages.RawImage)
    return bag_images.raw_frame(message) if is_raw else bag_images.encoded_frame(message)

  return frame


def _depth(source: Source, config: Any) -> Values:
  def value(at: int) -> np.ndarray:
    return bag_images.raw_depth(source.message(at), config.height, config.width, config.crop)

  return _free(config, (config.height, config.width), "m"), value


def _imu(source: Source, config: Any) -> Values:
  def value(at: int) -> np.ndarray:
    imu = source.message(at)
    return _finite([imu.angular_velocity, imu.linear_acceleration / GRAVITY])

  return _free(config, (6,), "rad/s, 9.80665 m/s²"), value


def _joints(source: Source, config: Any) -> Values:
  first = source.first()
  names, has_velocities = first.names, 0 < len(first.names) == len(first.velocities)

  def value(at: int) -> np.ndarray:
    joints = source.message(at)
    places = {name: place for place, name in enumerate(joints.names)}
    if missing := [
      n for n in names if places.get(n, len(joints.positions)) >= len(joints.positions)
    ]:
      raise DamagedError(f"it has no position of the joints {missing[:5]}, which the first one has")
    order = [places[name] for name in names]
    if has_velocities and len(joints.velocities) != len(joints.names):
      raise DamagedError("it has no velocities, which the first one has")
    parts = [joints.positions, joints.velocities] if has_velocities else [joints.positions]
    return _finite([part[order] for part in parts])

  return _free(config, (len(names) * (1 + has_velocities),), "rad or m, per s"), value


def _finite(parts: Sequence[np.ndarray]) -> np.ndarray:
  with np.errstate(over="ignore"):
    array = np.concatenate(parts).astype(np.float32)
  if not np.isfinite(array).all():
    raise DamagedError("it has a number that is not finite")
  return array


def _free(config: Any, shape: tuple[int, ...], units: str) -> ModalitySpec:
  rate_hz = float(exact_rate(config.rate_hz))
  return ModalitySpec(shape=shape, maximum=0.0, rate_hz=rate_hz, units=units)


_VALUES: dict[str, Callable[[Source, Any], Values]] = {
  PIXELS: _pixels,
  DEPTH: _depth,
  IMU: _imu,
  JOINTS: _joints,
}
