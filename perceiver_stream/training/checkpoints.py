"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is a folder `<step>/` with the arrays `params` and `learner` (optimiser, recurrent
state, rng, counters) by name, and `meta`: version, config, stream position, log length, checksums.
Arrays are plain, so they load on any machine; a folder appears under its name only when complete.
"""

import copy
import logging
import math
import pathlib
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint import checkpoint_managers

from perceiver_stream.training.arrays import CheckpointError as CheckpointError
from perceiver_stream.training.arrays import checksum, flatten, named, unflatten
from perceiver_stream.training.distributed import leads, wait_for_all
from perceiver_stream.training.run_folder import RunFolder, steps
from perceiver_stream.version import __version__

FORMAT = "perceiver_stream checkpoint 1"
SCORE, BAD_RUN = "score", "bad_run"


@dataclass(kw_only=True)
class CheckpointConfig:
  """When the run is saved and what is kept.

  Attributes:
    every: Windows between checkpoints; one is also written at the end and on ctrl-C.
    keep: Newest checkpoints kept; beside them stay the best so far, and the newest two from before
      windows were no longer finite.
  """

  every: int = 200
  keep: int = 2

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    for name in ("every", "keep"):
      if getattr(self, name) < 1:
        raise ValueError(f"checkpoints.{name}={getattr(self, name)}; use at least 1.")


class Restored(NamedTuple):
  """A checkpoint read back.

  Attributes:
    step: Its number, in windows.
    trees: The arrays, by the names given to `save`, in the structure of the template.
    meta: What was saved beside them.
  """

  step: int
  trees: dict[str, PyTree]
  meta: dict[str, Any]


class LastFinite(checkpoint_managers.PreservationPolicy):
  """Keeps the newest two checkpoints that no window which was not finite came right before.

  Of the newest of them nobody knows yet whether its parameters give anything finite; of the one
  before, a later window has shown it.
  """

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    """Returns which of the checkpoints, oldest first, are kept."""
    del context
    finite = [info.step for info in checkpoints if not (info.metrics or {}).get(BAD_RUN)]
    return [info.step in finite[-2:] for info in checkpoints]


class Checkpoints:
  """The checkpoints of one run, written in the background."""

  def __init__(self, run_dir: str | pathlib.Path, config: CheckpointConfig):
    config.validate()
    self.run_folder = RunFolder(run_dir)
    self.folder = self.run_folder.checkpoints
    self.config = config
    policy = checkpoint_managers.AnyPreservationPolicy(
      [
        checkpoint_managers.LatestN(config.keep),
        LastFinite(),
        checkpoint_managers.BestN(
          n=1,
          get_metric_fn=lambda metrics: metrics[SCORE],
          keep_checkpoints_without_metrics=False,
        ),
      ]
    )
    options = ocp.CheckpointManagerOptions(preservation_policy=policy, cleanup_tmp_directories=True)
    logging.getLogger("absl").addFilter(_told_anyway)
    with self._writing():
      self._manager = ocp.CheckpointManager(self.folder, options=options)

  def save(
    self,
    step: int,
    trees: Mapping[str, PyTree],
    meta: Mapping[str, Any],
    score: float,
    bad_run: int = 0,
  ) -> None:
    """Copies the arrays to the host and starts writing them; the caller may donate them at once.

    Of several processes all must call it, and each writes what its devices hold.

    Args:
      step: Number of the checkpoint, in windows.
      trees: Pytrees of arrays by name.
      meta: What JSON can hold.
      score: Higher is better; decides which checkpoint is the best.
      bad_run: Windows before it, in a row, that were not finite.

    Raises:
      CheckpointError: This or the previous checkpoint could not be written.
    """
    take = flatten if jax.process_count() == 1 else named
    flat = {name: take(tree) for name, tree in trees.items()}
    sums = {name: checksum(arrays) for name, arrays in flat.items()}
    meta = {"format": FORMAT, "version": __version__, "checksums": sums, SCORE: score, **meta}
    meta = copy.deepcopy(meta)  # it is written later, while the caller's may change
    items = {name: ocp.args.StandardSave(arrays) for name, arrays in flat.items()}
    args = ocp.args.Composite(meta=ocp.args.JsonSave(meta), **items)
    with self._writing():
      if self.newest() != step:
        self._manager.save(step, args=args, metrics={SCORE: float(score), BAD_RUN: bad_run})

  def newest(self) -> int | None:
    """Returns the number of the newest checkpoint, counting one still being written."""
    return self._manager.latest_step()

  def wait(self) -> None:
    """Returns when all is written; raises CheckpointError if it could not be."""
    with self._writing():
      self._manager.wait_until_finished()
      self._manager.check_for_errors()

  def close(self) -> None:
    """Waits for what is being written, whatever comes of it, and lets go of the folder."""
    try:
      self._manager.close()
    except Exception as error:
      warnings.warn(f"checkpoint in {self.folder} was not completed: {error}", stacklevel=2)
    finally:
      logging.getLogger("absl").removeFilter(_told_anyway)
      self.run_folder.close()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def restore(
    self, templates: Mapping[str, PyTree], check: Callable[[dict[str, Any]], None] = lambda _: None
  ) -> Restored | None:
    """Returns the newest checkpoint that is whole, or None where there is none.

    A damaged one is set aside, with a warning, and the one before is taken.

    Args:
      templates: Trees of arrays of the right structure, shapes and dtypes, by name.
      check: Called with `meta` before the arrays are compared; raises what it does not like.

    Raises:
      CheckpointError: All are damaged, or one is whole but of another kind or another model.
    """
    restored, problems = newest_whole(self.folder, templates, check)
    if restored is not None:
      for step, problem in problems.items():
        self._set_aside(step)
        warnings.warn(f"{problem} Going on from {restored.step}, the one before.", stacklevel=2)
    return restored

  def set_aside_from(self, step: int, name: str) -> list[int]:
    """Renames the checkpoints from a number on to `<name>-<number>` and returns their numbers."""
    self.wait()
    there = [number for number in steps(self.folder) if number >= step]
    for number in there:
      self._set_aside(number, name)
    return there

  def _writing(self) -> AbstractContextManager[None]:
    """Turns any error of the block, as Orbax has its own kinds, into CheckpointError."""
    return self.run_folder.writing("A checkpoint", Exception)

  def _set_aside(self, step: int, name: str = "damaged") -> None:
    aside = self.folder / f"{name}-{step}"
    wait_for_all("damage seen")
    if leads():
      shutil.rmtree(aside, ignore_errors=True)
      (self.folder / str(step)).rename(aside)
    wait_for_all("damage set aside")
    self._manager.reload()


class DamagedError(CheckpointError):
  """A checkpoint is there but cannot be read as it was written."""


def read(
  folder: pathlib.Path,
  step: int,
  templates: Mapping[str, PyTree],
  check: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Restored:
  """Returns one checkpoint; only the trees named in `templates` are read.

  Raises:
    DamagedError: It cannot be read, or its checksums differ.
    CheckpointError: It is of another kind, or names and shapes are not those of the templates.
  """
  path = folder / str(step)
  meta = _read_meta(path)
  check(meta)
  trees = {}
  for name, template in templates.items():
    try:
      with ocp.StandardCheckpointer() as reader:
        # A target of numpy arrays: what many devices wrote is read without any of them.
        there = ocp.StandardCheckpointHandler().metadata(path / name).tree  # type: ignore[arg-type]
        _check_size(there, template, path / name)
        target = {key: np.zeros(kind.shape, kind.dtype) for key, kind in there.items()}
        arrays = reader.restore(path / name, target)
    except CheckpointError:
      raise
    except Exception as error:
      raise DamagedError(f"Checkpoint {path} is damaged: {_first_line(error)}") from error
    if checksum(arrays) != meta["checksums"].get(name):
      raise DamagedError(f"Checkpoint {path} is damaged: the checksum of '{name}' is wrong.")
    trees[name] = unflatten(arrays, template, f"Checkpoint {path}, '{name}'")
  return Restored(step, trees, meta)


def _check_size(there: Mapping[str, Any], template: PyTree, path: pathlib.Path) -> None:
  """Raises CheckpointError, before memory is taken, where arrays are larger than could fit."""
  size = lambda arrays: sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in arrays)  # noqa: E731
  if size(there.values()) > 2 * size(jax.tree.leaves(template)) + 2**20:
    unflatten(there, template, str(path))


def newest_whole(
  folder: pathlib.Path,
  templates: Mapping[str, PyTree],
  check: Callable[[dict[str, Any]], None] = lambda _: None,
) -> tuple[Restored | None, dict[int, str]]:
  """Returns the newest checkpoint that is not damaged, and what is wrong with newer ones.

  Raises:
    CheckpointError: All are damaged, or as `read` raises it.
  """
  problems: dict[int, str] = {}
  for step in reversed(steps(folder)):
    try:
      return read(folder, step, templates, check), problems
    except DamagedError as error:
      problems[step] = str(error)
  if problems:
    raise CheckpointError(
      f"No checkpoint in {folder} can be read: {' '.join(problems.values())} "
      f"Start again with another run_dir, or delete this one."
    )
  return None, problems


def _read_meta(path: pathlib.Path) -> dict[str, Any]:
  foreign = CheckpointError(
    f"{path} is not a checkpoint of perceiver_stream; point run_dir at a run of this library, "
    f"or at an empty folder to start one."
  )
  if not (path / "meta").is_dir() and not (path / "params").is_dir():
    raise foreign
  try:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
      meta = reader.restore(path / "meta")
  except Exception as error:
    raise DamagedError(f"Checkpoint {path} is damaged: {_first_line(error)}") from error
  if not isinstance(meta, dict) or meta.get("format") != FORMAT:
    raise foreign
  return meta


def _told_anyway(record: logging.LogRecord) -> bool:
  """Keeps Orbax's threads from logging the tracebacks of an error that is raised as well."""
  return record.levelno != logging.ERROR or "orbax" not in record.pathname


def _first_line(error: Exception) -> str:
  text = str(error).strip().splitlines()
  return f"{type(error).__name__}: {text[0][:300] if text else 'no message'}"
