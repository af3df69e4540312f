"""Clips with classes that are seen slowly and heard at once: a pulsing disc and its tone.

The class of a recording is the period at which a disc changes its brightness; each class has a tone.
Position, colour, size, phase and speed of the disc, background and loudness are drawn anew for each
recording, so a few frames do not show the class; a whole period or the sound does. Captions name class
and colour; `place` is where the sound comes from.
"""

from dataclasses import dataclass, replace

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

MODALITIES = ("pixels", "audio", "label", "place", "caption")
WORDS = 4  # of a caption: class, strongest colour, half of the image, and one of FILLERS
COLOURS, HALVES, FILLERS = 3, 2, 8


@dataclass(kw_only=True)
class Config(StreamConfig):
  """Recordings of one class each.

  Attributes:
    modalities: Of a tick, from `MODALITIES`: `place` `[2]` is the centre of the disc that sounds, row and
      column in pixels; `caption` `[4]` the numbers of the words for class, strongest colour, half of the
      image and a filler, below `vocabulary`.
    height: Rows of the image.
    width: Columns of the image.
    num_classes: Classes.
    shortest: Period of the first class in ticks.
    longest: Period of the last class in ticks; the others are spaced evenly in their logarithm.
    lowest_hz: Tone of the first class.
    highest_hz: Tone of the last class, spaced likewise.
    noise: Deviation of noise in images and sound, as a share of full scale.
    swell: Share of the loudness that follows the disc's brightness; 0: a steady tone.
    silent: Whether a second disc pulses in another class's period, unheard. Discs are then smaller, one in
      each half of the image.
    wrong_captions: Share of ticks whose caption is that of another class.
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
  modalities: tuple[str, ...] = ("pixels", "audio", "label")
  swell: float = 0.0
  silent: bool = False
  wrong_captions: float = 0.0
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
    if not self.modalities or not {*self.modalities} <= {*MODALITIES}:
      raise ValueError(f"pulses: modalities={self.modalities}; use some of {MODALITIES}.")
    for name in ("swell", "wrong_captions"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f"pulses: {name}={getattr(self, name)}; use 0 to 1.")

  @property
  def vocabulary(self) -> int:
    """Words that captions use."""
    return self.num_classes + COLOURS + HALVES + FILLERS


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  rate = float(exact_rate(config.rate_hz))
  label = ModalitySpec(
    shape=(), dtype="int32", maximum=float(config.num_classes - 1), rate_hz=rate, units="class id"
  )
  words = float(config.vocabulary - 1)
  every = {
    "pixels": pixels_spec(config, config.height, config.width),
    "audio": audio_spec(config),
    "label": label,
    "place": ModalitySpec(shape=(2,), rate_hz=rate, units="pixels"),
    "caption": replace(label, shape=(WORDS,), maximum=words, units="word id"),
  }
  return {name: every[name] for name in config.modalities}


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
    self._period = self._period_of(self._label)
    share = self._label / (config.num_classes - 1)
    self._hz = config.lowest_hz * (config.highest_hz / config.lowest_hz) ** share
    self._phase = rng.uniform(0, 2 * np.pi, 2)
    unit = min(config.height, config.width)
    self._place = rng.uniform(0.3, 0.7, 2) * (config.height, config.width)
    self._velocity = rng.uniform(-0.01, 0.01, 2) * unit
    self._radius, self._loudness = rng.uniform(0.2, 0.35) * unit, rng.uniform(0.2, 0.5)
    self._colour, self._ground = rng.uniform(0.4, 1, 3), rng.uniform(0, 0.3, 3)
    # A generator of their own: what is drawn above and the noise do not depend on these options.
    self._more = np.random.default_rng((seed_of(config.seed, row, recording), 1))
    if config.silent:
      self._split_image(unit)

  def _period_of(self, label: int) -> float:
    c = self._config
    return c.shortest * (c.longest / c.shortest) ** (label / (c.num_classes - 1))

  def _split_image(self, unit: int) -> None:
    """Moves the disc to one half, smaller, and draws the silent one in the other."""
    c, rng = self._config, self._more
    sides = rng.permutation([0.25, 0.75])
    rows = rng.uniform(0.3, 0.7, 2)
    places = np.stack([rows, sides], axis=1) * (c.height, c.width)
    self._place, other = places
    self._velocity, self._radius = np.zeros(2), rng.uniform(0.14, 0.2) * unit
    label = (self._label + int(rng.integers(1, c.num_classes))) % c.num_classes
    colour, phase = rng.uniform(0.4, 1, 3), rng.uniform(0, 2 * np.pi)
    self._silent = other, self._period_of(label), phase, colour

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
    place = self._place + self._tick * self._velocity
    pulse = self._light(self._period, self._phase[0])
    inside = self._disc(place)
    image = (1 - inside) * self._ground + inside * self._colour * pulse
    if c.silent:
      other, period, phase, colour = self._silent
      inside = self._disc(other)
      image = (1 - inside) * image + inside * colour * self._light(period, phase)
    image = image + c.noise * self._rng.standard_normal(image.shape)
    time = (self._tick * samples + np.arange(samples)) / c.audio_rate_hz
    loudness = self._loudness * (1 - c.swell + c.swell * pulse)
    sound = loudness * np.sin(2 * np.pi * self._hz * time + self._phase[1])
    sound = sound + c.noise * self._rng.standard_normal(samples)
    values = {
      "pixels": np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8),
      "audio": np.clip(sound, -1, 1).astype(np.float32),
      "label": np.asarray(self._label, np.int32),
      "place": place.astype(np.float32),
    }
    if "caption" in c.modalities:
      values["caption"] = self._caption(place[1])
    return {name: values[name] for name in c.modalities}

  def _disc(self, place: np.ndarray) -> np.ndarray:
    """Returns the share of each pixel that a disc covers, `[H, W, 1]`."""
    rows, columns = np.indices((self._config.height, self._config.width)) + 0.5
    distance = np.hypot(rows - place[0], columns - place[1])
    return np.clip(self._radius + 0.5 - distance, 0, 1)[..., None]

  def _light(self, period: float, phase: float) -> float:
    """Returns the brightness of a disc at this tick, in [0, 1]."""
    return 0.5 + 0.5 * np.sin(2 * np.pi * self._tick / period + phase)

  def _caption(self, column: float) -> np.ndarray:
    """Returns the numbers of the words of this tick."""
    c, rng = self._config, self._more
    wrong = rng.random() < c.wrong_captions
    shift = int(rng.integers(1, c.num_classes)) if wrong else 0
    words = (self._label + shift) % c.num_classes, int(np.argmax(self._colour))
    words = (*words, int(column >= c.width / 2), int(rng.integers(FILLERS)))
    return (np.array(words) + np.cumsum([0, c.num_classes, COLOURS, HALVES])).astype(np.int32)
