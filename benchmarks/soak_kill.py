"""Kills a training run at random moments, saves included, and compares it with an uninterrupted one.

  python benchmarks/soak_kill.py --kills=200
  python benchmarks/soak_kill.py --kills=40 --learner=nano      # starts slowly

A run learns from a looping video and saves after every window. It is killed (SIGKILL) at a random
moment while it starts, while it trains, or while a checkpoint is being written, and started again
with the same config until it is finished; then another run begins, until the number of kills is
reached. Each finished run must have the log, film strips, parameters, optimiser, recurrent state and
baselines of the uninterrupted run, byte for byte, no timing twice, and each start must resume from
the newest checkpoint.

The model is a linear map, which compiles at once (`--learner=nano`: the smallest model); everything
else is as in a real run: video, prefetching, baselines of optical flow, log, checkpoints.

Sessions are forked from a process that has imported the libraries and not yet used a device,
and their program is already compiled: a kill costs seconds, and mostly hits the parts that write.
"""

import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import time
import zlib
from typing import Any

import common

KINDS = ("save", "window", "save", "window", "start")
SIDE, AHEAD = 16, 2
TREES = ("params", "learner", "baselines")


def config_of(run_dir: str, path: str, num_windows: int) -> Any:
  from perceiver_stream.streams import video
  from perceiver_stream.training import load_config

  config = load_config(str(pathlib.Path(__file__).parents[1] / "configs/synthetic.py:nano"))
  config.stream = video.Config(path=path, height=SIDE, width=SIDE, loops=-1, audio_rate_hz=0)
  config.model.displacements = (AHEAD,)
  config.objective.window = 4
  config.run_dir, config.max_windows = run_dir, num_windows
  config.checkpoints.every = 1
  config.logging.use_tensorboard = config.logging.use_report = False
  config.logging.strips_every, config.logging.print_every = 3, 2
  return config


class Linear:
  """The methods of an objective: a linear map of a leaky average predicts pixels.

  Noise on the loss depends on `rng`. It extends `Objective` in `start`, as this process must not
  import JAX before it forks.
  """

  config: Any

  def init_params(self, rng: Any, observation: Any) -> dict[str, Any]:
    """Returns the map."""
    import jax

    return {"map": {"w": 0.1 * jax.random.normal(rng, (SIDE * SIDE * 3, 8))}}

  def initial_state(self, params: Any, batch_size: int = 1, rng: Any = None) -> Any:
    """Returns the average before the first observation."""
    import jax.numpy as jnp

    return jnp.zeros((batch_size, 8))

  def loss(self, params: Any, state: Any, window: Any, rng: Any) -> Any:
    """Returns the loss of one window and its auxiliary outputs."""
    import jax
    import jax.numpy as jnp

    from perceiver_stream.training.objectives import Aux, Score

    w = params["map"]["w"]
    pixels = window["pixels"].astype(jnp.float32).reshape(*window["pixels"].shape[:2], -1) / 255
    tick = lambda h, x: (0.9 * h + 0.1 * x @ w,) * 2  # noqa: E731
    _, states = jax.lax.scan(tick, state, pixels)
    error = jnp.mean(jnp.square(states[:-AHEAD] @ w.T - pixels[AHEAD:]), -1)
    copy = jnp.mean(jnp.square(pixels[:-AHEAD] - pixels[AHEAD:]), -1)
    loss = jnp.mean(error) + 1e-3 * jax.random.normal(rng, ()) * jnp.sum(w)
    score = Score(error, {"copy": copy}, jnp.ones(error.shape, bool))
    key = f"pixels@{AHEAD}"
    predictions = (states[:-AHEAD] @ w.T).reshape(*error.shape, SIDE, SIDE, 3)
    return loss, Aux(states[self.config.window - 1], {key: score}, {key: predictions})


def start(config: Any, log: pathlib.Path, learner: str) -> int:
  """Starts a session of the run in a process of its own and returns its process id."""
  from perceiver_stream.training import make_parts, train
  from perceiver_stream.training.objectives import Objective

  child = os.fork()
  if child:
    return child
  code = 1
  try:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    parts = make_parts(config)
    if learner == "linear":
      kind: Any = type("LinearPrediction", (Linear, Objective), {})
      parts = parts._replace(objective=kind(parts.model, config.objective))
    train(config, parts)
    code = 0
  finally:
    sys.stdout.flush()
    os._exit(code)


class Killer:
  """Runs one run to its end, with as many kills as remain."""

  def __init__(self, config: Any, learner: str, rng: random.Random, deadline_s: float):
    from perceiver_stream.reporting.run_files import CHECKPOINTS

    self._config, self._rng, self._deadline_s = config, rng, deadline_s
    self._learner = learner
    self._folder = pathlib.Path(config.run_dir)
    self._saves = self._folder / CHECKPOINTS
    self._log = self._folder.parent / f"{self._folder.name}.log"
    self._child, self._code = 0, None
    self.kills: collections.Counter[str] = collections.Counter()
    self.redone = self.restarts = 0

  def go(self, kills: int) -> None:
    """Kills at most the given number of times and returns when the run has ended."""
    while True:
      before = self._newest()
      self._child, self._code = start(self._config, self._log, self._learner), None
      if sum(self.kills.values()) < kills and self._kill(self._rng.choice(KINDS)):
        self._check_start(before)
        continue
      self._wait(lambda: False)
      self._check_start(before)
      if self._code != 0:
        raise AssertionError(f"the session failed:\n{self._log.read_text()[-3000:]}")
      return

  def _kill(self, kind: str) -> bool:
    """Kills the session at a random moment; returns False if it had already ended."""
    if kind == "start":
      self._wait(lambda: False, self._rng.uniform(0, 4))
    else:
      size = self._size()
      self._wait(lambda: self._size() > size)
      self._wait(lambda: False, self._rng.uniform(0, 1.2))
    if kind == "save":
      self._wait(self._saving)
      self._wait(lambda: False, self._rng.uniform(0, 0.04))
    if self._ended():
      return False
    during = "save" if self._saving() else "start" if kind == "start" else "window"
    os.kill(self._child, signal.SIGKILL)
    os.waitpid(self._child, 0)
    self.kills[during] += 1
    self.redone += self._lines() - (self._newest() or 0)
    return True

  def _wait(self, until: Any, seconds: float | None = None) -> None:
    end = time.monotonic() + (seconds if seconds is not None else self._deadline_s)
    while not self._ended() and not until() and time.monotonic() < end:
      time.sleep(0.002)
    if seconds is None and time.monotonic() >= end:
      os.kill(self._child, signal.SIGKILL)
      raise AssertionError(f"the session hangs:\n{self._log.read_text()[-3000:]}")

  def _ended(self) -> bool:
    if self._code is None:
      child, status = os.waitpid(self._child, os.WNOHANG)
      self._code = os.waitstatus_to_exitcode(status) if child else None
    return self._code is not None

  def _check_start(self, before: int | None) -> None:
    """Checks that the session resumed from the newest checkpoint."""
    text = self._log.read_text() if self._log.exists() else ""
    if "damaged" in text:
      raise AssertionError(f"a kill left a damaged checkpoint:\n{text[-3000:]}")
    went = re.search(r"resuming from window (\d+)|; (starting) in", text)
    self.restarts += bool(went)
    if went and int(went.group(1) or 0) != (before or 0):
      raise AssertionError(f"the newest checkpoint was {before}, but:\n{text[-3000:]}")

  def _newest(self) -> int | None:
    from perceiver_stream.training.run_folder import steps

    return max(steps(self._saves), default=None)

  def _saving(self) -> bool:
    return self._saves.is_dir() and any("tmp" in name for name in os.listdir(self._saves))

  def _size(self) -> int:
    path = self._folder / "metrics.jsonl"
    return path.stat().st_size if path.exists() else 0

  def _lines(self) -> int:
    path = self._folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0

  def result(self) -> dict[str, Any]:
    """Returns the data that must be the same in all finished runs."""
    from perceiver_stream.reporting import run_files

    timed = [
      line["window"] for line in run_files.read_lines(self._folder / run_files.TIMING).records
    ]
    if timed != sorted(set(timed)):
      raise AssertionError(f"timing.jsonl has windows twice: {timed}")
    strips = {
      strip.number: run_files.read_strip(strip.paths)
      for strip in run_files.find_strips(self._folder)
    }
    meta = self._saves / str(self._newest()) / "meta" / "metadata"
    known = json.loads(meta.read_text())
    sums = {name: known["checksums"][name] for name in TREES}
    return sums | {
      "windows": self._newest(),
      "journal": known["journal"],
      "stream": known["stream"],
      "log": (self._folder / "metrics.jsonl").read_text(),
      "strips": {
        number: {name: zlib.crc32(array.tobytes()) for name, array in arrays.items()}
        for number, arrays in strips.items()
      },
    }


def soak(folder: str, kills: int, num_windows: int, seed: int, learner: str) -> dict[str, Any]:
  """Returns counts; raises AssertionError at the first difference."""
  place = pathlib.Path(folder).absolute()
  shutil.rmtree(place, ignore_errors=True)
  place.mkdir(parents=True)
  path = str(common.write_video(place / "v.mp4", height=64, width=64, seconds=6))
  rng, deadline_s = random.Random(seed), 300.0
  config = lambda name: config_of(str(place / name), path, num_windows)  # noqa: E731
  killer = lambda name: Killer(config(name), learner, rng, deadline_s)  # noqa: E731
  for name in ("compiles", "alone"):
    began = time.monotonic()
    alone = killer(name)
    alone.go(0)
  alone_s, want = time.monotonic() - began, alone.result()
  found: collections.Counter[str] = collections.Counter()
  runs = redone = restarts = 0
  began = time.monotonic()
  while sum(found.values()) < kills:
    run = killer(f"killed-{runs}")
    run.go(min(kills - sum(found.values()), max(2, num_windows // 5)))
    got = run.result()
    if got != want:
      raise AssertionError(f"run {runs}: {[name for name in want if got[name] != want[name]]}")
    found, runs = found + run.kills, runs + 1
    redone, restarts = redone + run.redone, restarts + run.restarts
    with (place / "progress.txt").open("a") as progress:
      progress.write(f"{runs} runs, {dict(found)}, {time.monotonic() - began:.0f} s\n")
    shutil.rmtree(place / f"killed-{runs - 1}")
  spent = time.monotonic() - began
  return {"runs": runs, "kills": dict(found), "redone": redone, "restarts": restarts} | {
    "seconds": spent,
    "alone_s": alone_s,
  }


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(
    argv, __doc__ or "", globals(), {"kills": 200, "seed": 0, "learner": "linear"}
  )
  about = common.machine()
  kills, num_windows = (2, 10) if options.tiny else (options.kills, 100)
  place = pathlib.Path(options.output).absolute()
  asked = {
    "learner": options.learner,
    "num_windows": num_windows,
    "folder": str(place / "soak_kill"),
    "kills": kills,
    "seed": options.seed,
  }
  cache = {  # programs are compiled once
    "JAX_COMPILATION_CACHE_DIR": str(place / "soak_kill_programs"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_PLATFORMS": "cpu",
  }
  found = common.fresh(soak, asked, env=cache)
  by_kind, total = found["kills"], sum(found["kills"].values())
  per_run = found["seconds"] / found["runs"]
  columns = ["kills", "while saving", "while learning", "while starting", "runs finished"]
  columns += ["windows redone per kill", "runs that differ", "x time of a run left alone"]
  row = [total, *(by_kind.get(kind, 0) for kind in ("save", "window", "start")), found["runs"]]
  row += [found["redone"] / total, 0, per_run / found["alone_s"]]
  note = (
    f"Runs of {num_windows} windows of the {options.learner} learner, saved after each. The script stops with an error at the first "
    "difference in log, film strips, parameters, optimiser, recurrent state, baselines, running scores or "
    "position in the stream, at a damaged checkpoint, and where a session does not resume from the "
    f"newest checkpoint ({found['restarts']} of them got as far as printing where they resume)."
  )
  common.publish("soak_kill", options, [common.Table("Kills", columns, [row], note)], about)


if __name__ == "__main__":
  main()
