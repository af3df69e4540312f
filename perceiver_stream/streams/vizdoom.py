"""ViZDoom: a walk through a game's levels that need not end, with sound, depth, labels and pose.

The game runs at 35 tics a second; a tick of the stream is one of them, or several, whose sound is
then all there. A scripted explorer walks; no enemy can end the walk. Needs the `sim` extra; sound
also the library OpenAL (Debian: libopenal1). An empty folder `_vizdoom` is the game's.

  pixels        the player's view, without weapon and signs
  audio         mono, the mean of `audio_stereo` `[S, 2]` (left, right)
  depth         metres along the optical axis, in the game's 255 steps of 0.24 m
  segmentation  index in `CLASSES`; walls, floor and sky are 0
  camera        x, y, z in metres, cosine and sine of yaw (counterclockwise from x), pitch in radians
  actions       done since the tick before, each in [-1, 1]: forward, right, turn right, shoot, use

Source: Kempka et al. 2016, 1605.02097; the levels are those of Freedoom.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import grain
import numpy as np

from perceiver_stream.streams.base import (
  StreamConfig,
  audio_spec,
  exact_rate,
  pixels_spec,
  samples_per_tick,
)
from perceiver_stream.streams.sim_doom import area_mean, edges, nearest, start_game
from perceiver_stream.streams.sim_explorers import EXPLORERS, View, clear_ahead
from perceiver_stream.streams.sim_recordings import SimStream, seed_of
from perceiver_stream.types import ModalitySpec

TICS_PER_S = 35
UNITS_PER_M = 32.0  # of the map: a player is 56 high
M_PER_LEVEL = 7.66 / UNITS_PER_M  # of the 8-bit depth; measured, docs/streams.md
# As float32, the dtype of a tick.
NEAREST = float(np.float32(0.5) * np.float32(M_PER_LEVEL))
FARTHEST = float(np.float32(255) * np.float32(M_PER_LEVEL))
CLASSES = (
  "background", "monster", "gore", "health", "armor", "ammo", "weapon", "key", "powerup",
  "hazard", "explosive", "decoration", "vegetation", "lightsource", "player", "other",
)  # fmt: skip
_ALIASES = {"gibs": "gore", "self": "player"}
MODALITIES = ("pixels", "audio", "audio_stereo", "depth", "segmentation", "camera", "actions")
SOUND = {"audio", "audio_stereo"}
AUDIO_RATES = (11025, 22050, 44100)
_FULL = np.array([50.0, 50.0, 10.0, 1.0, 1.0])  # actions at full scale


@dataclass(kw_only=True)
class Config(StreamConfig):
  """A walk through levels.

  Attributes:
    rate_hz: 35 or a divisor of it: 17.5, 7, 5, ...
    audio_rate_hz: 11025, 22050 or 44100.
    height: Rows of the image, at most 480; cut from the middle of 4:3 and scaled.
    width: Columns.
    wad: Levels: "freedoom1", "freedoom2", "deathmatch", ... of the package, or a path.
    maps: Names of levels; recording n of row r is in level number r + n of them, around and around.
    explorer: "walker" (random curves) or "roamer" (seeks unvisited places).
    ticks_per_recording: Ticks after which a new recording begins; 0: only where a level ends.
    modalities: Modalities of a tick, a subset of `MODALITIES`.
    seed: Of the game and the explorer.
  """

  rate_hz: float = 35.0
  audio_rate_hz: int = 22050
  height: int = 64
  width: int = 64
  wad: str = "freedoom2"
  maps: tuple[str, ...] = ("map01",)
  explorer: str = "roamer"
  ticks_per_recording: int = 0
  modalities: tuple[str, ...] = ("pixels", "audio", "depth", "segmentation")
  seed: int = 0

  @property
  def tics(self) -> int:
    """Tics of the game in a tick."""
    return int(TICS_PER_S / exact_rate(self.rate_hz))

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if (TICS_PER_S / exact_rate(self.rate_hz)).denominator != 1:
      raise ValueError(f"vizdoom: rate_hz={self.rate_hz} does not divide 35; use 35, 17.5, 7 or 5.")
    for name, least, most in (("height", 8, 480), ("width", 8, 640), ("seed", 0, 2**31 - 1)):
      if not least <= getattr(self, name) <= most:
        raise ValueError(f"vizdoom: {name}={getattr(self, name)}; use {least} to {most}.")
    if self.ticks_per_recording < 0:
      raise ValueError(f"vizdoom: ticks_per_recording={self.ticks_per_recording}; 0 is never.")
    if self.explorer not in EXPLORERS:
      raise ValueError(f"vizdoom: explorer={self.explorer!r}; use one of {sorted(EXPLORERS)}.")
    if not self.maps:
      raise ValueError("vizdoom: maps is empty; name a level, as map01.")
    unknown = sorted(set(self.modalities) - set(MODALITIES))
    if unknown or not self.modalities:
      raise ValueError(f"vizdoom: modalities={self.modalities}; use some of {MODALITIES}.")
    if SOUND & set(self.modalities) and self.audio_rate_hz not in AUDIO_RATES:
      raise ValueError(
        f"vizdoom: audio_rate_hz={self.audio_rate_hz}; the game sounds at one of {AUDIO_RATES}, or "
        f"leave 'audio' out of modalities."
      )


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick."""
  rate, size = float(exact_rate(config.rate_hz)), (config.height, config.width)
  known: dict[str, Callable[[], ModalitySpec]] = {
    "pixels": lambda: pixels_spec(config, *size),
    "audio": lambda: audio_spec(config),
    "audio_stereo": lambda: replace(
      audio_spec(config), shape=(samples_per_tick(rate, config.audio_rate_hz), 2)
    ),
    "depth": lambda: ModalitySpec(
      shape=size, minimum=NEAREST, maximum=FARTHEST, rate_hz=rate, units="m"
    ),
    "segmentation": lambda: ModalitySpec(
      shape=size, dtype="int32", maximum=len(CLASSES) - 1.0, rate_hz=rate, units="class id"
    ),
    "camera": lambda: ModalitySpec(shape=(6,), maximum=0.0, rate_hz=rate, units="m, 1, rad"),
    "actions": lambda: ModalitySpec(
      shape=(5,), minimum=-1.0, rate_hz=rate, units="full scale", offset_s=-1 / rate
    ),
  }
  return {name: known[name]() for name in config.modalities}


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row; rows differ in seed."""
  del num_rows
  return SimStream(config, row, Walk)


class Walk:
  """One recording: a game, and who plays it."""

  def __init__(self, config: Config, row: int, recording: int):
    self.config = config
    self.where = f"recording {recording} of row {row}"
    seed = seed_of(config.seed, row, recording)
    level = config.maps[(row + recording) % len(config.maps)]
    folder = tempfile.mkdtemp(prefix="vizdoom_")
    self._cleanup = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
    size = (config.height, config.width)
    sound = config.audio_rate_hz if SOUND & set(config.modalities) else 0
    self._game = start_game(config.wad, level, seed, config.tics, size, sound, folder)
    self._explorer = EXPLORERS[config.explorer](seed, config.tics)
    self._view: View | None = None
    self._edges = (edges(size, 0), edges(size, 1))

  def read(self) -> dict[str, np.ndarray] | None:
    """Returns the next tick; None at the end of the level."""
    action = np.zeros(5) if self._view is None else self._explorer.act(self._view)
    try:
      self._game.make_action(action.tolist(), self.config.tics)
      state = None if self._game.is_episode_finished() else self._game.get_state()
    except Exception as error:
      if type(error).__module__.partition(".")[0] != "vizdoom":
        raise
      raise RuntimeError(
        f"vizdoom: the game died in {self.where} ({error}); resuming from the last state plays the "
        f"recording again up to here."
      ) from error
    if state is None:
      return None
    self._view = self._look(state)
    made: dict[str, Callable[[], np.ndarray]] = {
      "pixels": lambda: self._pixels(state.screen_buffer),
      "audio": lambda: _sound(state).mean(axis=1),
      "audio_stereo": lambda: _sound(state),
      "depth": lambda: self._depth(state.depth_buffer),
      "segmentation": lambda: self._segmentation(state),
      "camera": lambda: _camera(state.game_variables),
      "actions": lambda: (action / _FULL).astype(np.float32),
    }
    return {name: made[name]() for name in self.config.modalities}

  def skip(self, ticks: int) -> None:
    """Plays on."""
    for _ in range(ticks):
      self.read()

  def close(self) -> None:
    """Ends the game."""
    self._game.close()
    self._cleanup()

  def _look(self, state: Any) -> View:
    x, y, _, angle, _ = state.game_variables
    return View(
      clear_ahead(state.depth_buffer * M_PER_LEVEL), x / UNITS_PER_M, y / UNITS_PER_M, angle
    )

  def _pixels(self, screen: np.ndarray) -> np.ndarray:
    return (area_mean(screen, *self._edges) + np.float32(0.5)).astype(np.uint8)

  def _depth(self, levels: np.ndarray) -> np.ndarray:
    picked = nearest(levels, *self._edges).astype(np.float32)
    return np.maximum(picked, np.float32(0.5)) * np.float32(M_PER_LEVEL)

  def _segmentation(self, state: Any) -> np.ndarray:
    ids = np.zeros(256, np.int32)
    for label in state.labels:
      ids[label.value] = class_id(label.object_category)
    return ids[nearest(state.labels_buffer, *self._edges)]


def _sound(state: Any) -> np.ndarray:
  return state.audio_buffer.astype(np.float32) / np.float32(32768)


def _camera(variables: np.ndarray) -> np.ndarray:
  x, y, z, angle, pitch = variables
  yaw = np.radians(angle)
  place = np.array([x, y, z]) / UNITS_PER_M
  return np.array([*place, np.cos(yaw), np.sin(yaw), np.radians(pitch)], np.float32)


def class_id(category: str) -> int:
  """Returns the index in `CLASSES` of one of the game's categories.

  >>> class_id("Monster"), class_id("Gibs"), class_id("Teapot")
  (1, 2, 15)
  """
  name = category.lower()
  name = _ALIASES.get(name, name)
  return CLASSES.index(name) if name in CLASSES else CLASSES.index("other")
