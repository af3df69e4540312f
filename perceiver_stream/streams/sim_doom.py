"""The game of the ViZDoom stream: starting it, and scaling its screen."""

import ctypes
import pathlib
import struct
import sys
from typing import Any

import numpy as np

from perceiver_stream.files import limits
from perceiver_stream.utils.optional import require
from perceiver_stream.utils.paths import user_path

_SCREENS = ((160, 120), (320, 240), (640, 480))
_BUTTONS = (
  "MOVE_FORWARD_BACKWARD_DELTA", "MOVE_LEFT_RIGHT_DELTA", "TURN_LEFT_RIGHT_DELTA", "ATTACK", "USE",
)  # fmt: skip
_VARIABLES = (
  "CAMERA_POSITION_X", "CAMERA_POSITION_Y", "CAMERA_POSITION_Z", "CAMERA_ANGLE", "CAMERA_PITCH",
)  # fmt: skip
_UNSEEN = ("hud", "weapon", "crosshair", "messages", "decals", "particles")  # some leak into depth


def start_game(
  wad: str, level: str, seed: int, tics: int, size: tuple[int, int], audio_rate_hz: int, folder: str
) -> Any:
  """Returns a running game, a `vizdoom.DoomGame`.

  Args:
    wad: See `vizdoom.Config`.
    level: Name of a level in it.
    seed: Of the game.
    tics: Tics in a tick, which has the sound of all of them.
    size: Rows and columns of the image wanted.
    audio_rate_hz: Samples per second; 0 is no sound.
    folder: For the game's own files.

  Raises:
    FileNotFoundError: There is no such wad.
    ValueError: There is no such level in it.
    RuntimeError: Sound is wanted and OpenAL is missing, or the game does not start.
  """
  vizdoom = require("vizdoom", "sim")
  root = pathlib.Path(vizdoom.__file__).parent
  path = find_wad(wad, root)
  if level.upper() not in level_names(path):
    raise ValueError(
      f"vizdoom: {path.name} has no level {level!r}; use some of {level_names(path)}."
    )
  game = vizdoom.DoomGame()
  if path.parent == root:
    game.set_doom_game_path(str(path))
  else:
    game.set_doom_game_path(str(root / "freedoom2.wad"))
    game.set_doom_scenario_path(str(path))
  game.set_doom_config_path(str(user_path(folder) / "vizdoom.ini"))
  game.set_doom_map(level)
  game.set_seed(seed)
  _set_view(game, vizdoom, screen_size(size))
  if audio_rate_hz:
    check_openal()
    game.set_audio_buffer_enabled(True)
    game.set_audio_sampling_rate(getattr(vizdoom.SamplingRate, f"SR_{audio_rate_hz}"))
    game.set_audio_buffer_size(tics)
    # Effects of OpenAL 1.19 end the game ("Assertion gain > 0.00001f").
    game.add_game_args("+snd_efx 0")
  game.add_game_args("+sv_infiniteammo 1")
  game.set_episode_timeout(0)
  game.set_mode(vizdoom.Mode.PLAYER)
  try:
    game.init()
    game.send_game_command("god")
  except Exception as error:
    raise RuntimeError(f"vizdoom: the game does not start with {wad}, {level}: {error}") from error
  return game


def _set_view(game: Any, vizdoom: Any, screen: tuple[int, int]) -> None:
  game.set_screen_resolution(getattr(vizdoom.ScreenResolution, "RES_{}X{}".format(*screen)))
  game.set_screen_format(vizdoom.ScreenFormat.RGB24)
  game.set_window_visible(False)
  game.set_depth_buffer_enabled(True)
  game.set_labels_buffer_enabled(True)
  for what in _UNSEEN:
    getattr(game, f"set_render_{what}")(False)
  game.set_available_buttons([getattr(vizdoom.Button, name) for name in _BUTTONS])
  game.set_available_game_variables([getattr(vizdoom.GameVariable, name) for name in _VARIABLES])


def check_openal() -> None:
  """Raises RuntimeError where OpenAL is missing: the game would run, and be silent."""
  if not sys.platform.startswith("linux"):
    return
  try:
    ctypes.CDLL("libopenal.so.1")
  except OSError as error:
    raise RuntimeError(
      f"vizdoom: sound is asked for, and without OpenAL the game is silent ({error}); install it "
      f"(Debian, Ubuntu: apt-get install libopenal1), or leave 'audio' out of modalities."
    ) from error


def find_wad(wad: str, root: pathlib.Path) -> pathlib.Path:
  """Returns the file of a wad: of the package, by name, or any, by path."""
  places = [root / f"{wad}.wad", root / "scenarios" / f"{wad}.wad", user_path(wad)]
  for path in places:
    if path.is_file():
      return path
  names = sorted(p.stem for p in (*root.glob("*.wad"), *root.glob("scenarios/*.wad")))
  raise FileNotFoundError(f"vizdoom: wad={wad!r} is no file and none of the package's {names}.")


def level_names(path: pathlib.Path) -> list[str]:
  """Returns the levels in a wad; of one that is not there the game would silently show another.

  Raises:
    ValueError: The file is no wad.
  """
  data = limits.read_bytes(path)
  count, start = struct.unpack_from("<ii", data, 4) if len(data) >= 12 else (-1, 0)
  if data[1:4] != b"WAD" or not 0 <= count <= (len(data) - start) // 16 or start < 0:
    raise ValueError(f"vizdoom: {path} is no wad, or cut off.")
  lumps = [data[start + 16 * i + 8 :][:8].rstrip(b"\0").decode("latin-1") for i in range(count)]
  return [a.upper() for a, b in zip(lumps, lumps[1:], strict=False) if b in ("THINGS", "TEXTMAP")]


def screen_size(size: tuple[int, int]) -> tuple[int, int]:
  """Returns columns and rows of the smallest screen from which an image can be scaled down."""
  for columns, rows in _SCREENS:
    if rows >= size[0] and columns >= size[1]:
      return columns, rows
  raise ValueError(f"vizdoom: an image of {size} is larger than the largest screen, 480 x 640.")


def crop_size(size: tuple[int, int]) -> tuple[float, float]:
  """Returns rows and columns of the middle part of the screen that is shown.

  One pixel of the image is `crop / size` pixels of the screen, in both directions.
  """
  columns, rows = screen_size(size)
  scale = min(rows / size[0], columns / size[1])
  return scale * size[0], scale * size[1]


def focal_px(size: tuple[int, int]) -> float:
  """Returns the focal length in pixels of the image: the screen's width shows 90 degrees."""
  return screen_size(size)[0] / 2 * size[0] / crop_size(size)[0]


def edges(size: tuple[int, int], axis: int) -> np.ndarray:
  """Returns the edges of the image's rows (or columns) on the screen, `[size + 1]`."""
  whole, crop, num = screen_size(size)[1 - axis], crop_size(size)[axis], size[axis]
  return (whole - crop) / 2 + np.arange(num + 1) * crop / num


def nearest(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
  """Returns the value in the middle between edges, for values that cannot be averaged."""
  middles = [np.floor((e[1:] + e[:-1]) / 2).astype(int) for e in (rows, columns)]
  return picture[middles[0][:, None], middles[1]]


def area_mean(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
  """Returns the mean between edges of each channel, float32; exact, and without threads.

  >>> area_mean(np.array([[[0], [4], [8]]]), np.array([0.0, 1]), np.array([0, 1.5, 3])).ravel()
  array([1.3333334, 6.6666665], dtype=float32)
  """
  value = picture.astype(np.float32)
  for axis, at in ((0, rows), (1, columns)):
    sums = np.zeros([n + (i == axis) for i, n in enumerate(value.shape)], np.float32)
    np.cumsum(value, axis=axis, out=sums[1:] if axis == 0 else sums[:, 1:])
    low = np.minimum(at.astype(int), value.shape[axis] - 1)
    part = (at - low).astype(np.float32).reshape((-1,) + (1,) * (2 - axis))
    below = sums.take(low, axis)
    value = np.diff(below + part * (sums.take(low + 1, axis) - below), axis=axis)
    value /= np.float32(at[1] - at[0])
  return value
