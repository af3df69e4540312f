"""The ffmpeg program of the package imageio-ffmpeg: what players show, for comparison."""

import pathlib
import subprocess
from collections.abc import Mapping, Sequence

import imageio_ffmpeg
import numpy as np


def run(*arguments: str | pathlib.Path) -> None:
  """Runs ffmpeg; raises where it fails, with what it says."""
  command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y"]
  done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def make(sources: Sequence[str], outputs: Mapping[pathlib.Path, Sequence[str]]) -> None:
  """Writes files with the given output options, all in one run."""
  run(*sources, *(part for path, options in outputs.items() for part in (*options, path)))


def pictures(paths: Mapping[pathlib.Path, str], folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
  """Returns the RGB bytes of all frames of files, in square pixels, as the program shows them.

  Args:
    paths: The files, and for each an FFmpeg filter to apply first, or "".
    folder: For temporary files.
  """
  inputs = [part for path in paths for part in ("-i", path)]
  outputs, raw = [], {path: folder / f"{number}.rgb" for number, path in enumerate(paths)}
  for number, (path, first) in enumerate(paths.items()):
    square = "scale=w=round(iw*sar):h=ih:flags=area,format=rgb24"
    filters = f"{first},{square}" if first else square
    outputs += ["-map", f"{number}:v:0", "-fps_mode", "passthrough", "-vf", filters]
    outputs += ["-f", "rawvideo", raw[path]]
  run(*inputs, *outputs)
  return {path: file.read_bytes() for path, file in raw.items()}


def samples(path: pathlib.Path, rate: int, folder: pathlib.Path) -> np.ndarray:
  """Returns the sound of a file as the program mixes it to one channel, float32 in [-1, 1]."""
  raw = folder / "sound.raw"
  run("-i", path, "-map", "0:a:0", "-ac", "1", "-ar", str(rate), "-f", "s16le", raw)
  return np.frombuffer(raw.read_bytes(), "<i2").astype(np.float32) / 32768
