"""A model's `step` as one file that needs nothing but jax and NumPy to run: `jax.export`.

The file is an .npz without pickle: the program (StableHLO), the parameters and the state before the
first tick as arrays, and a description in JSON. Parameters are arguments of the program and no
constants of it, so they are stored once and may be replaced. The batch size is fixed: attention chooses its
chunks by sizes, which a size that is only known later does not allow.

A program is code: run only those of people you trust. This package writes such files and reads none;
the few lines that do are in docs/checkpoints.md.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from perceiver_stream.models.base import Model
from perceiver_stream.types import IS_FIRST, ModalitySpec, valid_key
from perceiver_stream.utils import atomic
from perceiver_stream.utils.paths import user_path
from perceiver_stream.version import __version__
from perceiver_stream.zoo import configs
from perceiver_stream.zoo.loading import blank_tick

FORMAT = "perceiver_stream program 1"
SUFFIX = ".npz"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export_step(
  model: Model,
  params: PyTree,
  target: str | pathlib.Path,
  *,
  batch_size: int = 1,
  platforms: Sequence[str] = ("cpu",),
  note: str = "",
) -> dict[str, Any]:
  """Writes a model's `step` to a file and returns its description.

  Members of the file: `program`, `spec` (both bytes as uint8), `params/0`, ... and `state/0`, .... The
  program is a function of (params, state, inputs): two lists of arrays and a dict `[B, ...]`. It
  returns a dict of outputs and the next state.

  Args:
    model: Of the zoo, or built likewise.
    params: Its parameters.
    target: File to write; ends in .npz.
    batch_size: Rows of the inputs.
    platforms: Of `PLATFORMS`; none of them has to be on this machine.
    note: Text for the description, about the training.

  Raises:
    ValueError: An argument is wrong.
  """
  target = user_path(target)
  if target.suffix != SUFFIX:
    raise ValueError(f"export: the file {target} of a program must end in {SUFFIX}.")
  if batch_size < 1:
    raise ValueError(f"export: batch_size={batch_size}; use at least 1.")
  if not platforms or not set(platforms) <= set(PLATFORMS):
    raise ValueError(f"export: platforms={[*platforms]}; use some of {PLATFORMS}.")
  inputs = _inputs(model, batch_size)
  state = model.initial_state(params, batch_size)
  exported = jax.export.export(jax.jit(_flat(model, params, state)), platforms=[*platforms])(
    *jax.tree.map(_shape, (jax.tree.leaves(params), jax.tree.leaves(state), inputs))
  )
  spec = _spec(model, params, state, inputs, exported) | {"note": note}
  arrays = {f"params/{n}": np.asarray(x) for n, x in enumerate(jax.tree.leaves(params))}
  arrays |= {f"state/{n}": np.asarray(x) for n, x in enumerate(jax.tree.leaves(state))}
  arrays["program"] = np.frombuffer(exported.serialize(), np.uint8)
  arrays["spec"] = np.frombuffer(json.dumps(spec).encode(), np.uint8)
  with atomic.replacing(target) as part, part.open("wb") as file:
    np.savez(file, allow_pickle=False, **arrays)
  return spec


def _flat(model: Model, params: PyTree, state: PyTree) -> Any:
  """Returns `step` with lists of leaves for parameters and state: plain containers need no classes."""
  params_tree, state_tree = jax.tree.structure(params), jax.tree.structure(state)

  def step(params: list, state: list, inputs: dict) -> tuple[dict, list]:
    full = jax.tree.unflatten(params_tree, params), jax.tree.unflatten(state_tree, state)
    outputs, after = model.step(*full, inputs)
    named = {"latents": outputs.latents, "predictions": dict(outputs.predictions)}
    return named, jax.tree.leaves(after)

  return step


def _inputs(model: Model, batch_size: int) -> dict[str, np.ndarray]:
  """Returns a tick of a model's inputs with the flags of each, `[B, ...]`."""
  tick = blank_tick(model, batch_size)
  flags = {valid_key(name): np.ones(batch_size, bool) for name in tick}
  return tick | flags | {IS_FIRST: np.zeros(batch_size, bool)}


def _shape(array: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(jnp.shape(array), jnp.result_type(array))


def _spec(
  model: Model, params: PyTree, state: PyTree, inputs: Mapping[str, Any], exported: Any
) -> dict[str, Any]:
  """Returns the description of a program, as JSON has it."""
  outputs, _ = jax.tree.unflatten(exported.out_tree, exported.out_avals)
  return {
    "format": FORMAT,
    "version": __version__,
    "jax": jax.__version__,
    "platforms": [*exported.platforms],
    "displacements": [*model.displacements],
    "params": _described(params),
    "state": _described(state),
    "inputs": {n: _array(x) | _meaning(model, n) for n, x in inputs.items()},
    "outputs": {
      "latents": _array(outputs["latents"]),
      "predictions": {n: _array(x) for n, x in outputs["predictions"].items()},
    },
    "model": json.loads(configs.to_json(model.config)),
  }


def _described(tree: PyTree) -> list[dict[str, Any]]:
  """Returns name, shape and dtype of each leaf, in the order of the program's list."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return [{"name": jax.tree_util.keystr(path).strip("."), **_array(leaf)} for path, leaf in leaves]


def _array(array: Any) -> dict[str, Any]:
  return {"shape": [*jnp.shape(array)], "dtype": str(jnp.result_type(array))}


def _meaning(model: Model, name: str) -> dict[str, Any]:
  if name not in model.modalities:
    return {}
  spec: ModalitySpec = model.modalities[name].spec
  return {name: getattr(spec, name) for name in ("minimum", "maximum", "rate_hz", "units")}
