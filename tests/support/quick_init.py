"""Initialising a model without compiling its program, for sessions that build many small models.

`Model.init` is one program for each model, and most of the time goes to compile its random numbers,
which run once. Here the network is traced and each parameter is drawn while that happens, by programs
for flat arrays of few sizes. JAX's generator gives a shorter array the first numbers of a longer one.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import haiku as hk
import jax
import jax.numpy as jnp

from perceiver_stream.models.base import Model, ObservationCheck, functions_of
from perceiver_stream.training import step

SAMPLERS = {
  "normal": jax.random.normal,
  "truncated_normal": jax.random.truncated_normal,
  "uniform": jax.random.uniform,
}
MAX_PADDED = 2**18  # numbers; of more, those not needed take longer to draw than to compile


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _flat(name: str, size: int, dtype: Any, key: Any, bounds: tuple[Any, ...]) -> Any:
  shape = (size,)
  if name == "truncated_normal":
    return SAMPLERS[name](key, *bounds, shape=shape, dtype=dtype)
  return SAMPLERS[name](key, shape, dtype, *bounds)


class DrawnInsideError(Exception):
  """A parameter depends on values of an inner program, as of `jax.checkpoint`."""


def _draw(name: str, key: Any, shape: tuple[int, ...], dtype: Any, *bounds: Any) -> Any:
  if isinstance(key, jax.core.Tracer):
    raise DrawnInsideError
  size = math.prod(shape)
  padded = size if size > MAX_PADDED or not size else max(64, 4 ** math.ceil(math.log(size, 4)))
  flat = _flat(name, padded, jax.dtypes.canonicalize_dtype(dtype), key, bounds)
  return jnp.asarray(jax.device_get(flat)[:size].reshape(shape))


def normal(key: Any, shape: tuple[int, ...] = (), dtype: Any = float) -> Any:
  """Returns what `jax.random.normal` does, by a program for a flat array."""
  return _draw("normal", key, shape, dtype)


def _uniform(key, shape=(), dtype=float, minval=0.0, maxval=1.0):
  return _draw("uniform", key, shape, dtype, minval, maxval)


def _truncated_normal(key, lower, upper, shape=(), dtype=float):
  return _draw("truncated_normal", key, shape, dtype, lower, upper)


def _known(next_key: Callable[[], Any]) -> Callable[[], Any]:
  """Returns a source of keys that stay values while a network is traced."""

  def known() -> Any:
    with jax.ensure_compile_time_eval():
      return next_key()

  return known


@contextlib.contextmanager
def few_programs() -> Iterator[None]:
  """Lets Haiku's initialisers draw numbers by programs for flat arrays of few sizes."""
  with (
    mock.patch.object(jax.random, "normal", normal),
    mock.patch.object(jax.random, "uniform", _uniform),
    mock.patch.object(jax.random, "truncated_normal", _truncated_normal),
  ):
    yield


def with_quick_init(model: Model) -> Model:
  """Returns the model with an `init` that gives the same parameters and compiles little."""

  def init(rng: Any, observation: Any) -> Any:
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((rng, observation))):
      return model.init(rng, observation)  # inside another program
    checked = ObservationCheck(model.modalities)(observation, 1)
    made: dict[str, dict[str, Any]] = {}

    def create(following: Callable, shape: Any, dtype: Any, initial: Any, context: Any) -> Any:
      with jax.ensure_compile_time_eval(), few_programs():
        value = following(shape, dtype, initial)
      made.setdefault(context.module.module_name, {})[context.name] = value
      return value

    def run(observation: Any) -> None:
      with (
        hk.custom_creator(create, state=False),
        mock.patch.object(hk, "remat", lambda function: function),
        mock.patch.object(hk, "next_rng_key", _known(hk.next_rng_key)),
        mock.patch.object(hk, "maybe_next_rng_key", _known(hk.maybe_next_rng_key)),
      ):
        functions = functions_of(model.network(), model.displacements)
        rows = jax.tree.leaves(dict(observation))[0].shape[0]
        functions.step(functions.initial_state(rows), observation)

    try:
      jax.eval_shape(lambda o: hk.transform(run).init(rng, o), checked)
    except DrawnInsideError:
      return model.init(rng, observation)
    return made

  return model._replace(init=init)


def start_quickly() -> None:
  """Makes training on one device begin with such parameters too, for the rest of the process."""
  placed = step.placed_train_state

  def placed_quickly(
    mesh: Any, objective: Any, optimizer: Any, observation: Any, seed: int, params: Any = None
  ) -> tuple[Any, Any]:
    if params is None and mesh.size == 1:
      key = jax.random.split(jax.random.PRNGKey(seed), 3)[0]  # as `initial_train_state`
      params = objective.init_params(key, observation)
    return placed(mesh, objective, optimizer, observation, seed, params)

  step.placed_train_state = placed_quickly
