"""CPU seconds of scripts: the start with an empty compilation cache, and the second start.

  python benchmarks/startup.py
  python benchmarks/startup.py --path=MY.mp4 --repeats=3

Each row is a command that compiles and then does little: two windows of training, 16 frames of
tracking. It runs in a process of its own, first with an empty cache and then again; both do the same
work, so the difference is the saving of the cache.
"""

import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

import common

from perceiver_stream.utils import compile_cache

ROOT = pathlib.Path(__file__).resolve().parents[1]


def commands(path: str, tiny: bool) -> dict[str, list[str]]:
  """Returns the arguments of each script; RUN stands for a fresh folder, VIDEO for a video."""
  few = ["--config.max_windows=2", "--config.run_dir=RUN"]
  train = lambda file, *more: ["scripts/train.py", f"--config=configs/{file}", *few, *more]  # noqa: E731
  if tiny:
    return {"train.py, nano": train("synthetic.py:nano")}
  track = ["scripts/track.py", path, "--grid=8", "--max_ticks=16", "--output=RUN"]
  return {
    "train.py, synthetic tiny": train("synthetic.py:tiny"),
    "train.py, video tiny": train("online.py:tiny", f"--config.stream.path={path}"),
    "track.py, tiny_world": [*track, "--model=stream_perceiver/tiny_world"],
  }


def cpu_s(arguments: list[str], cache: pathlib.Path) -> float:
  """Returns user and system seconds of a script run in a process of its own."""
  keep = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  with tempfile.TemporaryDirectory() as run:
    command = [sys.executable, *(word.replace("RUN", f"{run}/run") for word in arguments)]
    done = subprocess.run(
      command,
      cwd=ROOT,
      env=keep | {compile_cache.VARIABLE: str(cache)},
      capture_output=True,
      text=True,
    )
  if done.returncode:
    raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def starts(arguments: list[str], repeats: int) -> tuple[float, float]:
  """Returns the medians of first and second starts."""
  spent = []
  for _ in range(repeats):
    cache = pathlib.Path(tempfile.mkdtemp())
    spent.append((cpu_s(arguments, cache), cpu_s(arguments, cache)))
    shutil.rmtree(cache)
  first, second = zip(*spent, strict=True)
  return statistics.median(first), statistics.median(second)


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals(), {"repeats": 1})
  about = common.machine()
  folder, rows = pathlib.Path(options.output), []
  folder.mkdir(parents=True, exist_ok=True)
  path = options.path or str(folder / "startup.mp4")
  if not options.path and not options.tiny:
    common.write_video(pathlib.Path(path), height=128, width=128, seconds=8)
  for name, arguments in commands(os.path.abspath(path), options.tiny).items():
    first, second = starts(arguments, options.repeats)
    rows.append([name, first, second, second / first])
  columns = ["command", "CPU s, first start", "CPU s, second start", "x first"]
  note = "User and system seconds of the whole process: imports, tracing, two windows or 16 frames, and the report included."
  table = common.Table("Starts of scripts", columns, rows, note)
  common.publish("startup", options, [table], about)


if __name__ == "__main__":
  main()
