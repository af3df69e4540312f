"""CPU seconds until a stream, stopped deep inside a file, yields its next tick again.

  python benchmarks/resume.py
  python benchmarks/resume.py --hours=2 --path=MY.mp4

Files of `--hours` are written for the purpose: a short clip, its packets repeated, so that writing
costs little. Each is read once to its end for the states of an uninterrupted run; the
states at half and at the end are then restored in processes of their own, and the ticks compared.
"""

import pathlib
import time
import zlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av
import common
import numpy as np

from perceiver_stream.streams import video

CLIP_S = Fraction(96, 5)  # a whole number of frames of every codec below
PICTURES_HZ = 5
TICKS = 3  # compared


class Case(NamedTuple):
  """A file: its suffix and codecs, options of the container, and a note."""

  suffix: str
  pictures: str
  sound: str
  options: dict[str, str] = {}
  note: str = ""
  audio_hz: int = 24000
  layout: str = "mono"


CASES = (
  Case("mp4", "libx264", "aac", note="48 kHz stereo", audio_hz=48000, layout="stereo"),
  Case("mp4", "libx264", "aac"),
  Case("mkv", "libx264", "aac"),
  Case("mkv", "libx264", "aac", {"live": "1"}, "no index"),
  Case("ts", "libx264", "aac"),
  Case("ts", "mpeg2video", "mp2"),
  Case("mpg", "mpeg2video", "mp2"),
  Case("webm", "libvpx-vp9", "libopus"),
  Case("ogv", "libvpx", "libopus"),
  Case("avi", "mpeg4", "libmp3lame"),
  Case("flv", "libx264", "aac"),
  Case("flv", "libx264", "aac", {"flvflags": "add_keyframe_index"}, "index"),
  Case("wmv", "wmv2", "wmav2"),
  Case("mov", "mpeg4", "pcm_s16le"),
)
TINY = CASES[:1] + CASES[5:6]


# --- files


def write_clip(path: pathlib.Path, case: Case) -> None:
  """Writes a moving texture with a key frame every two seconds, and chords and noise."""
  scene = np.random.default_rng(0).integers(0, 256, (12, 40, 3), np.uint8).repeat(4, 0).repeat(4, 1)
  fast = {"preset": "ultrafast", "bf": "0"} if case.pictures == "libx264" else {}
  fast = {"deadline": "realtime", "cpu-used": "8"} if "vpx" in case.pictures else fast
  with av.open(str(path), "w") as container:
    pictures: Any = container.add_stream(case.pictures, rate=PICTURES_HZ, options=fast)
    pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
    pictures.codec_context.gop_size = 2 * PICTURES_HZ
    sound: Any = container.add_stream(case.sound, rate=case.audio_hz, layout=case.layout)
    sound.bit_rate = 2 * case.audio_hz
    for i in range(int(CLIP_S * PICTURES_HZ)):
      part = np.ascontiguousarray(scene[:, i % 90 : i % 90 + 64])
      frame: Any = av.VideoFrame.from_ndarray(part, format="rgb24")
      frame.pts = i
      container.mux(pictures.encode(frame))
    container.mux(pictures.encode(None))
    for frame in sound_frames(case.audio_hz, case.layout):
      container.mux(sound.encode(frame))
    container.mux(sound.encode(None))


def sound_frames(rate: int, layout: str) -> Iterator[av.AudioFrame]:
  """Yields frames of chords and noise in turns."""
  n = np.arange(int(CLIP_S * rate))
  hiss = np.random.default_rng(0).normal(0, 0.1, n.size)
  chord = sum(0.1 * np.sin(2 * np.pi * f * n / rate) for f in (220, 277.2, 1180))
  wave = np.where(n // 24000 % 2, hiss, chord).astype(np.float32)
  for at in range(0, n.size, 1024):
    part = wave[at : at + 1024]
    part = np.ascontiguousarray(np.broadcast_to(part, (av.AudioLayout(layout).nb_channels, 1024)))
    frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    yield frame


def write_long(path: pathlib.Path, case: Case, clips: int) -> None:
  """Writes a long file: the packets of a clip again and again."""
  clip = path.with_name("clip.wmv" if case.suffix == "wmv" else "clip.mkv")
  write_clip(clip, case)
  with av.open(str(clip)) as source, av.open(str(path), "w", options=case.options) as container:
    tracks = {s.index: container.add_stream_from_template(s) for s in source.streams}
    packets: list[Any] = [p for p in source.demux() if p.size]
    first = {p.stream.index: p.pts for p in reversed(packets)}
    length = {s.index: CLIP_S / Fraction(s.time_base or 1) for s in source.streams}
    for turn in range(clips):
      for packet in packets:
        index = packet.stream.index
        if packet.pts - first[index] < length[index]:
          container.mux(moved(packet, turn, tracks[index]))
  clip.unlink()


def moved(packet: Any, turn: int, track: Any) -> av.Packet:
  """Returns a copy of a packet, shifted by so many clips."""
  copy: Any = av.Packet(bytes(packet))
  shift = round(turn * CLIP_S / packet.time_base)
  copy.time_base, copy.duration = packet.time_base, packet.duration
  copy.pts = packet.pts + shift
  copy.dts = copy.pts if packet.dts is None else packet.dts + shift
  copy.is_keyframe, copy.stream = packet.is_keyframe, track
  return copy


# --- reading


def open_stream(path: str) -> Any:
  """Returns an iterator over the ticks of a file."""
  config = video.Config(
    path=path,
    height=32,
    width=32,
    rate_hz=float(PICTURES_HZ),
    audio_rate_hz=16000,
    on_damage="skip",
  )
  return iter(video.open_row(config))


def checksum(tick: dict[str, Any]) -> int:
  """Returns a checksum of a tick."""
  return zlib.crc32(tick["audio"].tobytes(), zlib.crc32(tick["pixels"].tobytes()))


def read_through(path: str, seconds: float) -> dict[str, Any]:
  """Reads a file once; returns the states at half and near its end, and the ticks after them."""
  length = int(seconds * PICTURES_HZ)
  places = (length // 2, length - 10 * TICKS)
  start, ticks = time.process_time(), open_stream(path)
  states, crcs = [], []
  for number, tick in enumerate(ticks):
    if number + 1 in places:
      states.append(ticks.get_state())
    crcs.append(checksum(tick))
  return {
    "seconds": time.process_time() - start,
    "states": states,
    "crcs": [crcs[place : place + TICKS] for place in places],
    "megabytes": pathlib.Path(path).stat().st_size / common.MB,
  }


def restore(path: str, state: dict[str, Any]) -> dict[str, Any]:
  """Restores a state; returns the CPU seconds to the next tick, and the ticks."""
  start, ticks = time.process_time(), open_stream(path)
  ticks.set_state(state)
  crcs = [checksum(next(ticks))]
  seconds = time.process_time() - start
  return {"seconds": seconds, "crcs": crcs + [checksum(next(ticks)) for _ in range(TICKS - 1)]}


def measured(path: str, length_s: float, tiny: bool) -> list[Any]:
  """Returns the numbers of a row of the table."""
  arguments = {"path": path, "seconds": length_s}
  through = common.fresh(read_through, arguments, inside=tiny)
  seconds = []
  for state, crcs in zip(through["states"], through["crcs"], strict=True):
    found = common.fresh(restore, {"path": path, "state": state}, inside=tiny)
    if found["crcs"] != crcs:
      raise RuntimeError(f"{path}: resuming gives other ticks than a run that never stopped")
    seconds.append(found["seconds"])
  whole = through["seconds"]
  return [through["megabytes"], whole, *seconds, seconds[-1] / whole]


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals(), {"hours": 2.0})
  about = common.machine()
  folder, rows = pathlib.Path(options.output), []
  folder.mkdir(parents=True, exist_ok=True)
  hours = 0.01 if options.tiny else options.hours
  clips = max(1, round(hours * 3600 / float(CLIP_S)))
  if options.path:
    container: Any = av.open(options.path)
    length_s = (container.duration or 0) / av.time_base
    name = pathlib.Path(options.path).name
    rows.append([name, "", *measured(options.path, length_s, options.tiny)])
  for case in () if options.path else TINY if options.tiny else CASES:
    path = folder / f"resume.{case.suffix}"
    write_long(path, case, clips)
    name = f"{case.suffix}: {case.pictures}, {case.sound}"
    length_s = float(clips * CLIP_S)
    rows.append([name, case.note, *measured(str(path), length_s, options.tiny)])
    path.unlink()
  half, end = f"{hours / 2:g} h", f"{hours:g} h"
  columns = ["file", "", "MB", "CPU s to read it", f"CPU s to resume at {half}", f"at {end}"]
  note = (
    f"64 x 48 images at {PICTURES_HZ} Hz, a key frame every two seconds, mono sound of 24 kHz "
    f"unless stated; ticks of 32 x 32 and 16 kHz. From `set_state` to the next tick, in a new "
    f"process, without starting Python. The {TICKS} ticks after it equal those of the run that read "
    "the whole file; the script stops with an error where they differ."
  )
  columns.append("x reading it")
  table = common.Table("Resuming deep inside a file", columns, rows, note)
  common.publish("resume", options, [table], about)


if __name__ == "__main__":
  main()
