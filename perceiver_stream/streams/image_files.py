"""Folders of images with depth: their files, the times of these, and a reader for each layout.

visp      image_0001.pgm or color_image_0001.jpg, with depth_image_0001.bin: uint32 rows, uint32
          columns, then uint16 values (the castel sequence of ViSP)
tum       rgb.txt, depth.txt, groundtruth.txt: lines of a time in seconds and a file, or a pose
          (tx ty tz qx qy qz qw)
scannet   color/0.jpg, depth/0.png, pose/0.txt (4 x 4, camera to world)
"""

import io
import itertools
import math
import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np

from perceiver_stream.files import limits
from perceiver_stream.streams import frame_numbers
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.picker import Picker
from perceiver_stream.utils.paths import user_path

UNITS = {"visp": 0.000124986647, "tum": 1 / 5000, "scannet": 1 / 1000}  # metres in a depth value
NAMES = ("pixels", "depth", "camera")
CODECS = {".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg", ".pgm": "pgm", ".ppm": "ppm"}
CODECS |= {".bmp": "bmp", ".tif": "tiff", ".tiff": "tiff", ".webp": "webp", ".jfif": "mjpeg"}
_TIME = re.compile(r"[+-]?(\d{1,20}\.?\d{0,20}|\.\d{1,20})([eE][+-]?\d{1,2})?")
_MAX_POSE_BYTES = 2**16
_ENDS = {"png": b"IEND\xaeB`\x82", "mjpeg": b"\xff\xd9"}


@dataclass
class Track:
  """The files of one sensor, in order of time.

  Attributes:
    times: Seconds from the sequence's first image.
    items: A path each, or a pose; a number where so many are missing.
  """

  times: list[Fraction] = field(default_factory=list)
  items: list[Any] = field(default_factory=list)


def layout_of(folder: pathlib.Path) -> str:
  """Returns the layout of a folder, or nothing."""
  if (folder / "rgb.txt").is_file():
    return "tum"
  if (folder / "color").is_dir():
    return "scannet"
  return "visp" if any(_numbered(folder, r"(?:color_)?image_(\d+)\.\w+")) else ""


def find_sequences(path: str, layout: str) -> tuple[tuple[str, str], ...]:
  """Returns `(folder, layout)` of all sequences, in order.

  Args:
    path: A folder that is a sequence, or one of which some folders are, sorted by name; or several
      between commas.
    layout: A key of `UNITS`, or `"auto"`.

  Raises:
    FileNotFoundError: A folder is not there.
    ValueError: A folder is no sequence and holds none.
  """
  found: list[tuple[str, str]] = []
  for place in [user_path(part.strip()) for part in path.split(",") if part.strip()]:
    if not place.is_dir():
      raise FileNotFoundError(f"images: there is no folder {str(place)!r}; check the path.")
    inside = [place, *sorted(p for p in place.iterdir() if p.is_dir())]
    kinds = [(str(p), layout_of(p)) for p in inside]
    fitting = [(p, kind) for p, kind in kinds if kind and layout in ("auto", kind)]
    if not fitting:
      raise ValueError(
        f"images: {place} is no sequence of layout {layout!r} and holds none (found: "
        f"{sorted({kind for _, kind in kinds if kind}) or 'none at all'}); see streams.image_files."
      )
    found += fitting[:1] if fitting[0][0] == str(place) else fitting
  if not found:
    raise ValueError("images: path is empty; name a folder of images.")
  return tuple(found)


def read_tracks(folder: pathlib.Path, layout: str, source_rate: Fraction) -> dict[str, Track]:
  """Returns the tracks of a sequence by modality, on one clock that is 0 at its first image.

  Args:
    folder: Of the sequence.
    layout: A key of `UNITS`.
    source_rate: Images per second of layouts that have numbers and no times.
  """
  if layout == "tum":
    tracks = {
      "pixels": _listed(folder, "rgb.txt", _path),
      "depth": _listed(folder, "depth.txt", _path),
    }
    tracks["camera"] = _listed(folder, "groundtruth.txt", _pose_of_line)
  else:
    patterns = {
      "visp": {"pixels": r"(?:color_)?image_(\d+)\.\w+", "depth": r"depth_image_(\d+)\.bin"},
      "scannet": {
        "pixels": r"color/(\d+)\.\w+", "depth": r"depth/(\d+)\.\w+", "camera": r"pose/(\d+)\.txt",
      },
    }[layout]  # fmt: skip
    found = {name: dict(_numbered(folder, pattern)) for name, pattern in patterns.items()}
    tracks = {name: Track() for name in NAMES} | _on_one_grid(found, source_rate)
  if not tracks["pixels"].times:
    raise DamagedError(f"images: {folder} has no image where layout {layout!r} has them.")
  start = tracks["pixels"].times[0]
  return {name: Track([t - start for t in x.times], x.items) for name, x in tracks.items()}


def _numbered(folder: pathlib.Path, pattern: str) -> list[tuple[int, pathlib.Path]]:
  inside, _, name = pattern.rpartition("/")
  place = folder / inside
  matches = [(re.fullmatch(name, p.name), p) for p in place.iterdir()] if place.is_dir() else []
  return sorted((int(match[1]), p) for match, p in matches if match)


def _on_one_grid(found: dict[str, dict[int, pathlib.Path]], rate: Fraction) -> dict[str, Track]:
  """Returns tracks at the times that numbers stand for; steps are as most are (exports skip some).

  A hole, numbers of which there is no file at all, is one item: how many are missing, at the time of
  the first. Numbers too far apart to be those of frames (dates, ids) are an order and no times.
  """
  numbers = sorted(found["pixels"])
  step, holes = frame_numbers.common_step(numbers), {}
  if frame_numbers.positions(numbers) is None:
    times = {number: Fraction(place) / rate for place, number in enumerate(numbers)}
  else:
    known = {n for files in found.values() for n in files if (n - numbers[0]) % step == 0}
    known = sorted({n for n in known if numbers[0] <= n <= numbers[-1]} | set(numbers))
    gaps = {a + step: math.ceil((b - a) / step) - 1 for a, b in itertools.pairwise(known)}
    holes = {number: count for number, count in gaps.items() if count}
    times = {n: Fraction(n, step) / rate for n in sorted([*known, *holes])}
  return {
    name: Track(list(times.values()), [files.get(n, holes.get(n, 1)) for n in times])
    for name, files in found.items()
  }


def _listed(folder: pathlib.Path, name: str, item: Callable[[pathlib.Path, str], Any]) -> Track:
  """Returns the entries of a list with times; unreadable lines count as missing."""
  path, entries = folder / name, []
  try:
    text = limits.read_text(path) if path.is_file() else ""
  except (OSError, ValueError) as error:
    raise DamagedError(f"{path} cannot be read: {error}") from error
  for line in text.splitlines():
    time, _, rest = line.strip().replace(",", " ").partition(" ")
    if time and not time.startswith("#"):
      try:
        entries.append((_time(time), item(folder, rest.strip())))
      except ValueError as error:
        raise DamagedError(f"{path}: the line {line!r} has no time and value: {error}.") from error
  entries.sort(key=lambda entry: entry[0])
  if entries and entries[-1][0] - entries[0][0] > limits.MAX_SECONDS:
    raise DamagedError(
      f"{path}: its times go from {float(entries[0][0]):g} to {float(entries[-1][0]):g} s, which is "
      f"no recording; remove the line that is wrong."
    )
  return Track([time for time, _ in entries], [value for _, value in entries])


def _time(word: str) -> Fraction:
  """Returns seconds; a fraction with a huge exponent would never be computed."""
  if not _TIME.fullmatch(word):
    raise ValueError(f"{word[:40]!r} is no time in seconds")
  return Fraction(word)


def _path(folder: pathlib.Path, rest: str) -> pathlib.Path:
  return limits.inside(folder, rest)


def _pose_of_line(folder: pathlib.Path, rest: str) -> np.ndarray:
  del folder
  values = [float(value) for value in rest.split()]
  if len(values) != 7:
    raise ValueError(f"{len(values)} values, expected tx ty tz qx qy qz qw")
  return pose_matrix(np.array(values[:3]), np.array(values[3:]))


def pose_matrix(place: np.ndarray, turn: np.ndarray) -> np.ndarray:
  """Returns rows of 3 x 4 matrices `[..., 12]`, of places `[..., 3]` and quaternions x, y, z, w."""
  x, y, z, w = np.moveaxis(turn, -1, 0)
  columns = [
    [1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)],
    [2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)],
    [2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)],
    np.moveaxis(place, -1, 0),
  ]
  matrix = np.stack([np.stack(list(column), -1) for column in columns], -1)
  return matrix.astype(np.float32).reshape(*matrix.shape[:-2], 12)


def read_camera(item: Any) -> np.ndarray | None:
  """Returns a pose `[12]`; None where tracking was lost; DamagedError where it cannot be read."""
  try:
    pose = item if isinstance(item, np.ndarray) else _pose_of_file(item)
  except (OSError, ValueError, IndexError) as error:
    raise DamagedError(f"the pose {item} cannot be read: {error}") from error
  if pose.shape != (12,):
    raise DamagedError(f"the pose {item} has {pose.size} values in its first rows, expected 3 x 4")
  return pose if np.isfinite(pose).all() else None


def _pose_of_file(path: pathlib.Path) -> np.ndarray:
  text = limits.read_text(path, _MAX_POSE_BYTES)
  return np.loadtxt(io.StringIO(text), ndmin=2)[:3].astype(np.float32).ravel()


def read_pixels(path: pathlib.Path, height: int, width: int, crop: str) -> np.ndarray:
  """Returns RGB, uint8 `[H, W, 3]`; DamagedError if the file is incomplete."""
  return Picker(height, width, crop)(read_frame(path))


def read_depth(path: pathlib.Path, height: int, width: int, crop: str, unit_m: float) -> np.ndarray:
  """Returns metres, float32 `[H, W]`, NaN where unknown; DamagedError if the file is incomplete.

  Depth is not averaged: each pixel has the value nearest to it.
  """
  raw = (
    _raw_depth(path) if path.suffix == ".bin" else read_frame(path).to_ndarray(format="gray16le")
  )
  rows, columns = nearest(raw.shape, (height, width), crop)
  raw = raw[rows][:, columns]
  return np.where(raw > 0, raw * np.float32(unit_m), np.float32(np.nan))


def read_ids(path: pathlib.Path) -> np.ndarray:
  """Returns the numbers of a palette, grey or one-bit PNG, `[H, W]`, as they are stored.

  Raises:
    DamagedError: The file is incomplete, or has colours instead of numbers.
  """
  frame = read_frame(path)
  kind = frame.format.name
  if kind == "pal8":
    return np.asarray(frame.to_ndarray()[0])
  if kind in ("monob", "monow"):
    return (frame.to_ndarray(format="gray") > 0).astype(np.uint8)
  if kind in ("gray", "gray16be", "gray16le"):
    return frame.to_ndarray(format=kind.replace("be", "le"))
  raise DamagedError(
    f"{path} has {kind} pixels, expected a palette or grey: a number for each pixel"
  )


def scaled_size(source: tuple[int, ...], size: tuple[int, int], crop: str) -> tuple[int, int]:
  """Returns the size of the whole image before what sticks out of `size` is cut, as `Picker`."""
  if crop == "squash":
    return size
  scale = max(Fraction(n, m) for n, m in zip(size, source, strict=True))
  rows, columns = (max(n, round(m * scale)) for n, m in zip(size, source, strict=True))
  return rows, columns


def nearest(source: tuple[int, ...], size: tuple[int, int], crop: str) -> list[np.ndarray]:
  """Returns the rows and the columns of the source that lie under those of a smaller image."""
  full = scaled_size(source, size, crop)
  return [
    ((np.arange(n) + (f - n) // 2 + 0.5) * m / f).astype(int)
    for n, f, m in zip(size, full, source, strict=True)
  ]


def _raw_depth(path: pathlib.Path) -> np.ndarray:
  data = _bytes(path)
  height, width = np.frombuffer(data[:8], "<u4") if len(data) >= 8 else (0, 0)
  if not height or not width or len(data) != 8 + 2 * int(height) * int(width):
    raise DamagedError(f"{path} has {len(data)} bytes, not those of {height} x {width} values")
  return np.frombuffer(data[8:], "<u2").reshape(height, width)


def read_frame(path: pathlib.Path) -> av.VideoFrame:
  """Returns an image as decoded; DamagedError if the file is incomplete."""
  data, name = _bytes(path), CODECS.get(path.suffix.lower(), "")
  if not name:
    raise DamagedError(f"{path} is none of {sorted(CODECS)}")
  return decode_image(data, name, str(path))


def decode_image(data: bytes, codec_name: str, where: str) -> av.VideoFrame:
  """Returns an image as decoded.

  Args:
    data: Of the image.
    codec_name: FFmpeg's name of its format, one of `CODECS`.
    where: For messages.

  Raises:
    DamagedError: It is incomplete, or has more than `limits.MAX_PIXELS`.
  """
  if (
    data.rfind(_ENDS.get(codec_name, b"")) < len(data) // 2
  ):  # some writers leave more after the end
    raise DamagedError(f"{where} ({len(data)} bytes) is cut off")
  codec: Any = av.CodecContext.create(codec_name, "r")
  codec.options = {"err_detect": "explode", "max_pixels": str(limits.MAX_PIXELS)}
  try:
    frames: list[Any] = [*codec.decode(av.Packet(data)), *codec.decode(None)]
  except (av.error.FFmpegError, ValueError) as error:
    raise DamagedError(f"{where} ({len(data)} bytes) cannot be decoded: {error}") from error
  if not frames or frames[0].is_corrupt:
    raise DamagedError(f"{where} ({len(data)} bytes) cannot be decoded")
  return frames[0]


def _bytes(path: pathlib.Path | None) -> bytes:
  try:
    return b"" if path is None else limits.read_bytes(path)
  except OSError as error:
    raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
  except limits.RefusedError as error:
    raise DamagedError(f"{error}") from error
