"""A clock that tells when an image matters: the miniature task of choosing what to observe.

A recording has some zeros of a `clock`, which counts down to them. Each tick's image shows one of
`num_classes` patterns, and the recording's `label` is the pattern at the last zero: all other images are
of no use. With `random_zeros` their ticks are drawn anew for each recording, and only the clock announces
them; otherwise they are the same in all recordings, and the clock says nothing new.
"""

from dataclasses import dataclass

import grain
import numpy as np

from perceiver_stream.streams.base import StreamConfig, check_least, exact_rate, pixels_spec
from perceiver_stream.streams.sim_recordings import Played, SimStream, seed_of
from perceiver_stream.types import ModalitySpec

CELLS = 8  # of the clock: the longest time that it shows, ticks
_SIDE = 8  # of a pattern
_GAP = 2  # least ticks from one zero to the next; the first is not earlier


@dataclass(kw_only=True)
class Config(StreamConfig):
  """Recordings with one class each; ticks hold `pixels`, `clock` and `label`.

  Attributes:
    height: Rows of the image.
    width: Columns of the image.
    num_classes: Classes.
    random_zeros: Whether the ticks of the zeros are drawn anew for each recording.
    most_zeros: Largest number of zeros if they are drawn; 1 to this number are. Without, it is their
      number.
    noise: Deviation of noise in the images, as a share of full scale.
    ticks_per_recording: Ticks of a recording.
    seed: Of all draws.
  """

  rate_hz: float = 4.0
  audio_rate_hz: int = 0
  height: int = _SIDE
  width: int = _SIDE
  num_classes: int = 4
  random_zeros: bool = True
  most_zeros: int = 3
  noise: float = 0.2
  ticks_per_recording: int = 16
  seed: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    least = {"height": 1, "width": 1, "num_classes": 2, "most_zeros": 1, "seed": 0}
    least["ticks_per_recording"] = _GAP * (self.most_zeros + 1)
    check_least("countdown", self, least)
    if self.audio_rate_hz:
      raise ValueError(
        f"countdown: audio_rate_hz={self.audio_rate_hz}, but it is silent; set it to 0."
      )


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  rate = float(exact_rate(config.rate_hz))
  last = float(config.num_classes - 1)
  return {
    "pixels": pixels_spec(config, config.height, config.width),
    "clock": ModalitySpec(shape=(CELLS,), maximum=1.0, rate_hz=rate, units="share"),
    "label": ModalitySpec(shape=(), dtype="int32", maximum=last, rate_hz=rate, units="class id"),
  }


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row."""
  del num_rows
  return SimStream(config, row, Countdown)


def patterns(num_classes: int) -> np.ndarray:
  """Returns the images of the classes, `[num_classes, 8, 8]` float64 of -1 and 1, in all streams."""
  coarse = np.random.default_rng(5).permutation(2**16)[:num_classes]
  bits = (coarse[:, None] >> np.arange(16)) & 1
  grids = bits.reshape(-1, 4, 4).repeat(2, axis=1).repeat(2, axis=2)
  return 2.0 * grids - 1.0


class Countdown(Played):
  """One recording.

  Attributes:
    zeros: Ticks at which the clock is at zero, in order.
    shown: Class in the image of each tick.
  """

  def __init__(self, config: Config, row: int, recording: int):
    rng = np.random.default_rng(seed_of(config.seed, row, recording))
    self._tick, ticks = 0, config.ticks_per_recording
    self.zeros = _drawn(rng, config) if config.random_zeros else _fixed(config)
    self.shown = rng.integers(config.num_classes, size=ticks)
    grids = patterns(config.num_classes)[self.shown]
    rows, columns = (np.arange(n) * _SIDE // n for n in (config.height, config.width))
    images = 0.5 + 0.3 * grids[:, rows][:, :, columns, None] * np.ones(3)
    images += config.noise * rng.standard_normal(images.shape)
    self._images = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
    self._clock = np.stack([_bar(t, self.zeros) for t in range(ticks)])
    self._label = np.asarray(self.shown[self.zeros[-1]], np.int32)

  def move(self) -> None:
    """Advances by a tick."""
    self._tick += 1

  def look(self) -> dict[str, np.ndarray]:
    """Returns the values of this tick."""
    t = self._tick
    return {"pixels": self._images[t], "clock": self._clock[t], "label": self._label}


def _drawn(rng: np.random.Generator, config: Config) -> np.ndarray:
  number = int(rng.integers(1, config.most_zeros + 1))
  room = config.ticks_per_recording - _GAP * number
  places = np.sort(rng.integers(0, room, number))
  return places + _GAP * (1 + np.arange(number))


def _fixed(config: Config) -> np.ndarray:
  share = (1 + np.arange(config.most_zeros)) / (config.most_zeros + 1)
  return np.floor(share * config.ticks_per_recording).astype(int)


def _bar(tick: int, zeros: np.ndarray) -> np.ndarray:
  """Returns the ticks left as ones, `[8]`; a full bar if no zero follows."""
  after = zeros[zeros >= tick]
  left = min(CELLS, int(after[0]) - tick) if len(after) else CELLS
  return (np.arange(CELLS) < left).astype(np.float32)
