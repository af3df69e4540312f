"""Online learning, from decoding to update: frames a second, and the time of each part.

  python benchmarks/online.py
  python benchmarks/online.py --path=MY.mp4

Trains `configs/online.py:tiny`, the demo, for a number of windows, each variant in a fresh process
with its program already compiled, and times the windows after the first few. The references: the
same loop without one part, with the objective that observes all ticks of a window again, and the update
alone, of one window over and over. CPU ms are of all threads, and so of the baselines and the reader too.

Without --path it reads media/demo if the demo has fetched it, and otherwise a video it writes itself.
"""

import dataclasses
import pathlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import common
import jax

from perceiver_stream import streams
from perceiver_stream.training import (
  CheckpointConfig,
  ExperimentConfig,
  ObjectiveConfig,
  load_config,
  make_parts,
)
from perceiver_stream.training.checkpoints import Checkpoints
from perceiver_stream.training.loop import Learner, Run
from perceiver_stream.training.parts import Parts
from perceiver_stream.training.signals import StopRequest
from perceiver_stream.utils.allocator import keep_freed_memory

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEDIA = pathlib.Path("media/demo")
WARM_UP = 5  # windows before the clock starts
AS_IT_IS, UPDATE_ONLY, OBSERVED_AGAIN = "as it is", "update alone", "old ticks observed again"
CHANGES: dict[str, dict[str, Any]] = {  # changes of each variant
  AS_IT_IS: {},
  "no prefetch": {"use_prefetch": False},
  "no baselines on the host": {"use_baselines": False},
  "saved four times": {"num_saves": 4},
  "updates 4 times rarer": {"hop_factor": 4},
  OBSERVED_AGAIN: {"keeps_states": False},
}


class Clock:
  """Seconds spent in a call, one by one, and when each ended; may be used by several threads."""

  def __init__(self) -> None:
    self.spent: list[float] = []
    self.ended: list[float] = []
    self.cpu: list[float] = []  # CPU seconds of the process until then, of all threads
    self._lock = threading.Lock()

  def __call__(self, call: Any, *arguments: Any) -> Any:
    """Returns the result of the call."""
    start = time.perf_counter()
    try:
      return call(*arguments)
    finally:
      with self._lock:
        self.ended.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.spent.append(self.ended[-1] - start)


class ClockedWindows:
  """Windows, with a clock on the waiting time of each."""

  def __init__(self, windows: Iterable[Any], clock: Clock):
    self._windows, self._clock = windows, clock

  def __iter__(self) -> "ClockedWindows":
    return ClockedWindows(iter(self._windows), self._clock)

  def __next__(self) -> Any:
    return self._clock(next, self._windows)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._windows, name)


class ClockedBaselines:
  """Baselines, with a clock on each window."""

  def __init__(self, baselines: Any, clock: Clock):
    self._baselines, self._clock = baselines, clock

  def __call__(self, window: Any) -> Any:
    """Returns the errors."""
    return self._clock(self._baselines, window)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._baselines, name)


class ClockedCheckpoints(Checkpoints):
  """Checkpoints, with a clock on the time the loop waits at each save."""

  def __init__(self, run_dir: str, config: Any, clock: Clock):
    super().__init__(run_dir, config)
    self._clock = clock

  def save(self, *arguments: Any) -> None:
    """Saves."""
    self._clock(super().save, *arguments)


def experiment(
  path: str,
  run_dir: str,
  variant: str,
  num_windows: int,
  hop_factor: int = 1,
  num_saves: int = 0,
  keeps_states: bool = True,
) -> ExperimentConfig:
  """Returns the demo's experiment over endless passes of the video at `path`."""
  config = load_config(f"{ROOT / 'configs' / 'online.py'}:{variant}")
  if not keeps_states:
    config.objective = ObjectiveConfig(window=config.objective.window)
  hop, windows = hop_factor * config.objective.window, num_windows // hop_factor
  if variant == "nano":  # only sees, and only to see that it runs: compiles in seconds
    config.stream.audio_rate_hz, config.model.displacements = 0, (1,)
  every = windows // num_saves if num_saves else config.checkpoints.every
  return dataclasses.replace(
    config,
    stream=dataclasses.replace(config.stream, path=path, loops=-1),
    objective=dataclasses.replace(config.objective, window=hop),
    checkpoints=dataclasses.replace(config.checkpoints, every=every),
    logging=dataclasses.replace(config.logging, use_report=False),
    max_windows=windows,
    run_dir=run_dir,
  )


def go(
  path: str,
  variant: str,
  num_windows: int,
  use_prefetch: bool = True,
  use_baselines: bool = True,
  hop_factor: int = 1,
  num_saves: int = 0,
  keeps_states: bool = True,
) -> dict[str, Any]:
  """Runs the loop with or without its parts; returns the result of `times`."""
  data, host, saves = Clock(), Clock(), Clock()
  with tempfile.TemporaryDirectory() as folder:
    config = experiment(path, folder, variant, num_windows, hop_factor, num_saves, keeps_states)
    keep_freed_memory()
    parts = make_parts(dataclasses.replace(config, use_baselines=use_baselines))
    run = Run(
      parts._replace(
        windows=ClockedWindows(windows_of(parts, use_prefetch), data),
        baselines=parts.baselines and ClockedBaselines(parts.baselines, host),
      ),
      ClockedCheckpoints(folder, config.checkpoints, saves),
    )
    try:
      run.go(StopRequest())
    finally:
      run.close()
      run.checkpoints.close()
  return times(config, data, host, saves)


def times(config: ExperimentConfig, data: Clock, host: Clock, saves: Clock) -> dict[str, Any]:
  """Returns frames a second and the shares of the parts, after a warm-up."""
  first, hop = min(WARM_UP, len(data.ended) - 2), config.objective.window * config.num_rows
  spent = data.ended[-1] - data.ended[first]
  per_window = spent / (len(data.ended) - 1 - first)
  save_s = statistics.median(saves.spent)
  found = {
    "frames_per_s": hop / per_window,
    "rate_hz": config.stream.rate_hz,
    "cpu_ms": 1e3 * (data.cpu[-1] - data.cpu[first]) / (len(data.cpu) - 1 - first) / hop,
    "data_share": sum(data.spent[first + 1 :]) / spent,
    "save_ms": 1e3 * save_s,
    "save_share": save_s / (CheckpointConfig().every * per_window),
  }
  if host.spent:
    found |= {"host_share": sum(host.spent[first:]) / spent}
    found |= {"host_ms": 1e3 * statistics.median(host.spent[first:])}
  return found


def windows_of(parts: Parts, use_prefetch: bool) -> Iterable[Any]:
  """Returns the windows of the run, read ahead or not."""
  if use_prefetch:
    return parts.windows
  config = parts.config
  rows = streams.open_rows(config.stream, config.num_rows)
  return streams.windows(rows, config.objective.window, parts.objective.look_ahead)


def update_only(path: str, variant: str, num_windows: int) -> dict[str, float]:
  """Trains on one window over and over, waiting for each update after starting the next."""
  with tempfile.TemporaryDirectory() as folder:
    parts = make_parts(experiment(path, folder, variant, num_windows))
    windows = iter(parts.windows)
    window = next(windows)
    windows.close()  # type: ignore[attr-defined]
    learner = Learner(parts)
    before = jax.block_until_ready(learner.learn(window))
    start = time.perf_counter()
    for _ in range(num_windows):
      info = learner.learn(window)
      jax.device_get(before._replace(predictions={}))
      before = info
    jax.block_until_ready(before)
    per_window = (time.perf_counter() - start) / num_windows
  return {"frames_per_s": parts.objective.config.window * parts.config.num_rows / per_window}


def video_for(options: Any) -> tuple[str, str]:
  """Returns the video to read, and its description."""
  if options.path:
    return options.path, pathlib.Path(options.path).name
  if not options.tiny and MEDIA.is_dir() and list(MEDIA.glob("*.mp4")):
    return str(MEDIA), f"{MEDIA} (real video with sound)"
  path = pathlib.Path(options.output) / "online.mp4"
  size = {"height": 48, "width": 64} if options.tiny else {"height": 240, "width": 320}
  common.write_video(path, seconds=2 if options.tiny else 12, **size)
  return str(path), f"{path.name}, written for the purpose: run scripts/get_media.py for real video"


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals())
  about = common.machine()
  path, what = video_for(options)
  variant, num_windows = ("nano", 8) if options.tiny else ("tiny", 120)
  kept = (AS_IT_IS,) if options.tiny else tuple(CHANGES)
  asked = {"path": path, "variant": variant, "num_windows": num_windows}
  with tempfile.TemporaryDirectory() as cache:
    env = {
      "JAX_COMPILATION_CACHE_DIR": cache,
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    ask = partial(common.fresh, env=env, inside=options.tiny)
    found = {name: ask(go, asked | CHANGES[name]) for name in kept}
    found[UPDATE_ONLY] = ask(update_only, asked)
  speed = {name: result["frames_per_s"] for name, result in found.items()}
  rate = found[AS_IT_IS]["rate_hz"]
  shares = ("cpu_ms", "data_share", "host_share", "host_ms", "save_ms", "save_share")
  percent = lambda r, k: r.get(k) and (100 if k.endswith("share") else 1) * r[k]  # noqa: E731
  rows = [
    [n, speed[n], speed[n] / rate, speed[n] / speed[AS_IT_IS], *(percent(r, k) for k in shares)]
    for n, r in found.items()
  ]
  columns = [
    "loop",
    "frames/s",
    "x real time",
    f"x {AS_IT_IS}",
    "CPU ms a tick",
    "waiting for data %",
  ]
  columns += ["baselines % of wall", "baselines ms a window", "save ms", "saves %"]
  note = (
    f"{what}; {num_windows} windows. Baselines run on the host in parallel with the update, so their share "
    "is not added to the time. A save's ms are those for which the loop waits (the rest is "
    f"written in the background); saves % is at the default of one in {CheckpointConfig().every} "
    "windows."
  )
  tables = [common.Table(f"Online learning (configs/online.py:{variant})", columns, rows, note)]
  common.publish("online", options, tables, about)


if __name__ == "__main__":
  main()
