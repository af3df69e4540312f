"""Checkpoints: everything needed to resume a run exactly where it stopped.

They are written in the background, and a folder appears under its name only when it is complete;
`checkpoint_files` describes its content.
"""

import contextlib
import copy
import logging
import math
import pathlib
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint import checkpoint_managers

from perceiver_stream.training.arrays import CheckpointError as CheckpointError
from perceiver_stream.training.arrays import checksum, flatten, named
from perceiver_stream.training.checkpoint_files import (
  EMPTY,
  FORMAT,
  META,
  Restored,
  newest_whole,
  none_readable,
  read_meta,
  sum_of,
  why_odd,
)
from perceiver_stream.training.distributed import leads, wait_for_all
from perceiver_stream.training.run_folder import RunFolder, steps
from perceiver_stream.version import __version__

SCORE, BAD_RUN = "score", "bad_run"


@dataclass(kw_only=True)
class CheckpointConfig:
  """Interval and number of checkpoints.

  Attributes:
    every: Windows between checkpoints; one is also written at the end and on ctrl-C.
    keep: Newest checkpoints kept, in addition to the best so far and the newest two from before
      windows were no longer finite.
  """

  every: int = 200
  keep: int = 2

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    for name in ("every", "keep"):
      if getattr(self, name) < 1:
        raise ValueError(f"checkpoints.{name}={getattr(self, name)}; use at least 1.")


class Worth(NamedTuple):
  """Score and number of non-finite windows of a checkpoint, which decide how long it is kept."""

  score: float
  bad_run: int


class Kept(checkpoint_managers.PreservationPolicy):
  """Retention policy: the newest checkpoints, the best, and the last two from before a divergence.

  Those are the newest two that were not directly preceded by a window which was not finite. Whether
  the parameters of the newest of them give finite results is not known yet; the one before was
  followed by a finite window.
  """

  def __init__(self, keep: int, worth: Mapping[int, Worth]):
    """Uses the known `Worth` of checkpoints, by number, at the time of the decision."""
    self.keep, self.worth = keep, worth

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    """Returns for each checkpoint, oldest first, whether it is kept."""
    del context
    there = [info.step for info in checkpoints]
    finite = [step for step in there if step not in self.worth or not self.worth[step].bad_run]
    rated = [step for step in there if step in self.worth]
    best = max(rated, key=lambda step: (self.worth[step].score, step), default=None)
    kept = {*there[-self.keep :], *finite[-2:], best}
    return [step in kept for step in there]


class Checkpoints:
  """The checkpoints of one run, written in the background."""

  def __init__(self, run_dir: str | pathlib.Path, config: CheckpointConfig):
    config.validate()
    self.run_folder = RunFolder(run_dir)
    self.folder = self.run_folder.checkpoints
    self.config = config
    self._worth: dict[int, Worth] = {}
    policy = Kept(config.keep, self._worth)
    # Directories made in the background would leave threads that wait for a failed one, for many
    # minutes and past the end of the program. A deleted folder gets no complete checkpoint.
    background = ocp.AsyncOptions(
      create_directories_asynchronously=False,
      post_finalization_callback=self.run_folder.check_place,
    )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policy, cleanup_tmp_directories=True, async_options=background
    )
    with contextlib.ExitStack() as undo, self._writing():
      undo.callback(self.run_folder.close)
      self._set_aside_odd()
      for step in steps(self.folder):
        with contextlib.suppress(CheckpointError):  # its defect is reported when it is read
          self._worth[step] = _worth_of(read_meta(self.folder / str(step)))
      self._manager = ocp.CheckpointManager(self.folder, options=options)
      undo.pop_all()
    logging.getLogger("absl").addFilter(_told_anyway)

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
      meta: JSON values.
      score: Higher is better; decides which checkpoint is the best.
      bad_run: Windows before it, in a row, that were not finite.

    Raises:
      CheckpointError: This or the previous checkpoint could not be written.
    """
    take = flatten if jax.process_count() == 1 else named
    flat = {name: take(tree) for name, tree in trees.items()}
    sums = {name: checksum(arrays) for name, arrays in flat.items()}
    meta = {"format": FORMAT, "version": __version__, "checksums": sums, **meta}
    meta |= {SCORE: float(score), BAD_RUN: bad_run}
    meta = copy.deepcopy(meta)  # it is written later, and the caller's may change meanwhile
    meta["checksums"][META] = sum_of(meta)
    items = {name: ocp.args.StandardSave(arrays) for name, arrays in flat.items()}
    args = ocp.args.Composite(meta=ocp.args.JsonSave(meta), **items)
    with self._writing():
      if self.newest() != step:
        self._worth[step] = Worth(score, bad_run)
        self._manager.save(step, args=args)

  def newest(self) -> int | None:
    """Returns the number of the newest checkpoint, counting one still being written."""
    return self._manager.latest_step()

  def wait(self) -> None:
    """Returns when everything is written; raises CheckpointError if that failed."""
    with self._writing():
      self._manager.wait_until_finished()
      self._manager.check_for_errors()

  def close(self) -> None:
    """Waits for pending writes, whether they succeed or not, and releases the folder."""
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
    """Returns the newest complete checkpoint, or None if there is none.

    A damaged one is set aside, with a warning, and the previous one is used.

    Args:
      templates: Trees of arrays of the right structure, shapes and dtypes, by name.
      check: Called with `meta` before the arrays are compared; raises if it does not accept it.

    Raises:
      CheckpointError: All are damaged, or one is complete but of another kind or another model.
    """
    restored, problems = newest_whole(self.folder, templates, check)
    if restored is not None:
      for step, problem in problems.items():
        self._set_aside(step)
        warnings.warn(f"{problem} Resuming from {restored.step}, the previous one.", stacklevel=2)
    return restored

  def set_aside_from(self, step: int, name: str) -> list[int]:
    """Renames the checkpoints from a number on to `<name>-<number>` and returns their numbers."""
    self.wait()
    there = [number for number in steps(self.folder) if number >= step]
    for number in there:
      self._set_aside(number, name)
    return there

  def _writing(self) -> contextlib.AbstractContextManager[None]:
    """Turns any error of the block, including Orbax's own kinds, into CheckpointError."""
    return self.run_folder.writing("A checkpoint", Exception)

  def _set_aside(self, step: int, name: str = "damaged") -> None:
    wait_for_all("damage seen")
    if leads():
      self._rename(step, name)
    wait_for_all("damage set aside")
    self._manager.reload()

  def _set_aside_odd(self) -> None:
    """Renames folders that Orbax must not read, since it would wait for ever or fail.

    Raises:
      CheckpointError: There is no other, and they are not empty.
    """
    there = steps(self.folder)
    problems = {step: why_odd(self.folder / str(step)) for step in there}
    odd = {step: f"{self.folder / str(step)} {why}." for step, why in problems.items() if why}
    if len(odd) == len(there) and set(problems.values()) - {EMPTY}:
      raise none_readable(self.folder, odd.values())
    wait_for_all("odd folders seen")
    for step, problem in odd.items() if leads() else ():
      self._rename(step, "damaged")
      warnings.warn(f"Checkpoint {problem} It is set aside.", stacklevel=4)
    wait_for_all("odd folders set aside")

  def _rename(self, step: int, name: str) -> None:
    aside = self.folder / f"{name}-{step}"
    shutil.rmtree(aside, ignore_errors=True)
    (self.folder / str(step)).rename(aside)


def _told_anyway(record: logging.LogRecord) -> bool:
  """Filters out Orbax's tracebacks of an error that is raised as well."""
  return record.levelno != logging.ERROR or "orbax" not in record.pathname


def _worth_of(meta: Mapping[str, Any]) -> Worth:
  score, bad_run = meta.get(SCORE), meta.get(BAD_RUN, 0)
  if isinstance(score, int | float) and isinstance(bad_run, int):
    return Worth(float(score), bad_run)
  return Worth(-math.inf, 0)
