"""Cost of nano and tiny programs by XLA's own count, against a stored table; no clock is read.

A number that grows by more than 10 % fails. After a deliberate change, store the new ones in the same
commit, with the reason: `python tests/conformance/test_costs.py`, which also adds new models.

Numbers of all models are those of the step before XLA optimises it: FLOPs, bytes read and written,
operations; of the flagship also those of training on a window. Temporary bytes and instructions are those
of compiled steps, of the three recurrent families, because compiling is most of the time of such a test.
Variants that differ from another in few operations are left out. All numbers are exact for one version
of jaxlib on one architecture, and are compared there only.
"""

import json
import pathlib
import platform

import jax
import jaxlib
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.training import objectives
from perceiver_stream.zoo.loading import blank_tick, template

STORED = pathlib.Path(__file__).with_suffix(".json")
SIZES = ("nano", "tiny", "tiny_motion")
COMPILED = ("moog/nano", "rvm/nano", "stream_perceiver/nano")
TRAINED = "stream_perceiver/nano training"
GROWTH = 1.1
# Instructions that every x86-64 machine of the last ten years has, so that it does not matter which.
OPTIONS = {"xla_cpu_max_isa": "AVX2"}


def here() -> dict[str, str]:
  """Returns where numbers are comparable."""
  return {"jaxlib": jaxlib.__version__, "machine": platform.machine(), "backend": "cpu"}


def counted(lowered: jax.stages.Lowered) -> dict[str, int]:
  """Returns the cost of a program before it is optimised."""
  cost = lowered.cost_analysis()
  operations = sum(" = " in line for line in lowered.as_text().splitlines())
  known = {"flops": cost["flops"], "bytes": cost["bytes accessed"], "operations": operations}
  return {name: int(value) for name, value in known.items()}


def compiled(lowered: jax.stages.Lowered) -> dict[str, int]:
  """Returns the cost of a program as it is run."""
  program = lowered.compile(compiler_options=dict(OPTIONS))
  instructions = sum(" = " in line for line in program.as_text().splitlines())
  temporaries = program.memory_analysis().temp_size_in_bytes
  return {"temporaries": int(temporaries), "instructions": instructions}


def cost(name: str) -> dict[str, int]:
  """Returns the cost of a model's step with one row, or of its training on a window."""
  name, _, of = name.partition(" ")
  model = zoo.build(name)
  tick = blank_tick(model, 1)
  params = template(model)
  state = jax.eval_shape(lambda p: model.initial_state(p, 1), params)
  if of == "training":
    objective = objectives.make(model, objectives.ObjectiveConfig(window=2))
    window = {n: np.zeros((objective.num_ticks, *v.shape), v.dtype) for n, v in tick.items()}
    lowered = jax.jit(objective.loss_and_grad).lower(params, state, window)
  else:
    lowered = jax.jit(model.step).lower(params, state, tick)
  return counted(lowered) | (compiled(lowered) if name in COMPILED and not of else {})


def all_costs() -> dict[str, dict[str, int]]:
  """Returns the table of all programs."""
  names = [name for name in zoo.names() if name.split("/")[1] in SIZES]
  return {name: cost(name) for name in sorted([*names, TRAINED])}


def grown(found: dict[str, int], stored: dict[str, int]) -> list[str]:
  """Returns a line for each number that is over its limit."""
  return [
    f"{key} {stored.get(key)} -> {value}"
    for key, value in found.items()
    if value > GROWTH * stored.get(key, 0)
  ]


def stored() -> dict:
  return json.loads(STORED.read_text())


def test_the_table_has_what_is_compiled_and_trained():
  programs = stored()["programs"]
  assert TRAINED in programs
  assert all({"temporaries", "instructions"} <= set(programs[name]) for name in COMPILED)


def test_growth_is_found_beyond_a_tenth():
  assert not grown({"flops": 109, "bytes": 10}, {"flops": 100, "bytes": 100})
  assert grown({"flops": 111}, {"flops": 100}) == ["flops 100 -> 111"]
  assert grown({"temporaries": 1}, {}) == ["temporaries None -> 1"]


@pytest.mark.parametrize("name", sorted(stored()["programs"]) if STORED.exists() else ())
def test_no_program_has_grown(name):
  table = stored()
  if here() != table["of"]:
    pytest.skip(f"the table is of {table['of']}, this is {here()}")
  found = grown(cost(name), table["programs"][name])
  assert not found, (
    f"{name}: {', '.join(found)}. If that is meant: python tests/conformance/test_costs.py"
  )


if __name__ == "__main__":
  lines = ",\n".join(f'  "{name}": {json.dumps(row)}' for name, row in all_costs().items())
  STORED.write_text(f'{{\n "of": {json.dumps(here())},\n "programs": {{\n{lines}\n }}\n}}\n')
