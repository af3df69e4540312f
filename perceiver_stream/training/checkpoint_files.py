"""One checkpoint on disk: reading it, and checking that it is complete.

A checkpoint is a folder `<step>/` with the arrays `params` and `learner` (optimiser, recurrent
state, rng, counters) by name, and `meta`: version, config, stream position, log length, checksums.
Arrays are plain, so they load on any machine. Nothing in it is executed.
"""

import json
import math
import pathlib
import re
import stat
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from perceiver_stream.files import limits
from perceiver_stream.training.arrays import CheckpointError, checksum, unflatten
from perceiver_stream.training.run_folder import first_line, steps
from perceiver_stream.version import __version__

KIND = "perceiver_stream checkpoint"
FORMAT = f"{KIND} 1"
META = "meta"  # name of the metadata, also among the checksums
EMPTY = "is empty"
_ORBAX = "_CHECKPOINT_METADATA"


class Restored(NamedTuple):
  """A checkpoint that was read.

  Attributes:
    step: Its number, in windows.
    trees: The arrays, by the names given to `save`, in the structure of the template.
    meta: The metadata saved with them.
  """

  step: int
  trees: dict[str, PyTree]
  meta: dict[str, Any]


class DamagedError(CheckpointError):
  """A checkpoint exists but cannot be read as it was written."""


def read(
  folder: pathlib.Path,
  step: int,
  templates: Mapping[str, PyTree],
  check: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Restored:
  """Returns one checkpoint; only the trees named in `templates` are read.

  Raises:
    DamagedError: It cannot be read, or its checksums differ.
    CheckpointError: It is of another kind, or names and shapes differ from the templates.
  """
  path = folder / str(step)
  if problem := why_odd(path):
    raise DamagedError(f"Checkpoint {path} is damaged: it {problem}.")
  meta = read_meta(path)
  _warn_of_later(path, meta.get("version"))
  check(meta)
  trees = {}
  for name, template in templates.items():
    try:
      with ocp.StandardCheckpointer() as reader:
        # A target of numpy arrays: a checkpoint of many devices can be read without them.
        there = ocp.StandardCheckpointHandler().metadata(path / name).tree  # type: ignore[arg-type]
        _check_size(there, template, path / name)
        target = {key: np.zeros(kind.shape, kind.dtype) for key, kind in there.items()}
        arrays = reader.restore(path / name, target)
    except CheckpointError:
      raise
    except Exception as error:
      raise DamagedError(f"Checkpoint {path} is damaged: {first_line(error)}") from error
    if checksum(arrays) != meta["checksums"].get(name):
      raise DamagedError(f"Checkpoint {path} is damaged: the checksum of '{name}' is wrong.")
    trees[name] = unflatten(arrays, template, f"Checkpoint {path}, '{name}'")
  return Restored(step, trees, meta)


def _check_size(there: Mapping[str, Any], template: PyTree, path: pathlib.Path) -> None:
  """Raises CheckpointError, before memory is allocated, if arrays are larger than could fit."""
  size = lambda arrays: sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in arrays)  # noqa: E731
  if size(there.values()) > 2 * size(jax.tree.leaves(template)) + 2**20:
    unflatten(there, template, str(path))


def newest_whole(
  folder: pathlib.Path,
  templates: Mapping[str, PyTree],
  check: Callable[[dict[str, Any]], None] = lambda _: None,
) -> tuple[Restored | None, dict[int, str]]:
  """Returns the newest checkpoint that is not damaged, and the defects of newer ones.

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
    raise none_readable(folder, problems.values())
  return None, problems


def none_readable(folder: pathlib.Path, problems: Iterable[str]) -> CheckpointError:
  """Returns the error for a folder with only damaged checkpoints."""
  return CheckpointError(
    f"No checkpoint in {folder} can be read: {' '.join(problems)} "
    f"Start again with another run_dir, or delete this one."
  )


def read_meta(path: pathlib.Path) -> dict[str, Any]:
  """Returns the metadata of a checkpoint.

  Raises:
    DamagedError: It cannot be read, or its checksum differs.
    CheckpointError: It is no checkpoint of ours, or of a later format.
  """
  foreign = CheckpointError(
    f"{path} is not a checkpoint of perceiver_stream; point run_dir at a run of this library, "
    f"or at an empty folder to start one."
  )
  if not (path / "meta").is_dir() and not (path / "params").is_dir():
    raise foreign
  try:
    meta = limits.read_json(path / "meta" / "metadata")
  except (OSError, ValueError) as error:
    raise DamagedError(f"Checkpoint {path} is damaged: {first_line(error)}") from error
  kind = meta.get("format") if isinstance(meta, dict) else None
  if kind != FORMAT and str(kind).startswith(KIND):
    raise CheckpointError(
      f"{path} is a {kind}; this perceiver_stream {__version__} reads {FORMAT}. Use the version "
      f"that wrote it, {meta.get('version')}, or a later one."
    )
  if kind != FORMAT:
    raise foreign
  sums = meta.get("checksums")
  if not isinstance(sums, dict) or sums.pop(META, None) not in (None, sum_of(meta)):
    raise DamagedError(f"Checkpoint {path} is damaged: the checksum of 'meta' is wrong.")
  return meta


def sum_of(meta: Mapping[str, Any]) -> int:
  """Returns a checksum of the metadata as JSON."""
  return zlib.crc32(json.dumps(json.loads(json.dumps(meta)), sort_keys=True).encode())


def _warn_of_later(path: pathlib.Path, version: Any) -> None:
  number = lambda text: [int(part) for part in re.findall(r"\d{1,9}", str(text))[:3]]  # noqa: E731
  if number(version) > number(__version__):
    warnings.warn(
      f"Checkpoint {path} was written by perceiver_stream {version}, which is later than this "
      f"{__version__}: it may not fit, or have another meaning. Upgrade to resume from it.",
      stacklevel=2,
    )


def why_odd(path: pathlib.Path) -> str:
  """Returns a defect of a checkpoint's folder, found before anything is read; "" if it has none."""
  try:
    inner = list(path.rglob("*"))
    if not any(each.is_file() for each in inner):
      return EMPTY
    for each in inner:
      if stat.S_IFMT(each.stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        return f"holds {each.name}, which is no regular file"
    if (path / _ORBAX).is_file() and not isinstance(limits.read_json(path / _ORBAX), dict):
      return f"has no list of contents in {_ORBAX}"
  except (OSError, ValueError) as error:
    return f"cannot be read ({first_line(error)})"
  return ""
