"""Live sources: cameras, network streams, standard input, and frames that a program pushes.

Ticks are those of video files: the newest image, the sound since the tick before, one clock. They
come at the source's own pace: a thread reads the source, and where the model is slower the newest
tick wins and the images that it replaces are counted (`dropped` of the iterator). A source that was
cut off is connected to again; the first tick after the gap has `is_first`.

A live stream has no past to return to: its position is a time. A run that is resumed continues its
clock, with `is_first`, at what the source gives then. So results of live runs cannot be
reproduced; record the source to a file for that.
"""

import math
from dataclasses import dataclass

import grain

from perceiver_stream.streams import push
from perceiver_stream.streams.base import CROPS, StreamConfig, audio_spec, pixels_spec
from perceiver_stream.streams.live_buffer import POLICIES
from perceiver_stream.streams.live_iterator import LiveIterator
from perceiver_stream.streams.live_reader import Reader
from perceiver_stream.streams.live_sources import PUSH, parse
from perceiver_stream.streams.live_sources import LiveError as LiveError
from perceiver_stream.streams.push import Push as Push
from perceiver_stream.types import ModalitySpec
from perceiver_stream.utils.addresses import hidden


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A live stream. Choose a `rate_hz` no higher than the source's own rate.

  Attributes:
    source: `camera:0`, `/dev/video0`; `screen:`; `rtsp://`, `rtsps://`, `rtmp://`, `rtmps://`, `http://`,
      `https://` (also HLS playlists; `hls+https://` where the address does not show it), `udp://`,
      `srt://`, `tcp://`; `-`, standard input; `lavfi:testsrc=size=64x64:rate=25`, a test image;
      `push:NAME`, a `Push` of this process. With `+microphone:NAME` behind it the sound is that of
      a microphone.
    height: Rows of the image.
    width: Columns of the image.
    crop: `"centre"` keeps the aspect ratio and cuts the longer side; `"squash"` keeps all.
    when_faster: Where ticks come faster than the model takes them: `"newest"` keeps the newest
      alone; `"wait"` makes the source wait, which a camera does not; `"every"` takes one of `every`
      and drops the oldest of more than `buffer`.
    every: See `when_faster`.
    buffer: Ticks that wait for the model, with `"wait"` and `"every"`.
    repeat_after_s: Where ticks come slower: seconds after which the last one is repeated, not
      valid; 0: the model waits.
    timeout_s: Seconds without data after which a connection, or an attempt at one, is given up; a
      longer pause is a gap.
    reconnects: Attempts to connect again to a source that was cut off, without success, after which
      the stream ends.
    reconnect_wait_s: Seconds before the first of them; each later one waits twice as long, 30 s at
      most.
    reconnect_at_end: Whether a source that ends properly counts as cut off too.
  """

  source: str = ""
  height: int = 64
  width: int = 64
  crop: str = "centre"
  when_faster: str = "newest"
  every: int = 2
  buffer: int = 8
  repeat_after_s: float = 0.0
  timeout_s: float = 10.0
  reconnects: int = 5
  reconnect_wait_s: float = 0.5
  reconnect_at_end: bool = False

  def validate(self) -> None:
    """Checks the fields, but opens nothing; raises ValueError."""
    super().validate()
    for name in ("height", "width", "every", "buffer"):
      if getattr(self, name) < 1:
        raise ValueError(f"live: {name}={getattr(self, name)}; use at least 1.")
    for name, valid in (("crop", CROPS), ("when_faster", POLICIES)):
      if getattr(self, name) not in valid:
        raise ValueError(f"live: {name}={getattr(self, name)!r}; use one of {valid}.")
    for name in ("repeat_after_s", "reconnects", "reconnect_wait_s"):
      if not 0 <= getattr(self, name) < math.inf:
        raise ValueError(f"live: {name}={getattr(self, name)}; use 0 or more.")
    if not 0.001 <= self.timeout_s <= 3600:
      raise ValueError(f"live: timeout_s={self.timeout_s}; use 0.001 to 3600 seconds.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick; those of a `Push` are its own.

  Raises:
    ValueError: There is no `Push` of that name.
  """
  if config.source.startswith(PUSH):
    return dict(push.named(config.source.removeprefix(PUSH)).specs)
  known = {"pixels": pixels_spec(config, config.height, config.width)}
  return known | ({"audio": audio_spec(config)} if config.audio_rate_hz else {})


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the one row of a live stream; the source is opened at the first tick.

  Raises:
    ValueError: `source` is no live source, or there are several rows.
  """
  if num_rows > 1:
    raise ValueError(
      f"live: {num_rows} rows, but source={hidden(config.source)!r} is one; use num_rows=1, or "
      f"streams.mixture.Config with a live stream for each row."
    )
  if config.source.startswith(PUSH):
    push.named(config.source.removeprefix(PUSH))
  else:
    parse(config.source)
  return LiveStream(config)


class LiveStream(grain.IterDataset):
  """The ticks of a live source. Iterators have `dropped`, `images` and `rate_hz`, as measured."""

  def __init__(self, config: Config):
    super().__init__()
    self.config = config

  def __iter__(self) -> LiveIterator:
    source = self.config.source
    if source.startswith(PUSH):
      pushed = push.named(source.removeprefix(PUSH))
      return LiveIterator(self.config, lambda: pushed)
    return LiveIterator(self.config, lambda: Reader(parse(source), self.config))
