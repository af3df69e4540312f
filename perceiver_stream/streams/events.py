"""Clips of two events far apart in time, with captions: "red before blue".

In each recording a square of one colour appears for some ticks, and much later one of another colour,
at places and times that are drawn anew. The caption names both colours in their order, so a set of
frames without order fits two captions. Words are numbers of `WORDS`.
"""

from dataclasses import dataclass

import grain
import numpy as np

from perceiver_stream.streams.base import StreamConfig, check_least, exact_rate, pixels_spec
from perceiver_stream.streams.sim_recordings import Played, SimStream, seed_of
from perceiver_stream.types import ModalitySpec

COLOURS = {
  "red": (1.0, 0.0, 0.0),
  "green": (0.0, 1.0, 0.0),
  "blue": (0.0, 0.0, 1.0),
  "yellow": (1.0, 1.0, 0.0),
  "magenta": (1.0, 0.0, 1.0),
  "cyan": (0.0, 1.0, 1.0),
  "white": (1.0, 1.0, 1.0),
  "black": (0.0, 0.0, 0.0),
  "orange": (1.0, 0.5, 0.0),
}
WORDS = ("before", *COLOURS)


@dataclass(kw_only=True)
class Config(StreamConfig):
  """Recordings of two events each; ticks hold `pixels` and `caption`.

  Attributes:
    height: Rows of the image.
    width: Columns of the image.
    num_colours: Colours, the first of `COLOURS`.
    event_ticks: Ticks of an event.
    gap: Least ticks from the end of the first event to the start of the second.
    share: Side of the square as a share of the image's.
    noise: Deviation of noise in the images, as a share of full scale.
    ticks_per_recording: Ticks of a recording.
    seed: Of all draws.
  """

  rate_hz: float = 4.0
  audio_rate_hz: int = 0
  height: int = 32
  width: int = 32
  num_colours: int = len(COLOURS)
  event_ticks: int = 8
  gap: int = 24
  share: float = 0.5
  noise: float = 0.05
  ticks_per_recording: int = 64
  seed: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    least = {"height": 4, "width": 4, "num_colours": 2, "event_ticks": 1, "gap": 0, "seed": 0}
    least["ticks_per_recording"] = 2 * self.event_ticks + self.gap
    check_least("events", self, least)
    if self.num_colours > len(COLOURS):
      raise ValueError(f"events: num_colours={self.num_colours}; use at most {len(COLOURS)}.")
    if not 0 < self.share <= 1:
      raise ValueError(f"events: share={self.share}; use more than 0 and at most 1.")
    if not 0 <= self.noise <= 1:
      raise ValueError(f"events: noise={self.noise}; use 0 to 1.")
    if self.audio_rate_hz:
      raise ValueError(
        f"events: audio_rate_hz={self.audio_rate_hz}, but it is silent; set it to 0."
      )


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  rate = float(exact_rate(config.rate_hz))
  last = float(len(WORDS) - 1)
  return {
    "pixels": pixels_spec(config, config.height, config.width),
    "caption": ModalitySpec(shape=(3,), dtype="int32", maximum=last, rate_hz=rate, units="word id"),
  }


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row."""
  del num_rows
  return SimStream(config, row, Events)


class Events(Played):
  """One recording.

  Attributes:
    colours: Numbers of the colours of the first and the second event, in `COLOURS`.
    starts: First ticks of both events.
  """

  def __init__(self, config: Config, row: int, recording: int):
    self._config, self._tick = config, 0
    self._rng = rng = np.random.default_rng(seed_of(config.seed, row, recording))
    self.colours = rng.choice(config.num_colours, 2, replace=False)
    spare = config.ticks_per_recording - 2 * config.event_ticks - config.gap
    waits = np.sort(rng.integers(0, spare + 1, 2))
    self.starts = waits + [0, config.event_ticks + config.gap]
    sides = [max(1, round(config.share * side)) for side in (config.height, config.width)]
    room = [config.height - sides[0] + 1, config.width - sides[1] + 1]
    self._corners = rng.integers(0, room, (2, 2))
    self._sides = sides
    self._ground = rng.uniform(0.3, 0.7)
    first, second = self.colours
    self._caption = np.array([1 + first, WORDS.index("before"), 1 + second], np.int32)

  def move(self) -> None:
    """Advances by a tick; the noise of the skipped one is drawn too."""
    self.read()

  def read(self) -> dict[str, np.ndarray]:
    """Returns the next tick's values."""
    values = self.look()
    self._tick += 1
    return values

  def look(self) -> dict[str, np.ndarray]:
    """Returns the values of this tick, with new noise."""
    c = self._config
    image = np.full((c.height, c.width, 3), self._ground, np.float32)
    for colour, start, (y, x) in zip(self.colours, self.starts, self._corners, strict=True):
      if start <= self._tick < start + c.event_ticks:
        rgb = np.array(list(COLOURS.values())[colour], np.float32)
        image[y : y + self._sides[0], x : x + self._sides[1]] = 0.1 + 0.8 * rgb
    image += c.noise * self._rng.standard_normal(image.shape, np.float32)
    pixels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return {"pixels": pixels, "caption": self._caption}
