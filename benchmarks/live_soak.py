"""Half an hour of `perceiver-stream live`, learning from a camera that loops over a file: memory, delay, counts.

  python benchmarks/live_soak.py --minutes=30 --path=MY.mp4

Three processes: a camera, which sends H.264 with sound by TCP at 12.5 images/s, each when it is due;
the server with its default model; and here a viewer of its WebSocket. The delay is from the time at
which the camera's image was due to the viewer's receipt of its tick. Other arguments are those of
`perceiver-stream live`.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import queue
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from fractions import Fraction
from typing import Any

import common
import numpy as np

RATE_HZ, AUDIO_RATE_HZ = 12.5, 16000
HEIGHT, WIDTH = 240, 320
TOLERANCE = 2.0  # per cent of the memory at minute 5


def encoded(path: str) -> tuple[list[bytes], list[np.ndarray]]:
  """Returns the images of a video in H.264, of which each depends on those before, and its sound."""
  import av

  from perceiver_stream.streams import video

  config = video.Config(
    path=path, height=HEIGHT, width=WIDTH, rate_hz=RATE_HZ, audio_rate_hz=AUDIO_RATE_HZ
  )
  coder: Any = av.CodecContext.create("libx264", "w")
  coder.width, coder.height, coder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
  coder.time_base, coder.options = 1 / Fraction(RATE_HZ), {"tune": "zerolatency"}
  images, sound = [], []
  for number, tick in enumerate(video.open_row(config)):
    frame = av.VideoFrame.from_ndarray(tick["pixels"], format="rgb24")
    frame.pts = number
    images += [bytes(packet) for packet in coder.encode(frame)]
    sound.append(tick["audio"])
  return images, sound


def film(path: str, port: int, seconds: float, sent: Any) -> None:
  """Sends images and sound, again and again, to the first that connects.

  Puts its start, then the number of images, and how late the latest was sent, s.
  """
  import av

  images, sounds = encoded(path)
  rate, number, latest_s = Fraction(RATE_HZ), 0, 0.0
  address = f"tcp://127.0.0.1:{port}?listen=1&tcp_nodelay=1"
  options = {"flush_packets": "1", "pes_payload_size": "16"}  # sound is sent as it comes
  with av.open(address, "w", format="mpegts", container_options=options) as out:
    pictures: Any = out.add_stream("libx264", rate=rate)
    pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    sound: Any = out.add_stream("aac", rate=AUDIO_RATE_HZ)
    sound.layout = "mono"
    out.start_encoding()  # waits for the connection
    start = time.time()
    sent.put(start)
    for number in range(round(seconds * RATE_HZ)):
      late_s = time.time() - start - number / RATE_HZ
      latest_s = max(late_s, latest_s)
      time.sleep(max(0.0, -late_s))
      packet = av.Packet(images[number % len(images)])
      packet.stream, packet.time_base = pictures, 1 / rate
      packet.pts = packet.dts = number
      packet.is_keyframe = number % len(images) == 0
      samples = sounds[number % len(sounds)].reshape(1, -1)
      block = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
      block.rate, block.time_base = AUDIO_RATE_HZ, Fraction(1, AUDIO_RATE_HZ)
      block.pts = number * samples.size
      out.mux([*sound.encode(block), packet])
    out.mux(sound.encode(None))
    sent.put((number + 1, latest_s))


def free_port() -> int:
  """Returns a port that nobody uses."""
  with socket.socket() as bound:
    bound.bind(("127.0.0.1", 0))
    return bound.getsockname()[1]


def memory_mb(process: int) -> tuple[float, float]:
  """Returns the memory of a process (Linux), in MB: its own, and what is resident.

  Its own is anonymous memory, with what is swapped out. Resident memory also has pages of program
  files, which the kernel takes back while other processes need room.
  """
  text = pathlib.Path(f"/proc/{process}/status").read_text()
  sizes = {name: int(kb) * 1024 / common.MB for name, kb in re.findall(r"(\w+):\s+(\d+) kB", text)}
  return sizes["RssAnon"] + sizes["VmSwap"], sizes["VmRSS"]


class Watch:
  """The ticks of a viewer and the memory of the server, each with its second since the start."""

  def __init__(self, process: int, start_s: float):
    self.start_s, self._process = start_s, process
    self.delays: list[tuple[float, float]] = []
    self.memory: list[tuple[float, float, float]] = []  # own and resident
    self.last: dict[str, Any] = {}
    self.is_over = False

  def take(self, message: bytes) -> None:
    """Takes a message of the server."""
    header = json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])
    now = time.time() - self.start_s
    if header["kind"] == "tick":
      self.delays.append((now, now - header["time_s"]))
      self.last = header
    self.is_over |= header["kind"] == "end"
    if not self.memory or now - self.memory[-1][0] >= 1:
      self.memory.append((now, *memory_mb(self._process)))

  def rows(self, minutes: float, every: float) -> list[tuple[str, ...]]:
    """Returns a row per `every` minutes: memory at its end, delays in it."""
    rows, ends = [], np.arange(every, minutes + 0.01, every)
    reference, _ = self._memory_at(60 * ends[0])
    for end in ends:
      some = sorted(d for at, d in self.delays if 60 * (end - every) <= at < 60 * end)
      used, resident = self._memory_at(60 * end)
      rows.append(
        (
          f"{end:g}",
          f"{used:.0f}",
          f"{100 * (used / reference - 1):+.1f} %",
          f"{resident:.0f}",
          f"{1000 * statistics.median(some):.0f}" if some else "none",
          f"{1000 * some[int(0.95 * len(some))]:.0f}" if some else "none",
          f"{len(some) / (60 * every):.1f}",
        )
      )
    return rows

  def _memory_at(self, second: float) -> tuple[float, float]:
    """Returns the most of both kinds of memory in the minute before: that of a learning step."""
    some = [sample[1:] for sample in self.memory if second - 60 <= sample[0] <= second]
    some = some or [sample[1:] for sample in self.memory if sample[0] <= second][-1:]
    own, resident = map(max, zip(*some, strict=True))
    return own, resident


def connected(url: str, tries: int = 60) -> Any:
  """Returns a connection to the page's socket; the address is printed before the server listens."""
  from websockets.sync.client import connect

  for left in reversed(range(tries)):
    try:
      return connect(url.replace("http", "ws", 1).replace("/?", "/ws?"), max_size=2**24)
    except OSError:
      if not left:
        raise
      time.sleep(1)


def watch(url: str, process: int, camera: Any) -> tuple[Watch, tuple[int, float], dict[str, Any]]:
  """Returns what a viewer saw, the camera's count and lateness, and the server's counts, at the end."""
  with connected(url) as viewer:
    watched = Watch(process, camera.get(timeout=600))
    while not watched.is_over:
      message = viewer.recv(timeout=120)
      if isinstance(message, bytes):
        watched.take(message)
        viewer.send('{"do":"ready"}')
  with urllib.request.urlopen(url.partition("/?")[0] + "/healthz") as reply:
    return watched, camera.get(timeout=60), json.load(reply)


def report(
  watched: Watch, camera: tuple[int, float], counts: dict[str, Any], minutes: float
) -> bool:
  """Prints the tables; returns True if the counts agree and memory and delay do not grow."""
  sent, latest_s = camera
  rows = watched.rows(minutes, min(5.0, minutes / 6))
  print("minute | own MB | since the first row | resident MB | median ms | p95 ms | ticks/s shown")
  for row in rows:
    print(" | ".join(row))
  last, used = watched.last, counts["ticks"]
  print(f"images sent {sent} = delivered {used} + dropped {counts['dropped']}; ", end="")
  print(f"the camera was at most {latest_s:.2f} s late")
  print(
    f"shown by the viewer {len(watched.delays)}, replaced by newer ones {used - len(watched.delays)}"
  )
  print(f"windows learned {last['updates']}, left out {last['missed']}; loss {last['loss']}")
  errors = {k: {w: round(x, 2) for w, x in row.items()} for k, row in last["scores"].items()}
  print(f"scores {json.dumps(errors)}")
  growth = max(abs(float(row[2].split()[0])) for row in rows)
  later = [float(row[4]) for row in rows[1:]]
  return (
    used + counts["dropped"] == sent and growth <= TOLERANCE and later[-1] < 1.5 * later[0] + 20
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--minutes", type=float, default=30.0)
  parser.add_argument("--path", required=True, help="video with sound, which the camera loops over")
  args, extra = parser.parse_known_args()
  port, spawn = free_port(), multiprocessing.get_context("spawn")
  sent: Any = spawn.Queue()
  film_of = (str(pathlib.Path(args.path).resolve()), port, 60 * args.minutes, sent)
  camera = spawn.Process(target=film, args=film_of, daemon=True)
  camera.start()
  source = f"tcp://127.0.0.1:{port}"
  command = [sys.executable, "-m", "perceiver_stream", "live", source, "--port=0", *extra]
  server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  try:
    assert server.stdout is not None
    url = next(found[1] for line in server.stdout if (found := re.match(r"Open (\S+)", line)))
    busy, loads = common.cpu_s(server.pid), [os.getloadavg()[0]]
    watched, filmed, counts = watch(url, server.pid, sent)
    loads.append(os.getloadavg()[0])
    share = (common.cpu_s(server.pid) - busy) / (60 * args.minutes)
    passed = report(watched, filmed, counts, args.minutes)
    print(f"server: {100 * share:.0f} % of a core; load {loads[0]:.1f} to {loads[1]:.1f}")
  except queue.Empty:
    sys.exit("The server did not connect to the camera.")
  finally:
    server.terminate()
    server.wait()
    camera.terminate()
  sys.exit(0 if passed else "Memory or delay grew, or the counts do not agree.")


if __name__ == "__main__":
  main()
