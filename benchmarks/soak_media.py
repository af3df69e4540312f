"""Damages thousands of media files at random and reads each to its end.

  python benchmarks/soak_media.py --files=2400
  python benchmarks/soak_media.py --files=2400 --path=media/demo,MY.mp4

Small clips of several containers and codecs, and copies of the files of `--path`, are damaged by
flipped bits, runs of noise, cuts, parts removed or duplicated, and headers of other files,
and read with `on_damage="skip"` in a supervised process: a file that takes too long, uses too
much memory, ends the process or fails in any way but `DamagedError` is a failure, and so is one
with fewer ticks than the whole file and no report. Damage that changes pixels and
that the decoder does not detect cannot be detected by the reader either; it is counted.
"""

import collections
import dataclasses
import json
import logging
import pathlib
import queue
import random
import resource
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from typing import Any

import common

WATCHDOG_S = 60
MEMORY_BYTES = 4 * 2**30  # of address space
MAX_TICKS = 3000
MAX_REAL_BYTES = 5_000_000
CLIPS = (  # suffix, video codec, sound codec, options of the container
  ("mp4", "libx264", "aac", {"movflags": "faststart"}),
  ("mp4", "mpeg4", "aac", {}),
  ("mkv", "libx264", "libopus", {}),
  ("mkv", "ffv1", "flac", {}),
  ("webm", "libvpx-vp9", "libopus", {}),
  ("avi", "mpeg4", "libmp3lame", {}),
  ("mov", "mjpeg", "pcm_s16le", {}),
  ("ts", "mpeg2video", "mp2", {}),
  ("mp4", "libx265", "aac", {"movflags": "frag_keyframe+empty_moov"}),
)


def write_clip(path: pathlib.Path, codec: str, sound: str, options: dict[str, str]) -> None:
  """Writes two seconds of moving noise with a tone."""
  import av
  import numpy as np

  rng = np.random.default_rng(0)
  scene = rng.integers(0, 256, (12, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
  with av.open(str(path), "w", options=options) as container:
    fast = {"preset": "ultrafast", "x265-params": "log-level=none"} if "26" in codec else {}
    fast = {"cpu-used": "8"} if "vp9" in codec else fast
    video: Any = container.add_stream(codec, rate=25, options=fast)
    video.width, video.height = 96, 64
    video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    video.codec_context.gop_size = 12
    audio: Any = container.add_stream(sound, rate=48000, layout="mono")
    for i in range(50):
      part = np.ascontiguousarray(scene[i // 3 : i // 3 + 64, i : i + 96])
      container.mux(video.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
    container.mux(video.encode(None))
    tone = np.round(8000 * np.sin(np.arange(2 * 48000) / 20)).astype(np.int16)
    for at in range(0, tone.size, 960):
      frame = av.AudioFrame.from_ndarray(tone[None, at : at + 960], format="s16", layout="mono")
      frame.sample_rate, frame.pts = 48000, at
      container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


# --- damage: each takes (data, header of another file, rng)


def flip_bits(data: bytearray, other: bytes, rng: random.Random) -> bytes:
  """Flips 1 to 200 bits at random positions."""
  for _ in range(round(10 ** rng.uniform(0, 2.3))):
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  return bytes(data)


def flip_header(data: bytearray, other: bytes, rng: random.Random) -> bytes:
  """Changes 1 to 20 bytes of the first or last two thousand."""
  for _ in range(rng.randint(1, 20)):
    at = rng.randrange(min(2000, len(data)))
    data[at if rng.random() < 0.6 else -1 - at] = rng.randrange(256)
  return bytes(data)


def noise(data: bytearray, other: bytes, rng: random.Random) -> bytes:
  """Overwrites a range with noise or zeros."""
  at, length = rng.randrange(len(data)), round(10 ** rng.uniform(0.5, 3.5))
  length = min(length, len(data) - at)
  data[at : at + length] = bytes(length) if rng.random() < 0.3 else rng.randbytes(length)
  return bytes(data)


def cut(data: bytearray, other: bytes, rng: random.Random) -> bytes:
  """Removes the end or the start."""
  at = rng.randrange(len(data))
  return bytes(data[:at] if rng.random() < 0.8 else data[at:])


def splice(data: bytearray, other: bytes, rng: random.Random) -> bytes:
  """Removes a part, or copies it to another position."""
  at, to = rng.randrange(len(data)), rng.randrange(len(data))
  piece = bytes(data[at : at + round(10 ** rng.uniform(1, 3.5))])
  if rng.random() < 0.5:
    del data[at : at + len(piece)]
    return bytes(data)
  return bytes(data[:to]) + piece + bytes(data[to:])


def foreign_header(data: bytearray, other: bytes, rng: random.Random) -> bytes:
  """Writes the start of another file over this one's, or before it."""
  length = round(10 ** rng.uniform(0.7, 3.2))
  return other[:length] + bytes(data[length if rng.random() < 0.7 else 0 :])


WAYS: tuple[Callable[..., bytes], ...] = (
  flip_bits,
  flip_header,
  noise,
  cut,
  splice,
  foreign_header,
)


# --- reading, in a process of its own


def read(path: str) -> dict[str, Any]:
  """Returns checksums and flags of all ticks, and the reports."""
  from perceiver_stream.streams import video
  from perceiver_stream.streams.damage import DamagedError

  config = video.Config(
    path=path, height=24, width=32, on_damage="skip", max_ticks=MAX_TICKS, audio_rate_hz=16000
  )
  ticks = iter(video.open_row(config))
  crcs, valid, heard = [], [], Heard()
  logging.getLogger("perceiver_stream").addHandler(heard)
  try:
    for tick in ticks:
      crcs.append(zlib.crc32(tick["pixels"].tobytes()))
      valid.append(bool(tick["pixels_valid"]))
    damage = dataclasses.asdict(ticks.damage)  # type: ignore[attr-defined]
    return {"crcs": crcs, "valid": valid, "damage": damage, "said": heard.messages}
  except DamagedError as error:
    return {"refused": str(error)}
  finally:
    ticks.close()
    logging.getLogger("perceiver_stream").removeHandler(heard)


class Heard(logging.Handler):
  """Records warnings, except those about sound, which need not be damage."""

  def __init__(self) -> None:
    super().__init__()
    self.messages: list[str] = []

  def emit(self, record: logging.LogRecord) -> None:
    """Records a warning."""
    if " sound " not in record.getMessage():
      self.messages.append(record.getMessage())


def work() -> None:
  """Reads the files named on standard input, one a line, and answers with a line each."""
  resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
  for line in sys.stdin:
    try:
      answer = read(line.strip())
    except Exception as error:
      answer = {"failed": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps(answer), flush=True)


class Reader:
  """A process that reads files; a new one is started when it has died or hung."""

  def __init__(self, errors: pathlib.Path):
    self._errors = errors
    self._process: subprocess.Popen | None = None

  def __call__(self, path: str) -> dict[str, Any]:
    """Returns the result of reading a file: `died` and `hung` without a result."""
    process = self._start() if self._process is None else self._process
    self._process = process
    assert process.stdin is not None
    process.stdin.write(f"{path}\n".encode())
    process.stdin.flush()
    try:
      line = self._answers.get(timeout=WATCHDOG_S)
    except queue.Empty:
      self.close()
      return {"hung": True}
    if line:
      return json.loads(line)
    code = process.wait()
    self.close()
    return {"died": code}

  def _start(self) -> subprocess.Popen:
    asked = json.dumps({"function": "work", "arguments": {}})
    command = [sys.executable, __file__, "--probe", asked]
    pipe = subprocess.PIPE
    with self._errors.open("ab") as errors:
      process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors)
    self._answers: queue.Queue[bytes] = queue.Queue()
    self._listener = threading.Thread(target=self._listen, args=(process, self._answers))
    self._listener.start()
    return process

  @staticmethod
  def _listen(process: subprocess.Popen, answers: queue.Queue) -> None:
    assert process.stdout is not None
    for line in process.stdout:
      answers.put(line)
    answers.put(b"")

  def close(self) -> None:
    """Ends the process."""
    if self._process is not None:
      self._process.kill()
      self._process.wait()
      self._listener.join()
      for pipe in (self._process.stdin, self._process.stdout):
        if pipe is not None:
          pipe.close()
      self._process = None


# --- outcomes


def judge(whole: dict[str, Any], got: dict[str, Any]) -> str:
  """Returns the outcome of reading a damaged file in a word."""
  for word in ("hung", "died", "failed", "refused"):
    if word in got:
      return word
  told = any(n for kind, n in got["damage"].items() if kind != "gaps") or not all(got["valid"])
  if told or got["said"]:
    return "told"
  if got["crcs"] == whole["crcs"]:
    return "unharmed"
  return "changed" if len(got["crcs"]) >= len(whole["crcs"]) else "silent"


def sources(folder: pathlib.Path, path: str) -> list[pathlib.Path]:
  """Returns the files to damage: clips written here, and small files of `path`."""
  from perceiver_stream.streams import playlist

  found = []
  for i, (suffix, codec, sound, options) in enumerate(CLIPS):
    found.append(folder / f"clip{i}.{suffix}")
    write_clip(found[-1], codec, sound, options)
  real = [pathlib.Path(p) for p in playlist.find_files(path)] if path else []
  return found + [p for p in real if p.stat().st_size <= MAX_REAL_BYTES]


def soak(folder: pathlib.Path, files: int, path: str, seed: int) -> dict[str, Any]:
  """Returns counts by damage and outcome, and a list of failures, whose files are stored."""
  folder.mkdir(parents=True, exist_ok=True)
  rng, reader = random.Random(seed), Reader(folder / "errors.log")
  originals = sources(folder, path)
  data = [p.read_bytes() for p in originals]
  whole = [reader(str(p)) for p in originals]
  for original, result in zip(originals, whole, strict=True):
    if "crcs" not in result:
      raise RuntimeError(f"{original} cannot be read before any damage: {result}")
  counts: dict[str, collections.Counter[str]] = {w.__name__: collections.Counter() for w in WAYS}
  failures = []
  for number in range(files):
    which, way = number % len(originals), WAYS[number // len(originals) % len(WAYS)]
    other = data[rng.randrange(len(data))]
    damaged = folder / f"damaged-{number}{originals[which].suffix}"
    damaged.write_bytes(way(bytearray(data[which]), other, rng))
    got = reader(str(damaged))
    word = judge(whole[which], got)
    counts[way.__name__][word] += 1
    if word in ("hung", "died", "failed", "silent"):
      what = f"{way.__name__} of {originals[which].name}: {word} {got.get('failed', '')}".strip()
      failures.append(f"{damaged.name} ({what})")
    else:
      damaged.unlink()
  reader.close()
  return {"counts": counts, "failures": failures, "originals": len(originals)}


def main(argv: list[str] | None = None) -> None:
  more = {"files": 2400, "seed": 0}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  files = 60 if options.tiny else options.files
  folder = pathlib.Path(options.output) / "soak_media"
  found = soak(folder, files, options.path, options.seed)
  words = {
    "unharmed": "unharmed",
    "told": "damage reported",
    "refused": "refused",
    "changed": "changed, unnoticed by the decoder",
    "silent": "fewer ticks, not reported",
    "failed": "other error",
    "hung": "hung",
    "died": "process died",
  }
  total = sum(found["counts"].values(), collections.Counter())
  rows = [
    [way.replace("_", " "), sum(c.values()), *(c[word] for word in words), c["told"] / files]
    for way, c in (*found["counts"].items(), ("all", total))
  ]
  columns = ["damage", "files", *words.values(), "x reported of all"]
  failures = "; ".join(found["failures"][:20]) or "none"
  note = f"{found['originals']} originals, of {len(CLIPS)} containers and codecs, seed {options.seed}. Failures: {failures}."
  common.publish("soak_media", options, [common.Table("Damaged files", columns, rows, note)], about)


if __name__ == "__main__":
  main()
