"""Clips with classes that are seen slowly and heard at once: a pulsing disc and its tone.

The class of a recording is the period at which a disc changes its brightness; each class has a tone.
Position, colour, size, phase and speed of the disc, background and loudness are drawn anew for each
recording, so a few frames do not show the class; a whole period or the sound does.
"""

from dataclasses import dataclass

import grain
import numpy as np

from perceiver_stream.streams.base import (
  StreamConfig,
  audio_spec,
  check_least,
  exact_rate,
  pixels_spec,
  samples_per_tick,
)
from perceiver_stream.streams.sim_recordings import Played, SimStream, seed_of
from perceiver_stream.types import ModalitySpec


@dataclass(kw_only=True)
class Config(StreamConfig):
  """Recordings of one class each; ticks hold `pixels`, `audio` and `label`.

  Attributes:
    height: Rows of the image.
    width: Columns of the image.
    num_classes: Classes.
    shortest: Period of the first class in ticks.
    longest: Period of the last class in ticks; the others are spaced evenly in their logarithm.
    lowest_hz: Tone of the first class.
    highest_hz: Tone of the last class, spaced likewise.
    noise: Deviation of noise in images and sound, as a share of full scale.
    ticks_per_recording: Ticks of a recording.
    seed: Of all draws.
  """

  rate_hz: float = 10.0
  audio_rate_hz: int = 8000
  height: int = 24
  width: int = 24
  num_classes: int = 4
  shortest: float = 8.0
  longest: float = 32.0
  lowest_hz: float = 300.0
  highest_hz: float = 2400.0
  noise: float = 0.05
  ticks_per_recording: int = 16
  seed: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    least = {"height": 8, "width": 8, "num_classes": 2, "ticks_per_recording": 1, "seed": 0}
    check_least("pulses", self, least)
    if not 2 <= self.shortest <= self.longest:
      raise ValueError(
        f"pulses: shortest={self.shortest} and longest={self.longest} ticks; use 2 or more, in order."
      )
    if not 0 < self.lowest_hz <= self.highest_hz < max(self.audio_rate_hz, 1) / 2:
      raise ValueError(
        f"pulses: tones from {self.lowest_hz} to {self.highest_hz} Hz at audio_rate_hz="
        f"{self.audio_rate_hz}; use more than 0 and less than half of the rate."
      )


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  rate = float(exact_rate(config.rate_hz))
  label = ModalitySpec(
    shape=(), dtype="int32", maximum=float(config.num_classes - 1), rate_hz=rate, units="class id"
  )
  return {
    "pixels": pixels_spec(config, config.height, config.width),
    "audio": audio_spec(config),
    "label": label,
  }


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row."""
  del num_rows
  return SimStream(config, row, Pulse)


class Pulse(Played):
  """One recording."""

  def __init__(self, config: Config, row: int, recording: int):
    self._config, self._tick = config, 0
    self._rng = rng = np.random.default_rng(seed_of(config.seed, row, recording))
    self._label = int(rng.integers(config.num_classes))
    share = self._label / (config.num_classes - 1)
    self._period = config.shortest * (config.longest / config.shortest) ** share
    self._hz = config.lowest_hz * (config.highest_hz / config.lowest_hz) ** share
    self._phase = rng.uniform(0, 2 * np.pi, 2)
    unit = min(config.height, config.width)
    self._place = rng.uniform(0.3, 0.7, 2) * (config.height, config.width)
    self._velocity = rng.uniform(-0.01, 0.01, 2) * unit
    self._radius, self._loudness = rng.uniform(0.2, 0.35) * unit, rng.uniform(0.2, 0.5)
    self._colour, self._ground = rng.uniform(0.4, 1, 3), rng.uniform(0, 0.3, 3)

  def move(self) -> None:
    """Advances by a tick; the noise of the skipped one is drawn too."""
    self.look()
    self._tick += 1

  def read(self) -> dict[str, np.ndarray]:
    """Returns the next tick's values."""
    values = self.look()
    self._tick += 1
    return values

  def look(self) -> dict[str, np.ndarray]:
    """Returns the values of this tick, with new noise."""
    c, samples = self._config, samples_per_tick(self._config.rate_hz, self._config.audio_rate_hz)
    y, x = self._place + self._tick * self._velocity
    rows, columns = np.indices((c.height, c.width)) + 0.5
    inside = np.clip(self._radius + 0.5 - np.hypot(rows - y, columns - x), 0, 1)[..., None]
    pulse = 0.5 + 0.5 * np.sin(2 * np.pi * self._tick / self._period + self._phase[0])
    image = (1 - inside) * self._ground + inside * self._colour * pulse
    image = image + c.noise * self._rng.standard_normal(image.shape)
    time = (self._tick * samples + np.arange(samples)) / c.audio_rate_hz
    sound = self._loudness * np.sin(2 * np.pi * self._hz * time + self._phase[1])
    sound = sound + c.noise * self._rng.standard_normal(samples)
    return {
      "pixels": np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8),
      "audio": np.clip(sound, -1, 1).astype(np.float32),
      "label": np.asarray(self._label, np.int32),
    }
