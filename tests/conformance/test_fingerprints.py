"""Parameter names, shapes and traced programs of every nano model, against stored hashes.

A refactoring that only moves code leaves them as they are. A deliberate change stores new ones in a
commit of its own, with its reason: `python tests/conformance/test_fingerprints.py`. Nothing is
compiled.
"""

import hashlib
import json
import pathlib
import re

import jax
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.training import objectives
from perceiver_stream.zoo.loading import blank_tick, template

STORED = pathlib.Path(__file__).with_suffix(".json")
NAMES = [name for name in zoo.names() if name.split("/")[1].startswith("nano")]
ROWS, TICKS = 2, 3
# What a printed program holds beside its equations: addresses and names of functions.
NOISE = re.compile(r"name=[\w<>.]+|0x[0-9a-f]+|at 0x\w+|<function .*?>")


def digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def program(function, *args) -> str:
  return digest(NOISE.sub("", str(jax.make_jaxpr(function)(*args))))


def fingerprint(name: str) -> dict[str, str]:
  """Returns hashes of the parameters and of what `init`, `step`, `unroll` and the loss trace to."""
  model = zoo.build(name)
  params = template(model)
  shapes = sorted((n, sorted((k, x.shape) for k, x in v.items())) for n, v in params.items())
  tick = blank_tick(model, ROWS)
  ticks = {n: np.zeros((TICKS, *v.shape), v.dtype) for n, v in tick.items()}
  state = jax.eval_shape(lambda p: model.initial_state(p, ROWS), params)
  found = {
    "parameters": digest(str(shapes)),
    "init": program(lambda key: model.init(key, tick), jax.random.key(0)),
    "step": program(model.step, params, state, tick),
    "unroll": program(model.unroll, params, state, ticks),
  }
  if all(m.config.use_input for m in model.modalities.values()):
    objective = objectives.make(model, objectives.default(model))
    length = objective.config.window + objective.look_ahead
    window = {n: np.zeros((length, *v.shape), v.dtype) for n, v in tick.items()}
    params = jax.eval_shape(objective.init_params, jax.random.key(0), tick)
    state = jax.eval_shape(lambda p: objective.initial_state(p, ROWS), params)
    found["loss"] = program(objective.loss, params, state, window, jax.random.key(0))
  return found


def stored() -> dict:
  return json.loads(STORED.read_text())


def test_every_nano_model_has_a_fingerprint():
  assert sorted(stored()["models"]) == NAMES, f"run: python {STORED.with_suffix('.py').name}"


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_as_stored(name):
  expected = stored()
  found = fingerprint(name)
  if jax.__version__ != expected["jax"]:  # another version prints programs differently
    found, expected["models"][name] = (
      {"parameters": prints["parameters"]} for prints in (found, expected["models"][name])
    )
  assert found == expected["models"][name], (
    f"{name} differs from {STORED.name}. After a deliberate change, store it and say why."
  )


if __name__ == "__main__":
  prints = {name: fingerprint(name) for name in NAMES}
  STORED.write_text(json.dumps({"jax": jax.__version__, "models": prints}, indent=1) + "\n")
