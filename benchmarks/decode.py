"""Decoding a video file to windows of 128 x 128 images with sound, on one core, in frames a second.

  python benchmarks/decode.py
  python benchmarks/decode.py --path=MY.mp4

Without --path it writes a file: 848 x 480, 30 frames/s, with sound. The reference is a script of ten
lines: every frame is decoded by PyAV to RGB at its own size, centre-cropped and resized by OpenCV;
once without the sound, and once with the whole sound track decoded too.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import av
import common
import cv2

from perceiver_stream import streams
from perceiver_stream.streams import video

SIDE = 128
PLAIN, PLAIN_SOUND = "PyAV + cv2.resize, no sound", "PyAV + cv2.resize, and sound"


def plain(path: str) -> int:
  """Decodes as in a tutorial and returns the number of frames."""
  count = 0
  with av.open(path) as container:
    container.streams.video[0].thread_type = "NONE"
    for frame in container.decode(video=0):
      rgb = frame.to_ndarray(format="rgb24")
      side = min(rgb.shape[:2])
      top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
      square = rgb[top : top + side, left : left + side]
      cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
      count += 1
  return count


def plain_sound(path: str) -> None:
  """Decodes the sound track to 16 kHz mono."""
  resampler = av.AudioResampler(format="flt", layout="mono", rate=16000)
  with av.open(path) as container:
    for frame in container.decode(audio=0):
      for piece in resampler.resample(frame):
        piece.to_ndarray()


def decode_only(path: str) -> None:
  """Decodes every frame and discards it: the lower bound."""
  with av.open(path) as container:
    container.streams.video[0].thread_type = "NONE"
    for _ in container.decode(video=0):
      pass


def exhaust(path: str, rate_hz: float, audio_rate_hz: int, window: int) -> None:
  """Reads the stream to its end, in windows, or tick by tick if `window` is 0."""
  config = video.Config(
    path=path, height=SIDE, width=SIDE, rate_hz=rate_hz, audio_rate_hz=audio_rate_hz
  )
  rows = streams.open_rows(config)
  for _ in streams.windows(rows, window, 16) if window else rows[0]:
    pass


def ways(path: str, rate: float, has_sound: bool) -> dict[str, Callable[[], Any]]:
  """Returns the contestants by name."""
  cv2.setNumThreads(1)
  found: dict[str, Callable[[], Any]] = {
    "decode only, no sound": lambda: decode_only(path),
    PLAIN: lambda: plain(path),
    "streams: ticks of the file's rate, no sound": lambda: exhaust(path, rate, 0, 0),
  }
  if not has_sound:
    return found | {
      "streams: windows of 8 + 16 at 25 Hz, no sound": lambda: exhaust(path, 25, 0, 8)
    }
  return found | {
    PLAIN_SOUND: lambda: (plain(path), plain_sound(path)),
    "streams: ticks at 25 Hz, 16 kHz sound": lambda: exhaust(path, 25, 16000, 0),
    "streams: windows of 8 + 16 at 25 Hz, 16 kHz sound": lambda: exhaust(path, 25, 16000, 8),
    "streams: windows of 2 + 16 at 25 Hz, 16 kHz sound": lambda: exhaust(path, 25, 16000, 2),
  }


def race(path: str, repeats: int) -> dict[str, Any]:
  """Returns seconds by contestant, on one core where the system supports it."""
  if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  with av.open(path) as container:
    track = container.streams.video[0]
    rate, has_sound = float(track.average_rate or 30), bool(container.streams.audio)
    what = (
      f"{track.width} x {track.height}, {rate:.4g} frames/s, {container.bit_rate / 1e6:.1f} Mbit/s"
    )
  return {
    "what": what,
    "frames": plain(path),
    "has_sound": has_sound,
    "seconds": common.medians(ways(path, rate, has_sound), repeats),
  }


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals())
  about = common.machine()
  path, made = options.path, ""
  if not path:
    size = {"height": 60, "width": 106} if options.tiny else {"height": 480, "width": 848}
    path = str(pathlib.Path(options.output) / ("decode_tiny.mp4" if options.tiny else "decode.mp4"))
    made = ", written for the purpose (a camera sweeps over texture)"
    common.write_video(pathlib.Path(path), seconds=1 if options.tiny else 12, **size)
  found = common.fresh(race, {"path": path, "repeats": 1 if options.tiny else 5})
  frames, seconds = found["frames"], found["seconds"]
  peers = [peer for peer in (PLAIN, PLAIN_SOUND) if peer in seconds]
  rows = [
    [name, frames / wall, frames / cpu, *(seconds[peer][1] / cpu for peer in peers)]
    for name, (wall, cpu) in seconds.items()
  ]
  columns = ["by", "frames/s", "frames/CPU s", *(f"x {peer}" for peer in peers)]
  note = (
    f"{pathlib.Path(path).name}{made}: {frames} frames of {found['what']}, to {SIDE} x {SIDE}, on "
    "one core. Ratios are of CPU time, which other programs disturb least. Frames are those of the file, also where ticks come at 25 Hz; windows are of new ticks + "
    "longest displacement, and ticks that two windows share are copied into both."
  )
  tables = [common.Table("From a file to ticks and windows", columns, rows, note)]
  common.publish("decode", options, tables, about)


if __name__ == "__main__":
  main()
