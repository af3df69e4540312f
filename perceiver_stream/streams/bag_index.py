"""Topics of recordings: where each message is, and when it was recorded."""

from collections.abc import Iterable
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable

import numpy as np

from perceiver_stream.files import limits
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.messages import plain_type
from perceiver_stream.utils.paths import user_path

_LONGEST_NAME = 4096
_NANOSECOND = 10**9


class Topic(NamedTuple):
  """The messages of one topic, in the order of their times.

  Attributes:
    name: As recorded, "/camera/image".
    type: In the form of `messages.plain_type`.
    encoding: Of the messages, "cdr", "ros1", "protobuf" or another one.
    times_ns: int64 `[N]`, when each was recorded, ascending.
    places: int64 `[N, 2]`, for `BagFile.read`.
  """

  name: str
  type: str
  encoding: str
  times_ns: np.ndarray
  places: np.ndarray

  def __str__(self) -> str:
    return f"{self.name} ({self.type}, {len(self.times_ns)} messages)"


@runtime_checkable
class BagFile(Protocol):
  """One open file of a recording."""

  topics: list[Topic]

  def read(self, place: np.ndarray) -> bytes:
    """Returns the bytes of the message at a place of `Topic.places`."""
    ...

  def close(self) -> None:
    """Closes the file."""
    ...


class Entries:
  """Collects messages by channel while a file is scanned."""

  def __init__(self, path: str):
    self._path, self._count = path, 0
    self.channels: dict[int, tuple[str, str, str]] = {}  # name, type, encoding
    self._times: dict[int, list[np.ndarray]] = {}
    self._places: dict[int, list[np.ndarray]] = {}

  def add_channel(self, number: int, topic: str, message_type: str, encoding: str) -> None:
    """Notes the topic and type of a channel; the first word counts."""
    for text in (topic, message_type, encoding):
      if len(text) > _LONGEST_NAME:
        raise limits.RefusedError(
          f"{self._path} refused: a name of {len(text)} characters; the most is {_LONGEST_NAME}."
        )
    self.channels.setdefault(number, (topic, plain_type(message_type), encoding))

  def add(self, channel: int, times_ns: Iterable[int], places: Iterable[tuple[int, int]]) -> None:
    """Adds messages of a channel.

    Raises:
      DamagedError: A time is not below 2⁶³ ns.
      RefusedError: There are more than `limits.MAX_MESSAGES`.
    """
    try:
      times = np.fromiter(times_ns, np.int64)
    except OverflowError as error:
      raise DamagedError(
        f"{self._path} is damaged: channel {channel} has a time that no clock gives ({error})."
      ) from error
    self.check_count(len(times))
    self._count += len(times)
    self._times.setdefault(channel, []).append(times)
    self._places.setdefault(channel, []).append(np.array([*places], np.int64).reshape(-1, 2))

  def check_count(self, more: int) -> None:
    """Raises RefusedError if with `more` messages there are over `limits.MAX_MESSAGES`."""
    if self._count + more > limits.MAX_MESSAGES:
      raise limits.RefusedError(
        f"{self._path} refused: it has more than {limits.MAX_MESSAGES} messages; cut it."
      )

  def topics(self) -> list[Topic]:
    """Returns the topics that were found; channels of one topic and type are one."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for number in self._times:
      if number in self.channels:
        found.setdefault(self.channels[number], []).append(number)
    topics = []
    for (name, message_type, encoding), numbers in sorted(found.items()):
      times = np.concatenate([part for n in numbers for part in self._times[n]])
      places = np.concatenate([part for n in numbers for part in self._places[n]])
      order = np.argsort(times, kind="stable")
      topics.append(Topic(name, message_type, encoding, times[order], places[order]))
    return topics


def check_span(path: str, topics: Iterable[Topic]) -> None:
  """Raises DamagedError unless the times of topics are those of one recording."""
  ends = [(topic.times_ns[0], topic.times_ns[-1]) for topic in topics if len(topic.times_ns)]
  first, last = min(a for a, _ in ends), max(b for _, b in ends)
  if int(last) - int(first) > limits.MAX_SECONDS * _NANOSECOND:
    raise DamagedError(
      f"{path}: times of its messages go from {first / 1e9:g} to {last / 1e9:g} s, which is no "
      f"recording; leave the topic that is wrong out of topics."
    )


def open_regular(path: str) -> tuple[BinaryIO, int]:
  """Returns an open file and its size in bytes.

  Raises:
    RefusedError: It is not a regular file.
  """
  place = user_path(path)
  if not place.is_file():
    raise limits.RefusedError(f"{path} refused: it is not a regular file.")
  return place.open("rb"), place.stat().st_size
