"""Pipelines on devices: the simulator's numbers, to the last bit, on CPUs."""

import json
import os
import pathlib
import socket
import subprocess
import sys
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import xla_flags

from perceiver_stream.execution import DevicePipeline, partition
from perceiver_stream.execution.device_program import Carried
from perceiver_stream.execution.nets import convchain
from perceiver_stream.execution.packing import Packing

SCRIPT = pathlib.Path(__file__).parents[1] / "support" / "row_of_devices.py"
STAGED = convchain.staged(convchain.Config(channels=(2, 2, 2), shortcut="add"), 4, 4)


def launch(processes, devices):
  """Returns what each process found."""
  own = {"XLA_FLAGS": xla_flags(devices), "JAX_PLATFORMS": "cpu"}
  if processes > 1:
    with closing(socket.socket()) as s:
      s.bind(("localhost", 0))
      own["JAX_COORDINATOR_ADDRESS"] = f"localhost:{s.getsockname()[1]}"
    own["JAX_NUM_PROCESSES"] = str(processes)
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  started = [
    subprocess.Popen(
      [sys.executable, str(SCRIPT)], env=os.environ | own | {"JAX_PROCESS_ID": str(i)}, **pipes
    )
    for i in range(processes)
  ]
  try:
    outputs = [process.communicate(timeout=500) for process in started]
  finally:
    for process in started:
      process.kill()
  for process, (_, errors) in zip(started, outputs, strict=True):
    assert process.returncode == 0, errors[-3000:]
  return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


@pytest.mark.slow  # compiles for one, two and four devices
def test_one_two_and_four_devices_are_the_simulator_to_the_last_bit():
  (found,) = launch(1, 4)
  assert sorted(found) == ["1 fresh", "2 fresh", "2 slow", "4 fresh"]
  assert all(worst == [0, 0, 0] for worst, _ in found.values()), found


@pytest.mark.slow  # two processes that import jax and compile
def test_two_processes_are_the_simulator_to_the_last_bit():
  first, second = launch(2, 1)
  held = []
  for found in (first, second):
    (worst, names) = found["2 aligned"]
    assert worst == [0, 0, 0]
    held.append({name.split("/")[0] for name in names})
  assert held == [{"chain_0", "chain_1"}, {"chain_2", "head"}]


def test_packing_moves_numbers_and_changes_none():
  trees = [
    {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.array([True])},
    {"c": (np.float32(np.nan), np.array([3, 4], np.int32))},
  ]
  packing = Packing(trees)
  assert packing.sizes == {"bool": 1, "float32": 6, "int32": 2}
  for device, tree in enumerate(trees):
    back = packing.unpack(device, packing.pack(device, jax.tree.map(jnp.asarray, tree)))
    jax.tree.map(np.testing.assert_array_equal, back, tree)
  with pytest.raises(ValueError, match="device 1 holds .*'c'.*, not .*'a'"):
    packing.pack(1, trees[0])


def test_a_register_crosses_every_link_between_its_writer_and_its_readers():
  row = DevicePipeline(partition(STAGED), jax.devices()[:2])
  assert row.owner == [0, 0, 1, 1]
  assert row.links == [[(0, "chain_0"), (1, "chain_1")]]


def test_what_cannot_be_is_told():
  with pytest.raises(ValueError, match="2 devices for 1 stages of convchain; cut it into more"):
    DevicePipeline(partition(STAGED, 1), jax.devices()[:2])
  with pytest.raises(ValueError, match=r"clocks \(2,\) for 4 stages of convchain"):
    DevicePipeline(partition(STAGED), jax.devices()[:2], clocks=(2,))
  row = DevicePipeline(partition(STAGED), jax.devices()[:2])
  with pytest.raises(ValueError, match="it was made without a loss; give it one"):
    row.learn({}, Carried({}, {}, {}), {}, ())
