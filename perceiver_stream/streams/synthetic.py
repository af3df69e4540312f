"""A synthetic world: textured objects over a textured ground, a moving camera, sound, and truth.

Everything is a closed formula of (seed, row, recording, scene, tick), so any tick can be made at
once and the truth is exact: depth, segmentation, flow both ways, tracks of points with their
visibility, and the camera's motion. Objects hum as they move and thud when they land.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

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
from perceiver_stream.streams.world import points, render, sound
from perceiver_stream.streams.world.scene import GROUND_DEPTH, LEVELS, NEAREST, Scene, make
from perceiver_stream.types import ModalitySpec

MODALITIES = ("pixels", "audio", "depth", "flow", "segmentation")
POINTS = ("points", "points_visible", "points_id")
MORE = ("flow_backward", *POINTS, "camera")
CAMERA = ("x", "y", "roll", "log_zoom", "d_x", "d_y", "d_roll", "d_log_zoom")


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A synthetic stream.

  Attributes:
    height: Rows of the image.
    width: Columns of the image.
    level: "easy", "medium" or "hard": how much there is, how far it moves, how noisy it is.
    num_things: Moving objects; class ids are 1 to `num_things`, the nearest has the largest, the
      ground is 0. -1: as many as the level has, which differs from scene to scene.
    speed: Factor on all speeds; at 0 the world is static and silent.
    camera: Factor on how far the camera travels, rolls and zooms.
    noise: Standard deviation of the sensor's noise, of 255; -1: the level's.
    lighting: Largest drift of the light's gain from 1; -1: the level's.
    ticks_per_recording: Ticks after which a new world begins, with `is_first`; 0 is never.
    ticks_per_scene: Ticks after which there is a cut to another world, without `is_first`; 0 is
      never.
    num_points: Tracked at a time.
    ticks_per_point: Ticks after which a slot is given to a new point; 0 is at cuts only.
    modalities: Modalities of a tick, a subset of `MODALITIES` and `MORE`.
    seed: Of the world. Row r has another world than row r + 1.
  """

  height: int = 64
  width: int = 64
  level: str = "easy"
  num_things: int = -1
  speed: float = 1.0
  camera: float = 1.0
  noise: float = -1.0
  lighting: float = -1.0
  ticks_per_recording: int = 0
  ticks_per_scene: int = 0
  num_points: int = 64
  ticks_per_point: int = 96
  modalities: tuple[str, ...] = MODALITIES
  seed: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.level not in LEVELS:
      raise ValueError(f"synthetic: level={self.level!r}; use one of {', '.join(LEVELS)}.")
    for name, (least, most) in _LIMITS.items():
      value = getattr(self, name)
      if not (least <= value <= most or (value == -1 and name in _OF_LEVEL)):
        hint = ", or -1 for what the level has" if name in _OF_LEVEL else ""
        raise ValueError(f"synthetic: {name}={value}; use {least} to {most}{hint}.")
    for name in ("ticks_per_recording", "ticks_per_scene", "ticks_per_point"):
      if getattr(self, name) < 0:
        raise ValueError(f"synthetic: {name}={getattr(self, name)}; 0 is never.")
    unknown = sorted(set(self.modalities) - {*MODALITIES, *MORE})
    if unknown or not self.modalities:
      known = (*MODALITIES, *MORE)
      raise ValueError(f"synthetic: modalities={self.modalities}; use some of {known}.")
    if "audio" in self.modalities and not self.audio_rate_hz:
      raise ValueError("synthetic: audio_rate_hz=0; set it, or leave 'audio' out of modalities.")


_LIMITS = {
  "height": (8, 4096),
  "width": (8, 4096),
  "num_things": (0, 100),
  "speed": (0.0, 20.0),
  "camera": (0.0, 4.0),
  "noise": (0.0, 255.0),
  "lighting": (0.0, 1.0),
  "num_points": (1, 4096),
  "seed": (0, 2**63),
}
_OF_LEVEL = ("num_things", "noise", "lighting")


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  rate, size = float(exact_rate(config.rate_hz)), (config.height, config.width)
  most = config.num_things if config.num_things >= 0 else LEVELS[config.level].things[1]

  def spec(
    shape: tuple[int, ...], units: str, low: float = 0.0, high: float = 0.0, dtype: str = "float32"
  ) -> ModalitySpec:
    return ModalitySpec(
      shape=shape, dtype=dtype, minimum=low, maximum=high, rate_hz=rate, units=units
    )

  known: dict[str, Callable[[], ModalitySpec]] = {
    "pixels": lambda: pixels_spec(config, *size),
    "audio": lambda: audio_spec(config),
    "depth": lambda: spec(size, "m", NEAREST, GROUND_DEPTH),
    "flow": lambda: spec((*size, 2), "px/tick"),
    "flow_backward": lambda: spec((*size, 2), "px/tick"),
    "segmentation": lambda: spec(size, "class id", 0.0, float(most), "int32"),
    "points": lambda: spec((config.num_points, 2), "px"),
    "points_visible": lambda: spec((config.num_points,), "is seen", 0.0, 1.0, "bool"),
    "points_id": lambda: spec((config.num_points,), "track id", dtype="int32"),
    "camera": lambda: spec((len(CAMERA),), "px, px, rad, log; change of each since the last tick"),
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
    self._tick, self._config = 0, config
    self._world = World(config, row)
    self._rate = exact_rate(config.rate_hz)

  def __next__(self) -> dict[str, Any]:
    tick = self._tick
    if self._config.max_ticks and tick >= self._config.max_ticks:
      raise StopIteration
    self._tick += 1
    values, is_first = self._world.look(tick)
    return make_tick(values, is_first, tick / self._rate)

  def get_state(self) -> dict[str, int]:
    """Returns the number of the next tick."""
    return {"tick": self._tick}

  def set_state(self, state: dict[str, int]) -> None:
    """Goes to a tick."""
    check_state("synthetic stream", state, self.get_state())
    self._tick = int(state["tick"])


class Moment:
  """The position of a tick: its scene, and its time in its recording and scene."""

  def __init__(self, config: Config, tick: int):
    self.tick = tick
    self.recording, self.inside = divmod(tick, config.ticks_per_recording or tick + 1)
    self.cut, self.into = divmod(self.inside, config.ticks_per_scene or self.inside + 1)
    self.scene = (self.recording, self.cut)


class World:
  """All scenes of one row; caches the last two, and the last tracked points."""

  def __init__(self, config: Config, row: int):
    self._config, self._row = config, row
    self._size = (config.height, config.width)
    self._rate = exact_rate(config.rate_hz)
    self._level = LEVELS[config.level]._replace(
      **{k: getattr(config, k) for k in ("noise", "lighting") if getattr(config, k) >= 0}
    )
    self._scenes: dict[tuple[int, int], Scene] = {}
    self._spots: dict[int, tuple[int, points.Spot]] = {}

  def look(self, tick: int) -> tuple[dict[str, tuple[np.ndarray, bool]], bool]:
    """Returns the modalities of a tick with their validity, and whether a recording starts."""
    config, moment = self._config, Moment(self._config, tick)
    scene = self.scene(moment)
    before, now, after = self.affines(scene, moment, [-1, 0, 1])
    visible = render.layers(scene, now, self._size)
    label = render.segmentation(visible, self._size)
    known: dict[str, Callable[[], tuple[np.ndarray, bool]]] = {
      "pixels": lambda: (self._pixels(scene, visible, moment), True),
      "audio": lambda: (self.sound(moment), True),
      "depth": lambda: (render.depth(scene, label), True),
      "flow": lambda: (
        render.flow(visible, now, after, self._size),
        Moment(config, tick + 1).scene == moment.scene,
      ),
      "flow_backward": lambda: (render.flow(visible, now, before, self._size), moment.into > 0),
      "segmentation": lambda: (label, True),
      "camera": lambda: (self._camera(scene, moment), True),
    }
    values = {name: known[name]() for name in config.modalities if name in known}
    if set(POINTS) & set(config.modalities):
      values |= {name: (value, True) for name, value in self._points(scene, moment, now).items()}
    return {name: values[name] for name in config.modalities}, not moment.inside

  def scene(self, moment: Moment) -> Scene:
    """Returns the scene of a moment."""
    if moment.scene not in self._scenes:
      config = self._config
      rng = np.random.default_rng((config.seed, self._row, *moment.scene))
      num = config.num_things
      if num < 0:
        num = int(rng.integers(*self._level.things, endpoint=True))
      scene = make(rng, *self._size, self._level, config.camera, num)
      kept = list(self._scenes.items())[-1:]
      self._scenes = dict([*kept, (moment.scene, scene)])
    return self._scenes[moment.scene]

  def times(self, moment: Moment, ticks: list[int]) -> np.ndarray:
    """Returns the scene's own time, so many ticks after a moment."""
    exact = [Fraction(moment.inside + ahead) / self._rate for ahead in ticks]
    return self._config.speed * np.array([float(time) for time in exact])

  def affines(self, scene: Scene, moment: Moment, ticks: list[int]) -> np.ndarray:
    """Returns the maps of all layers to the image, a number of ticks after a time."""
    return scene.affines(self.times(moment, ticks))

  def sound(self, moment: Moment) -> np.ndarray:
    """Returns the sound since the previous tick, that of the scene shown there."""
    config = self._config
    earlier = Moment(config, moment.tick - 1) if moment.inside else moment
    start, end = (float(Fraction(moment.inside - 1 + i) / self._rate) for i in range(2))
    samples = int(config.audio_rate_hz / self._rate)
    return sound.sound(self.scene(earlier), start, end, samples, config.speed, max(self._size))

  def _pixels(self, scene: Scene, visible: list[render.Layer], moment: Moment) -> np.ndarray:
    gain = 1 + float(scene.light.at(self.times(moment, [0]))[0])
    rng = np.random.default_rng((self._config.seed, self._row, moment.tick, 1))
    picture = render.pixels(scene, visible, self._size)
    return render.develop(picture, gain, self._level.noise, rng)

  def _camera(self, scene: Scene, moment: Moment) -> np.ndarray:
    before, now = scene.camera.at(self.times(moment, [-1, 0]))
    return np.concatenate([now, now - before]).astype(np.float32)

  def _points(self, scene: Scene, moment: Moment, now: np.ndarray) -> dict[str, np.ndarray]:
    config = self._config
    first = moment.tick - moment.into
    born = first + points.births(config.num_points, config.ticks_per_point, moment.into)
    for slot, birth in enumerate(born.tolist()):
      if self._spots.get(slot, (-1,))[0] != birth:
        self._spots[slot] = (birth, self._new_spot(scene, moment, slot, birth))
    spots = [self._spots[slot][1] for slot in range(config.num_points)]
    place, visible = points.track(scene, now, self._size, spots)
    ids = (born * config.num_points + np.arange(config.num_points)) % 2**31
    values = (place.astype(np.float32), visible, ids.astype(np.int32))
    return dict(zip(POINTS, values, strict=True))

  def _new_spot(self, scene: Scene, moment: Moment, slot: int, birth: int) -> points.Spot:
    rng = np.random.default_rng((self._config.seed, self._row, birth, slot, 2))
    ahead = birth - moment.tick
    if slot % points.LATE == points.LATE - 1:
      ahead += int(rng.integers(self._ticks_left(moment, birth)))
    (affine,) = self.affines(scene, moment, [ahead])
    return points.pick(scene, affine, self._size, rng, on_thing=slot % 2 == 0)

  def _ticks_left(self, moment: Moment, birth: int) -> int:
    config = self._config
    limits = [points.LATEST, config.ticks_per_point or points.LATEST]
    into = birth - (moment.tick - moment.into)
    if config.ticks_per_scene:
      limits.append(config.ticks_per_scene - into)
    if config.ticks_per_recording:
      limits.append(config.ticks_per_recording - (birth - (moment.tick - moment.inside)))
    return min(limits)
