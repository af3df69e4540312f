"""Bouncing balls with drifting colours: a small non-stationary world.

After the lifelong-learning literature ("Lifelong learning of video diffusion models from a single
video stream", 2025), whose streams are not released; sizes and speeds are our own.
"""

import colorsys
from dataclasses import dataclass

import grain
import numpy as np
from jaxtyping import Float

from perceiver_stream.streams.base import StreamConfig, exact_rate, pixels_spec
from perceiver_stream.streams.sim_recordings import Played, SimStream, seed_of
from perceiver_stream.types import ModalitySpec

SAMPLES = 4  # per pixel and axis, for smooth edges
BACKGROUND = 24  # of 255


@dataclass(kw_only=True)
class Config(StreamConfig):
  """Balls in a box from above; they bounce off its walls and off each other.

  Ticks hold `pixels` and `segmentation`: 0 is the ground, ball k is k from 1 on. With `motion` they
  hold `flow_backward` too: the displacement to the position a tick before; the ground is static.

  Attributes:
    audio_rate_hz: 0: the balls are silent.
    height: Rows of the image.
    width: Columns.
    num_balls: Number of balls.
    radius: Of a ball, in heights or widths of the image, whichever is less.
    speed: Of a ball on average, in the same unit per second.
    ticks_per_drift: Ticks in which the hue of every ball rotates once; 0: constant colours.
    ticks_per_recording: Ticks after which a new box begins, with `is_first`; 0 is never.
    motion: If True, ticks hold the optical flow.
    seed: Of positions, velocities and colours.
  """

  audio_rate_hz: int = 0
  height: int = 32
  width: int = 32
  num_balls: int = 3
  radius: float = 0.12
  speed: float = 0.8
  ticks_per_drift: int = 0
  ticks_per_recording: int = 0
  motion: bool = False
  seed: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.audio_rate_hz:
      raise ValueError("balls: there is no sound; use audio_rate_hz=0.")
    least = {"height": 8, "width": 8, "num_balls": 1, "ticks_per_drift": 0, "seed": 0}
    for name, value in (least | {"ticks_per_recording": 0}).items():
      if getattr(self, name) < value:
        raise ValueError(f"balls: {name}={getattr(self, name)}; use at least {value}.")
    if not 0.02 <= self.radius <= 0.4 or self.num_balls * self.radius**2 > 0.12:
      raise ValueError(
        f"balls: {self.num_balls} of radius {self.radius} have no room to move; use fewer or "
        f"smaller ones (at least 0.02)."
      )
    if not 0 <= self.speed <= 5:
      raise ValueError(f"balls: speed={self.speed}; use 0 to 5.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  size, rate = (config.height, config.width), float(exact_rate(config.rate_hz))
  flow = ModalitySpec(shape=(*size, 2), minimum=0.0, maximum=0.0, rate_hz=rate, units="px/tick")
  return {
    "pixels": pixels_spec(config, *size),
    "segmentation": ModalitySpec(
      shape=size,
      dtype="int32",
      maximum=float(config.num_balls),
      rate_hz=rate,
      units="class id",
    ),
  } | ({"flow_backward": flow} if config.motion else {})


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row."""
  del num_rows
  return SimStream(config, row, Box)


class Box(Played):
  """One recording."""

  def __init__(self, config: Config, row: int, recording: int):
    self._config, self._tick = config, 0
    rng = np.random.default_rng(seed_of(config.seed, row, recording))
    unit = min(config.height, config.width)
    self._size = np.array([config.width, config.height]) / unit  # x, y
    self._place = self._before = self._free_places(rng)
    angle = rng.uniform(0, 2 * np.pi, config.num_balls)
    pace = config.speed * rng.uniform(0.7, 1.3, (config.num_balls, 1))
    self._velocity = pace * np.stack([np.cos(angle), np.sin(angle)], -1)
    self._hue = (np.arange(config.num_balls) + rng.random()) / config.num_balls
    y, x = np.indices((config.height * SAMPLES, config.width * SAMPLES)) + 0.5
    self._grid = np.stack([x, y], -1) / (SAMPLES * unit)

  def _free_places(self, rng: np.random.Generator) -> Float[np.ndarray, "K 2"]:
    radius, places = self._config.radius, []
    while len(places) < self._config.num_balls:
      place = rng.uniform(radius, self._size - radius)
      if all(np.hypot(*(place - other)) > 2 * radius for other in places):
        places.append(place)
    return np.array(places)

  def move(self) -> None:
    """Advances by a tick: walls reflect a ball, balls that collide exchange velocities along their line."""
    self._tick += 1
    self._before = self._place
    self._place = self._before + self._velocity / float(exact_rate(self._config.rate_hz))
    low, high = self._config.radius, self._size - self._config.radius
    self._velocity = np.where(self._place < low, np.abs(self._velocity), self._velocity)
    self._velocity = np.where(self._place > high, -np.abs(self._velocity), self._velocity)
    self._place = np.clip(self._place, low, high)
    for i in range(len(self._place)):
      for j in range(i):
        line = self._place[i] - self._place[j]
        distance = np.hypot(*line)
        closing = np.dot(self._velocity[i] - self._velocity[j], line)
        if distance < 2 * self._config.radius and closing < 0:
          exchange = closing / distance**2 * line
          self._velocity[i] -= exchange
          self._velocity[j] += exchange

  def look(self) -> dict[str, np.ndarray]:
    """Returns the values of this tick."""
    config = self._config
    turn = self._tick / config.ticks_per_drift if config.ticks_per_drift else 0.0
    colours = [colorsys.hsv_to_rgb((hue + turn) % 1, 0.8, 1.0) for hue in self._hue]
    away = self._grid[:, :, None] - self._place
    inside = np.sum(np.square(away), -1) < config.radius**2  # [samples, samples, K]
    cells = inside.reshape(config.height, SAMPLES, config.width, SAMPLES, -1).mean((1, 3))
    cover = cells / np.maximum(cells.sum(-1, keepdims=True), 1)
    picture = (1 - cover.sum(-1, keepdims=True)) * BACKGROUND + 255 * cover @ np.array(colours)
    label = np.where(cover.sum(-1) >= 0.5, 1 + cover.argmax(-1), 0)
    values = {
      "pixels": np.rint(picture).astype(np.uint8),
      "segmentation": label.astype(np.int32),
    }
    if config.motion:
      back = min(config.height, config.width) * (self._before - self._place)
      values["flow_backward"] = np.concatenate([[[0, 0]], back]).astype(np.float32)[label]
    return values
