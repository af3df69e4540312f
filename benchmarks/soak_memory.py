"""Reads endless streams for half an hour and measures the growth of the process.

  python benchmarks/soak_memory.py --minutes=30 --path=MY.mp4
  python benchmarks/soak_memory.py --minutes=30 --kinds=vizdoom

Each kind runs in a process of its own, at most `--pace` times as fast as its clock: `video` loops
over files for ever (prefetched windows with sound), `learning` trains a small model on it and
saves from time to time, any other name is that of a stream of the library with its own settings.
Resident memory is read every second; the first fifth of the time is warm-up. The reference of a row
is the memory just after that.
"""

import os
import pathlib
import re
import statistics
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import common

LEARNING_PACE = 0.2  # of the pace of the others, because it computes

WARM_UP = 0.2  # of the time
TOLERANCE = 2.0  # per cent


def resident() -> float:
  """Returns the resident memory of this process, in MB."""
  match = re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
  return int(match.group(1)) * 1024 / common.MB if match else 0.0


class Watched:
  """Windows at a given rate until the time is over, with samples of the memory."""

  def __init__(self, windows: Iterable[Any], minutes: float, pace: float):
    self._source, self._windows = windows, iter(windows)
    self._seconds, self._pace = 60 * minutes, pace
    self.samples: list[tuple[float, float]] = []  # seconds, MB
    self._start: float | None = None
    self.count = 0

  def __iter__(self) -> Iterator[Any]:
    return self

  def __next__(self) -> Any:
    window = next(self._windows)
    now = time.perf_counter()
    if self._start is None or self.count < 3:  # those compile
      self._start = now
    spent = now - self._start
    if spent > self._seconds:
      raise StopIteration
    if not self.samples or spent - self.samples[-1][0] >= min(1, self._seconds / 100):
      self.samples.append((spent, resident()))
    self.count += 1
    time.sleep(max(0.0, (self.count - 3) * 8 / 25 / self._pace - spent))
    return window

  def __getattr__(self, name: str) -> Any:
    return getattr(self._windows, name)

  def result(self) -> dict[str, Any]:
    """Returns MB after warm-up, the lowest, highest and last from then on, and the growth an hour."""
    warm = [(s, mb) for s, mb in self.samples if s >= WARM_UP * self._seconds]
    tenth = max(1, len(warm) // 10)
    memory = [mb for _, mb in warm]
    start, end = statistics.median(memory[:tenth]), statistics.median(memory[-tenth:])
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope if len(warm) > 2 else 0
    return {
      "windows": self.count,
      "start": start,
      "lowest": min(memory),
      "highest": max(memory),
      "end": end,
      "per_hour": 3600 * slope,
      "samples": self.samples,
    }


def stream_config(kind: str, path: str) -> Any:
  from perceiver_stream import streams
  from perceiver_stream.streams import video

  if kind in ("video", "learning"):
    side = 128 if kind == "video" else 16
    return video.Config(path=path, height=side, width=side, loops=-1, on_damage="skip")
  return {k.__name__.rpartition(".")[2]: k for k in streams.STREAMS}[kind].Config()


def watch(kind: str, path: str, minutes: float, pace: float, folder: str) -> dict[str, Any]:
  """Reads one kind of stream and returns its memory statistics."""
  from perceiver_stream import streams

  config = stream_config(kind, path)
  if kind == "learning":
    return learn(config, minutes, pace * LEARNING_PACE, folder)
  windows = streams.prefetch(streams.windows(streams.open_rows(config), 8, 16))
  watched = Watched(windows, minutes, pace)
  for _ in watched:
    pass
  return watched.result()


def learn(stream: Any, minutes: float, pace: float, folder: str) -> dict[str, Any]:
  """Trains the smallest model on the stream, with frequent saves, and returns memory statistics."""
  from perceiver_stream.training import load_config, make_parts, train

  config = load_config(str(pathlib.Path(__file__).parents[1] / "configs/synthetic.py:nano"))
  config.stream, config.max_windows = stream, 0
  config.run_dir = str(pathlib.Path(folder) / f"learning-{os.getpid()}")
  config.checkpoints.every = 20
  config.logging.use_report = False
  parts = make_parts(config)
  kept: list[Watched] = []

  class Once:
    def __iter__(self) -> Watched:
      kept.append(Watched(parts.windows, minutes, pace))
      return kept[0]

  train(config, parts._replace(windows=Once()))
  return kept[0].result()


def main(argv: list[str] | None = None) -> None:
  more = {"minutes": 30.0, "pace": 2.0, "kinds": "video,synthetic,learning"}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about = common.machine()
  minutes, pace = (0.05, 50.0) if options.tiny else (options.minutes, options.pace)
  path, what = options.path, "files given with --path"
  folder = pathlib.Path(options.output)
  if not path:
    path, what = str(folder / "soak_memory.mp4"), "a file of 12 s written for the purpose"
    common.write_video(pathlib.Path(path), height=120, width=212, seconds=12)
  kinds = ["video", "synthetic"] if options.tiny else options.kinds.split(",")
  asked = {"path": path, "minutes": minutes, "pace": pace, "folder": str(folder)}
  with ThreadPoolExecutor(len(kinds)) as pool:
    ask = lambda kind: common.fresh(watch, asked | {"kind": kind}, {"JAX_PLATFORMS": "cpu"})  # noqa: E731
    going = {kind: pool.submit(ask, kind) for kind in kinds}
  failed = [f"{kind}: {run.exception()}" for kind, run in going.items() if run.exception()]
  print("\n".join(failed))  # the others count all the same
  found = {kind: run.result() for kind, run in going.items() if not run.exception()}
  rows = []
  for kind, memory in found.items():
    lines = [f"{seconds:.0f},{mb:.2f}" for seconds, mb in memory["samples"]]
    (folder / f"soak_memory_{kind}.csv").write_text("\n".join(["second,MB", *lines]) + "\n")
    start = memory["start"]
    share = {k: 100 * abs(memory[k] / start - 1) for k in ("lowest", "highest", "end")}
    worst = max(share["lowest"], share["highest"])
    row = [kind, 8 * memory["windows"], start, memory["lowest"], memory["highest"], memory["end"]]
    rows.append([*row, memory["end"] / start, worst, "yes" if worst <= TOLERANCE else "no"])
  columns = ["stream", "ticks", "MB once warm", "lowest MB", "highest MB", "MB at the end"]
  columns += ["x MB once warm", "farthest from it %", f"within {TOLERANCE:g} %"]
  note = f"{minutes:g} minutes each; video and learning loop over {what}."
  slopes = ", ".join(f"{kind} {memory['per_hour']:+.2f}" for kind, memory in found.items())
  note += f" Slope of a straight line through it, MB an hour: {slopes}."
  title = "Resident memory of endless streams"
  common.publish("soak_memory", options, [common.Table(title, columns, rows, note)], about)


if __name__ == "__main__":
  main()
