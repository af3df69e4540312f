import json
import os
import pathlib
import socket
import subprocess
import sys
from contextlib import closing

import launched
import numpy as np
import pytest
from processes import xla_flags

from perceiver_stream.reporting import run_files
from perceiver_stream.training import checkpoints, distributed
from perceiver_stream.training.arrays import flatten
from perceiver_stream.training.distributed import Rows, SharedWindows

SCRIPT = pathlib.Path(launched.__file__)


def free_port() -> int:
  with closing(socket.socket()) as s:
    s.bind(("localhost", 0))
    return s.getsockname()[1]


def launch(folder, processes, devices, **fields):
  """Returns what each process of a run printed last, by index."""
  own = {"XLA_FLAGS": xla_flags(devices), "JAX_PLATFORMS": "cpu"}
  if processes > 1:
    own |= {distributed.ADDRESS: f"localhost:{free_port()}", distributed.COUNT: str(processes)}
  command = [sys.executable, str(SCRIPT), json.dumps({"run_dir": str(folder)} | fields)]
  started = []
  for index in range(processes):
    env = os.environ | own | {distributed.INDEX: str(index)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started.append(subprocess.Popen(command, env=env, **pipes))
  try:
    outputs = [process.communicate(timeout=300) for process in started]
  finally:
    for process in started:
      process.kill()
  for process, (_, errors) in zip(started, outputs, strict=True):
    assert process.returncode == 0, errors[-3000:]
  return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def saved(folder):
  """Returns the arrays of the newest checkpoint by name, and what was saved beside them."""
  config = launched.make_config(folder, max_windows=1)
  with checkpoints.Checkpoints(folder, config.checkpoints) as there:
    run = launched.Run(launched.make_parts(config), there)
    trees = run._trees()
    run.close()
    restored = there.restore(trees)
  assert restored is not None
  return flatten(restored.trees), restored.meta


def assert_close_lines(left, right):
  left, right = (
    run_files.read_lines(folder / run_files.METRICS).records for folder in (left, right)
  )
  assert len(left) == len(right)
  for a, b in zip(left, right, strict=True):
    assert a["scores"]["pixels@2"]["count"] == b["scores"]["pixels@2"]["count"]
    for name in ("model", "copy", "mix", "extrap", "fitted_mix"):
      x, y = (line["scores"]["pixels@2"][name] for line in (a, b))
      assert (x is None) == (y is None)
      np.testing.assert_allclose(x or 0, y or 0, rtol=1e-4, err_msg=f"{name} {a['window']}")
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  """A run on one device from start to end."""
  folder = tmp_path_factory.mktemp("undisturbed")
  (end,) = launch(folder, 1, 1)
  assert end["finished"] and end["windows"] == 7
  return folder


@pytest.mark.slow  # six processes that import jax and compile
def test_a_run_goes_on_in_other_layouts_as_if_undisturbed(undisturbed, tmp_path):
  two = {"mesh": {"data": 2, "fsdp": 2}}
  first = launch(tmp_path, 2, 2, stop_at=2, **two)
  assert [end["stopped_by"] for end in first] == ["another process", "SIGTERM"]
  assert [end["windows"] for end in first] == [2, 2]
  assert [end["rows"] for end in first] == [[0, 1], [2, 3]]
  assert first[0]["held"] == [57344, 114688]  # half of the parameters on each device
  assert first[0]["gains"] == first[1]["gains"]
  (second,) = launch(tmp_path, 1, 4, mesh={"data": 1, "fsdp": 2, "latents": 2}, max_windows=4)
  assert second["windows"] == 4 and second["rows"] == [0, 1, 2, 3]
  last = launch(tmp_path, 2, 1, mesh={"data": 2})  # rows of the second end before the first's
  assert [end["windows"] for end in last] == [7, 7] and all(end["finished"] for end in last)
  assert_close_lines(tmp_path, undisturbed)
  (ours, meta), (theirs, expected) = saved(tmp_path), saved(undisturbed)
  assert ours.keys() == theirs.keys()
  for name, array in theirs.items():
    np.testing.assert_allclose(ours[name], array, rtol=1e-4, atol=1e-6, err_msg=name)
  assert meta["stream"] == expected["stream"] and len(meta["stream"]["rows"]) == launched.ROWS


def test_one_process_starts_alone():
  assert not distributed.start({})
  assert not distributed.start({"SLURM_PROCID": "0", distributed.SLURM_COUNT: "1"})
  assert not distributed.start({"SLURM_NTASKS": "4"})  # in sbatch, before srun
  one = {distributed.ADDRESS: "a:1", distributed.COUNT: "1", distributed.INDEX: "0"}
  assert not distributed.start(one)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({}, r"is set but JAX_NUM_PROCESSES='' is no number; set JAX_NUM_PROCESSES to how many"),
    ({distributed.COUNT: "2"}, r"JAX_PROCESS_ID='' is no number"),
    ({distributed.COUNT: "2", distributed.INDEX: "x"}, r"JAX_PROCESS_ID='x' is no number"),
    ({distributed.COUNT: "2", distributed.INDEX: "2"}, r"=2 must be from 0 to .* - 1 = 1"),
  ],
)
def test_variables_that_are_missing_or_wrong(given, message):
  with pytest.raises(ValueError, match=message):
    distributed.start({distributed.ADDRESS: "localhost:1"} | given)


def test_gathering_in_one_process_gives_what_was_given():
  tree = {"a": np.arange(3), "b": [np.array(2.5), np.array("x")]}
  (back,) = distributed.gather_tree(tree)
  np.testing.assert_array_equal(back["a"], tree["a"])
  assert back["b"][0] == 2.5 and back["b"][0].dtype == np.float64
  assert distributed.gather_json({"k": [1, 2]}) == [{"k": [1, 2]}]
  assert distributed.any_of(True) and not distributed.any_of(False)
  assert distributed.leads()
  distributed.wait_for_all("nothing to wait for")


class Both(Rows):
  """Rows as another process would see them: rows 0, 1 and 2 are read twice, 3 once."""

  def __init__(self):
    super().__init__((0, 1, 2), 4)
    self._owners = [(0, 1, 2), (0, 1, 2, 3)]


def test_rows_that_several_read_count_once_and_come_in_order():
  other = ["other 0", "other 1", "other 2", "other 3"]
  joined = Both().joined(["a", "b", "c"], lambda mine: [mine, other])
  assert joined == ["a", "b", "c", "other 3"]


class Counting:
  """Windows that never end, of one row that ends after `ticks`."""

  def __init__(self, ticks):
    self.at, self.ticks = 0, ticks

  def __iter__(self):
    return self

  def __next__(self):
    at, self.at = self.at, self.at + 2
    return {"ended": np.arange(at, at + 3)[:, None] >= self.ticks}

  def get_state(self):
    return {"first": int(self.at == 0), "rows": [{"at": self.at}]}

  def set_state(self, state):
    self.at = state["rows"][0]["at"]


@pytest.mark.parametrize(("ticks", "expected"), [(0, 0), (1, 1), (3, 1), (4, 2), (5, 2), (6, 3)])
def test_shared_windows_end_with_the_last_row_and_stand_where_they_ended(ticks, expected):
  windows = SharedWindows(Counting(ticks), Rows((0,), 1), hop=2)
  assert len(list(windows)) == expected
  assert windows.get_state()["rows"] == [{"at": 2 * expected}]
  again = SharedWindows(Counting(ticks), Rows((0,), 1), hop=2)
  again.set_state(windows.get_state())
  assert list(again) == []
