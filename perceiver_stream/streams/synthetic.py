"""A synthetic world: textured things moving over a moving textured ground, with sound and truth.

Everything is a closed formula of (seed, row, recording, tick), so any tick can be made at once and
the truth is exact: depth, segmentation, and forward flow, which is the displacement of the visible
surface from tick t to t + 1. Positions are sums of sines. Each thing hums: louder the faster it
moves, higher the higher up it is.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import grain
import numpy as np

from perceiver_stream.streams.base import (
  StreamConfig,
  audio_spec,
  check_state,
  exact_rate,
  make_tick,
  pixels_spec,
)
from perceiver_stream.types import ModalitySpec

GROUND_DEPTH, NEAREST = 10.0, 2.0  # metres
MODALITIES = ("pixels", "audio", "depth", "flow", "segmentation")


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A synthetic stream.

  Attributes:
    height: Rows of the picture.
    width: Columns of the picture.
    num_things: Moving things; class ids are 1 to `num_things`, the ground is 0.
    speed: Factor on all motion; 1 moves things by about 1 % of the picture per tick at 25 Hz.
    ticks_per_recording: Ticks after which a new world begins, with `is_first`; 0 is never.
    modalities: What a tick holds, of "pixels", "audio", "depth", "flow", "segmentation".
    seed: Of the world. Row r has another world than row r + 1.
  """

  height: int = 64
  width: int = 64
  num_things: int = 3
  speed: float = 1.0
  ticks_per_recording: int = 0
  modalities: tuple[str, ...] = MODALITIES
  seed: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    for name, least in (("height", 8), ("width", 8), ("num_things", 0), ("seed", 0)):
      if getattr(self, name) < least:
        raise ValueError(f"synthetic: {name}={getattr(self, name)}; use at least {least}.")
    if self.ticks_per_recording < 0:
      raise ValueError(f"synthetic: ticks_per_recording={self.ticks_per_recording}; 0 is never.")
    unknown = sorted(set(self.modalities) - set(MODALITIES))
    if unknown or not self.modalities:
      raise ValueError(f"synthetic: modalities={self.modalities}; use some of {MODALITIES}.")
    if "audio" in self.modalities and not self.audio_rate_hz:
      raise ValueError("synthetic: audio_rate_hz=0; set it, or leave 'audio' out of modalities.")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns what a tick holds."""
  rate, size = float(exact_rate(config.rate_hz)), (config.height, config.width)
  known: dict[str, Callable[[], ModalitySpec]] = {
    "pixels": lambda: pixels_spec(config, *size),
    "audio": lambda: audio_spec(config),
    "depth": lambda: ModalitySpec(
      shape=size, minimum=NEAREST, maximum=GROUND_DEPTH, rate_hz=rate, units="m"
    ),
    "flow": lambda: ModalitySpec(
      shape=(*size, 2), minimum=0.0, maximum=0.0, rate_hz=rate, units="px/tick"
    ),
    "segmentation": lambda: ModalitySpec(
      shape=size,
      dtype="int32",
      minimum=0.0,
      maximum=float(config.num_things),
      rate_hz=rate,
      units="class id",
    ),
  }
  return {name: known[name]() for name in config.modalities}


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row."""
  del num_rows
  return SyntheticStream(config, row)


class SyntheticStream(grain.IterDataset):
  """The ticks of one row."""

  def __init__(self, config: Config, row: int):
    super().__init__()
    self.config, self.row = config, row

  def __iter__(self) -> "SyntheticIterator":
    return SyntheticIterator(self.config, self.row)


class SyntheticIterator(grain.DatasetIterator):
  """Position is all its state."""

  def __init__(self, config: Config, row: int):
    super().__init__()
    self._config, self._row, self._tick = config, row, 0
    self._rate = exact_rate(config.rate_hz)

  def __next__(self) -> dict[str, Any]:
    config, tick = self._config, self._tick
    if config.max_ticks and tick >= config.max_ticks:
      raise StopIteration
    self._tick += 1
    recording, inside = divmod(tick, config.ticks_per_recording or tick + 1)
    world = _world(
      config.seed, self._row, recording, config.height, config.width, config.num_things
    )
    values = render(world, inside, config)
    return make_tick(
      {n: (values[n], True) for n in config.modalities}, not inside, tick / self._rate
    )

  def get_state(self) -> dict[str, int]:
    """Returns the number of the next tick."""
    return {"tick": self._tick}

  def set_state(self, state: dict[str, int]) -> None:
    """Goes to a tick."""
    check_state("synthetic stream", state, self.get_state())
    self._tick = int(state["tick"])


class Thing(NamedTuple):
  """One moving thing; the ground is one too.

  Attributes:
    texture: `[n, n, 3]` float32 in [0, 255], repeated where it ends.
    centre: Mean position (x, y), pixels.
    swing: Amplitudes of two sines per axis, `[2, 2]` (axis, sine), pixels.
    pace: Their angular frequencies, radians per second.
    phase: Their phases.
    radius: Half its size, pixels.
    is_round: Disc or square.
    depth: Metres.
    pitch_hz: Of its hum.
  """

  texture: np.ndarray
  centre: np.ndarray
  swing: np.ndarray
  pace: np.ndarray
  phase: np.ndarray
  radius: float
  is_round: bool
  depth: float
  pitch_hz: float

  def position(self, time_s: float | np.ndarray, speed: float) -> np.ndarray:
    """Returns (x, y), or `[..., 2]` for many times."""
    angle = self.pace * speed * np.asarray(time_s)[..., None, None] + self.phase
    return self.centre + np.sum(self.swing * np.sin(angle), -1)


@functools.lru_cache(maxsize=16)
def _world(seed: int, row: int, recording: int, height: int, width: int, num: int) -> list[Thing]:
  rng = np.random.default_rng((seed, row, recording))
  size = max(height, width)
  things = [_thing(rng, size, (width / 2, height / 2), GROUND_DEPTH, 0.25, 2 * size)]
  for k in range(num):
    depth = GROUND_DEPTH - (GROUND_DEPTH - NEAREST) * (k + 1) / (num + 1)
    centre = rng.uniform(0.3, 0.7, 2) * (width, height)
    things.append(_thing(rng, size, centre, depth, 0.3, size // 2))
  return things  # the farthest first


def _thing(
  rng: np.random.Generator, size: int, centre: Any, depth: float, swing: float, texture_px: int
) -> Thing:
  cells = 8 * texture_px // size  # of the texture, each an eighth of the picture
  coarse = rng.uniform(0, 255, (cells, cells, 3))
  at = np.arange(texture_px) * cells / texture_px
  low = at.astype(int)
  part = ((1 - np.cos(np.pi * (at - low))) / 2)[:, None, None]  # smooth in y, then in x
  texture = coarse[low] * (1 - part) + coarse[(low + 1) % cells] * part
  part = part.reshape(1, -1, 1)
  texture = texture[:, low] * (1 - part) + texture[:, (low + 1) % cells] * part
  return Thing(
    texture=texture.astype(np.float32),
    centre=np.asarray(centre, np.float64),
    swing=swing * size * rng.uniform(0.3, 0.7, (2, 2)) * (1, 0.4),
    pace=rng.uniform(0.5, 1.1, (2, 2)) * (1, 2.7),
    phase=rng.uniform(0, 2 * np.pi, (2, 2)),
    radius=size * rng.uniform(0.1, 0.18),
    is_round=bool(rng.integers(2)),
    depth=depth,
    pitch_hz=rng.uniform(200, 900),
  )


def render(world: list[Thing], tick: int, config: Config) -> dict[str, np.ndarray]:
  """Returns all modalities of one tick of a world, by name."""
  rate = exact_rate(config.rate_hz)
  now, after = float(tick / rate), float((tick + 1) / rate)
  size = (config.height, config.width)
  pixels = np.empty((*size, 3), np.float32)
  depth = np.full(size, GROUND_DEPTH, np.float32)
  flow = np.empty((*size, 2), np.float32)
  label = np.zeros(size, np.int32)
  for k, thing in enumerate(world):
    x, y = thing.position(now, config.speed)
    motion = thing.position(after, config.speed) - (x, y)
    if k == 0:  # the ground is everywhere
      rows, columns, mask = slice(None), slice(None), np.ones((1, 1), bool)
    else:
      rows, columns, mask = _footprint(thing, x, y, size)
    colour = _texture_at(thing.texture, rows, columns, x, y, size)
    for array, value in ((pixels, colour), (depth, thing.depth), (flow, motion), (label, k)):
      where = mask if array.ndim == 2 else mask[..., None]
      np.copyto(array[rows, columns], value, casting="unsafe", where=where)
  values = {"depth": depth, "flow": flow, "segmentation": label}
  values["pixels"] = (pixels + 0.5).astype(np.uint8)
  if "audio" in config.modalities:
    values["audio"] = hum(world[1:], tick, rate, config)
  return values


def _footprint(thing: Thing, x: float, y: float, size: tuple[int, int]) -> Any:
  """Returns the rows and columns that hold the thing, and where in them it is."""
  spans, offsets = [], []
  for centre, limit in ((y, size[0]), (x, size[1])):
    first = min(max(0, int(np.ceil(centre - thing.radius))), limit)
    last = min(max(first, int(np.floor(centre + thing.radius)) + 1), limit)
    spans.append(slice(first, last))
    offsets.append(np.arange(first, last) - centre)
  if thing.is_round:
    mask = offsets[0][:, None] ** 2 + offsets[1][None] ** 2 <= thing.radius**2
  else:
    mask = np.ones((len(offsets[0]), len(offsets[1])), bool)
  return *spans, mask


def _texture_at(
  texture: np.ndarray, rows: slice, columns: slice, x: float, y: float, size: tuple[int, int]
) -> np.ndarray:
  """Returns the texture, moved to have its origin at (x, y), between its pixels linearly."""
  picked, parts = [], []
  for span, limit, origin in ((rows, size[0], y), (columns, size[1], x)):
    first, last, _ = span.indices(limit)
    whole = int(np.floor(-origin))
    picked.append(np.arange(first, last + 1) + whole)
    parts.append(np.float32(-origin - whole))
  patch = texture.take(picked[0], 0, mode="wrap").take(picked[1], 1, mode="wrap")
  patch = patch[:-1] + parts[0] * (patch[1:] - patch[:-1])
  return patch[:, :-1] + parts[1] * (patch[:, 1:] - patch[:, :-1])


def hum(things: list[Thing], tick: int, rate: Fraction, config: Config) -> np.ndarray:
  """Returns the sound of the tick's interval, which ends at its time; float32 in [-1, 1]."""
  samples = int(config.audio_rate_hz / rate)
  time = np.arange((tick - 1) * samples, tick * samples) / config.audio_rate_hz
  size = max(config.height, config.width)
  # Speed and height change slowly: known at the interval's two ends, a line in between.
  ends = np.array([time[0], time[-1]])
  ramp = np.linspace(0, 1, samples)
  sound = np.zeros(samples)
  for thing in things:
    step = thing.position(ends + 0.01, config.speed) - thing.position(ends, config.speed)
    loud = np.minimum(np.hypot(step[:, 0], step[:, 1]) * 100 / size, 1.0)
    amplitude = loud[0] + (loud[1] - loud[0]) * ramp
    sound += amplitude * np.sin(2 * np.pi * _cycles(thing, ends, ramp, config.speed, size))
  return (sound / max(1, len(things))).astype(np.float32)


def _cycles(
  thing: Thing, ends: np.ndarray, ramp: np.ndarray, speed: float, size: int
) -> np.ndarray:
  """Returns the hum's phase: the integral of a pitch that falls as y, downwards, grows."""
  cycles: np.ndarray = thing.pitch_hz * ends
  if speed:
    pace = thing.pace[1] * speed
    swung = -thing.swing[1] * np.cos(pace * ends[:, None] + thing.phase[1]) / pace
    cycles = cycles - thing.pitch_hz * np.sum(swung, -1) / size
  return cycles[0] + (cycles[1] - cycles[0]) * ramp
