"""Several processes as one run: finding each other, agreeing, and dividing the rows.

Each process reads the streams of its own rows. Data about all rows, such as stream positions
and scores, is gathered; only the leading process writes logs and reports. With one process
there is no communication.
"""

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from perceiver_stream.reporting.scores import Errors
from perceiver_stream.streams.base import ENDED

ADDRESS = "JAX_COORDINATOR_ADDRESS"  # host:port of process 0
COUNT = "JAX_NUM_PROCESSES"
INDEX = "JAX_PROCESS_ID"
SLURM_COUNT = "SLURM_STEP_NUM_TASKS"  # set by srun, not by sbatch


def start(environment: Mapping[str, str] | None = None, *, find: bool = False) -> bool:
  """Joins the other processes of this run, if there are any; call it before using jax.

  `JAX_COORDINATOR_ADDRESS` (`host:port` of process 0), with `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`,
  is used if it is set. Otherwise, under `srun` with several tasks, SLURM's variables are used.
  Otherwise this is a single process.

  Args:
    environment: Variables; None is those of this process.
    find: Let jax detect the others by itself, as it can on TPU pods and under Open MPI.

  Returns:
    True if there are several processes.

  Raises:
    ValueError: A variable is missing or no number.
  """
  environment = os.environ if environment is None else environment
  if ADDRESS in environment:
    count, index = (_number(environment, name) for name in (COUNT, INDEX))
    if not 0 <= index < count:
      raise ValueError(f"{INDEX}={index} must be from 0 to {COUNT} - 1 = {count - 1}.")
    if count > 1:
      jax.distributed.initialize(environment[ADDRESS], count, index)
  elif find:
    jax.distributed.initialize()
  elif _slurm_tasks(environment) > 1:
    jax.distributed.initialize(cluster_detection_method="slurm")
  return jax.distributed.is_initialized() and jax.process_count() > 1


def leads() -> bool:
  """Returns True in the process that writes logs and reports."""
  return jax.process_index() == 0


def wait_for_all(where: str) -> None:
  """Returns when all processes have called it."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(where)


def gather(value: bytes) -> list[bytes]:
  """Returns the arrays of all processes, by index; all must call it."""
  if jax.process_count() == 1:
    return [value]
  lengths = multihost_utils.process_allgather(np.array([len(value)], np.int32)).ravel()
  padded = np.zeros(max(1, int(lengths.max())), np.uint8)
  padded[: len(value)] = np.frombuffer(value, np.uint8)
  parts = multihost_utils.process_allgather(padded)
  return [part[:n].tobytes() for part, n in zip(np.asarray(parts), lengths, strict=True)]


def gather_json(value: Any) -> list[Any]:
  """Returns the JSON values of all processes, by index; all must call it."""
  return [json.loads(part) for part in gather(json.dumps(value).encode())]


def gather_tree(tree: PyTree) -> list[PyTree]:
  """Returns the numpy trees of all processes; all must have the same structure."""
  leaves, structure = jax.tree.flatten(tree)
  file = io.BytesIO()
  np.savez(file, *leaves)
  trees = []
  for part in gather(file.getvalue()):
    arrays = np.load(io.BytesIO(part), allow_pickle=False)
    trees.append(jax.tree.unflatten(structure, [arrays[f"arr_{i}"] for i in range(len(leaves))]))
  return trees


def any_of(value: bool) -> bool:
  """Returns True if the value is true in some process; all must call it."""
  if jax.process_count() == 1:
    return value
  return bool(multihost_utils.process_allgather(np.array([value], np.int32)).any())


class Rows:
  """Rows of this process, and the joining of values of all rows."""

  def __init__(self, own: Sequence[int], num_rows: int):
    """Makes it; all processes must do so at once."""
    self.own, self.num_rows = tuple(own), num_rows
    self._owners = gather_json(self.own)

  def joined(self, mine: Sequence[Any], collect: Callable[[Any], list[Any]]) -> list[Any]:
    """Returns one value per row of all processes, from the values of the own rows."""
    by_row: dict[int, Any] = {}
    for rows, values in zip(self._owners, collect(list(mine)), strict=True):
      by_row |= {row: value for row, value in zip(rows, values, strict=True) if row not in by_row}
    return [by_row[row] for row in range(self.num_rows)]

  def joined_errors(self, errors: Errors) -> Errors:
    """Returns errors `[K, B]` of all rows from those of the own; all processes must call it."""
    if len(self._owners) == 1:
      return errors
    one = [jax.tree.map(lambda x, i=i: np.asarray(x)[:, i], errors) for i in range(len(self.own))]
    rows = self.joined(one, gather_tree)
    return jax.tree.map(lambda *parts: np.stack(parts, axis=1), *rows)


class SharedWindows:
  """Iterates over the windows of the own rows until the rows of all processes have ended.

  Its state is that of the windows of all rows, independent of the process that read them.
  """

  def __init__(self, windows: Iterable[Mapping[str, np.ndarray]], rows: Rows, hop: int):
    """Makes it from windows that continue after their end (`streams.windows(goes_on=True)`)."""
    self._windows: Any = iter(windows)
    self._rows, self._hop = rows, hop
    self._state = self._windows.get_state()

  def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
    return self

  def __next__(self) -> Mapping[str, np.ndarray]:
    window = next(self._windows)
    new = window[ENDED] if self._state["first"] else window[ENDED][-self._hop :]
    if not any_of(not new.all()):
      raise StopIteration
    self._state = self._windows.get_state()
    return window

  def get_state(self) -> dict[str, Any]:
    """Returns the position of the next window, for all rows; all processes must call it at once."""
    return self._state | {"rows": self._rows.joined(self._state["rows"], gather_json)}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Continues at the position of a window."""
    self._state = dict(state) | {"rows": [state["rows"][row] for row in self._rows.own]}
    self._windows.set_state(self._state)

  def close(self) -> None:
    """Ends the reader."""
    self._windows.close()


def _number(environment: Mapping[str, str], name: str) -> int:
  value = environment.get(name, "")
  if not value.isdigit():
    raise ValueError(
      f"{ADDRESS} is set but {name}={value!r} is no number; set {COUNT} to how many processes "
      f"there are and {INDEX} to which of them this is, from 0."
    )
  return int(value)


def _slurm_tasks(environment: Mapping[str, str]) -> int:
  return int(environment.get(SLURM_COUNT, "1")) if "SLURM_PROCID" in environment else 1
