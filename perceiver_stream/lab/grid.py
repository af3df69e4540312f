"""Grids of trials that can be stopped at any moment; results are files, one per trial and seed."""

import concurrent.futures
import hashlib
import json
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from perceiver_stream.files import limits
from perceiver_stream.lab.trials import Size, Trial, Workshop, key_of
from perceiver_stream.utils import atomic

Results = dict[str, list[dict[str, Any]]]  # by name of the trial, one per seed


def run(
  trials: Mapping[str, Trial],
  size: Size,
  folder: pathlib.Path,
  workers: int = 1,
  tell: Callable[[str], None] = print,
  workshop: Callable[..., Any] = Workshop,
) -> Results:
  """Returns the results of all trials with all seeds; those in `folder` are not computed again.

  Args:
    trials: By name; the result does not depend on the name.
    size: Of all of them.
    folder: Of results and footage; several processes may share it.
    workers: Trials at a time, in threads.
    tell: Receives progress messages.
    workshop: Factory of the function that runs one trial: `workshop(trial, size, folder)(seed)`.
  """
  lock, stopped = threading.Lock(), threading.Event()

  def all_seeds(name: str) -> list[dict[str, Any]]:
    trial, made, found = trials[name], None, []
    for seed in range(size.seeds):
      path = path_of(folder, trial, size, seed)
      if not path.exists():
        if stopped.is_set():
          break
        made = made or workshop(trial, size, folder)
        write(path, made(seed) | {"about": key_of(trial, size, seed)})
        with lock:
          tell(f"{name}, seed {seed}")
      found.append(limits.read_json(path))
    return found

  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    try:
      return dict(zip(trials, pool.map(all_seeds, trials), strict=True))
    finally:  # interrupted: running trials are finished, no other is started
      stopped.set()


def path_of(folder: pathlib.Path, trial: Trial, size: Size, seed: int) -> pathlib.Path:
  """Returns the path of a trial's result; its name depends on everything the result depends on."""
  digest = hashlib.sha256(key_of(trial, size, seed).encode()).hexdigest()[:16]
  return folder / f"result_{digest}.json"


def write(path: pathlib.Path, result: Mapping[str, Any]) -> None:
  """Writes a result to a file that appears only when complete."""
  path.parent.mkdir(parents=True, exist_ok=True)
  atomic.write_text(path, json.dumps(result), shared=True)
