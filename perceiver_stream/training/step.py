"""One window of learning: a jitted, donated function of the train state, on a device mesh."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.training.mesh import (
  carried,
  check_divided,
  copied,
  divided,
  rows_sharding,
)
from perceiver_stream.training.objectives import Aux, Objective, Score


class TrainState(NamedTuple):
  """The state of training from window to window.

  Attributes:
    params: Of the model.
    opt_state: Of the optimiser.
    model_state: Recurrent state of the model, rows first.
    rng: Raw key, uint32 `[2]`.
    windows: Windows processed.
    skipped: Windows skipped because loss, gradient, parameters or state were not finite.
    bad_run: Number of windows skipped in a row up to now.
  """

  params: PyTree
  opt_state: PyTree
  model_state: PyTree
  rng: Array
  windows: Int[Array, ""]
  skipped: Int[Array, ""]
  bad_run: Int[Array, ""]


class StepInfo(NamedTuple):
  """Output of the training step of one window.

  Attributes:
    loss: Mean over the window.
    grad_norm: Global norm before clipping; NaN if the window was only watched.
    finite: True if the update was made.
    skipped: Windows skipped so far.
    bad_run: Windows skipped in a row up to now.
    scores: By `"<modality>@<displacement>"`.
    predictions: By `"<output>@<displacement>"`, `[K, B, ...]`.
  """

  loss: Float[Array, ""]
  grad_norm: Float[Array, ""]
  finite: Bool[Array, ""]
  skipped: Int[Array, ""]
  bad_run: Int[Array, ""]
  scores: dict[str, Score]
  predictions: dict[str, Array]


LossAndGrad = Callable[..., tuple[tuple[Array, Aux], PyTree]]


def initial_train_state(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  observation: Mapping[str, Any],
  seed: int,
  params: PyTree | None = None,
) -> TrainState:
  """Returns the state before the first window.

  Args:
    objective: The objective, with its model.
    optimizer: As `make_optimizer` makes it.
    observation: One tick, `[B, ...]`.
    seed: Of all random numbers.
    params: To start from; None is `objective.init_params`.
  """
  init_key, state_key, rng = jax.random.split(jax.random.PRNGKey(seed), 3)
  params = objective.init_params(init_key, observation) if params is None else params
  rows = next(iter(observation.values())).shape[0]
  model_state = objective.initial_state(params, batch_size=rows, rng=state_key)
  # One zero each: donated buffers must not be shared.
  zero = lambda: jnp.array(0, jnp.int32)  # noqa: E731
  return TrainState(params, optimizer.init(params), model_state, rng, zero(), zero(), zero())


def state_sharding(mesh: Mesh, state: TrainState, num_rows: int) -> TrainState:
  """Returns the sharding of each array; `state` may have shapes instead of arrays.

  Raises:
    ValueError: An axis of the mesh has no array to shard.
  """
  params = divided(mesh, state.params)
  check_divided(mesh, params)
  return jax.tree.map(lambda _: copied(mesh), state)._replace(
    params=params,
    opt_state=divided(mesh, state.opt_state),
    model_state=carried(mesh, state.model_state, num_rows),
  )


def placed_train_state(
  mesh: Mesh,
  objective: Objective,
  optimizer: optax.GradientTransformation,
  observation: Mapping[str, Any],
  seed: int,
  params: PyTree | None = None,
) -> tuple[TrainState, TrainState]:
  """Returns the first state, created sharded so that no device ever holds all of it, and its sharding.

  See `initial_train_state` and `state_sharding`.
  """
  rows = next(iter(observation.values())).shape[0]
  make = lambda tick, params: initial_train_state(objective, optimizer, tick, seed, params)  # noqa: E731
  inputs = dict(observation), params
  sharding = state_sharding(mesh, jax.eval_shape(make, *inputs), rows)
  return jax.jit(make, out_shardings=sharding)(*inputs), sharding


def make_train_step(
  loss_and_grad: LossAndGrad,
  optimizer: optax.GradientTransformation,
  sharding: TrainState,
  num_rows: int,
) -> Callable[[TrainState, Mapping[str, Array]], tuple[TrainState, StepInfo]]:
  """Returns the jitted step; its first argument is donated.

  A window whose loss, gradient, new parameters or next state are not finite changes only the
  counters: the recurrent state stays too, so that one broken tick does not affect later ones.

  Args:
    loss_and_grad: `(params, model_state, window, rng) -> ((loss, aux), gradients)`; see `Objective`.
    optimizer: As `make_optimizer` makes it.
    sharding: Of the train state.
    num_rows: Streams in parallel.
  """

  def step(state: TrainState, window: Mapping[str, Array]) -> tuple[TrainState, StepInfo]:
    rng, key = jax.random.split(state.rng)
    (value, aux), grads = loss_and_grad(state.params, state.model_state, window, key)
    grads = jax.lax.with_sharding_constraint(grads, sharding.params)
    norm = optax.tree.norm(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    learnt = (optax.apply_updates(state.params, updates), opt_state, aux.next_state)
    finite = jnp.isfinite(value) & jnp.isfinite(norm) & all_finite((learnt[0], aux.next_state))
    before = (state.params, state.opt_state, state.model_state)
    params, opt_state, model_state = jax.tree.map(
      lambda new, old: jnp.where(finite, new, old), learnt, before
    )
    bad = 1 - finite.astype(jnp.int32)
    skipped, bad_run = state.skipped + bad, (state.bad_run + 1) * bad
    info = StepInfo(value, norm, finite, skipped, bad_run, aux.scores, aux.predictions)
    counters = (state.windows + 1, skipped, bad_run)
    return TrainState(params, opt_state, model_state, rng, *counters), info

  return _on_mesh(step, sharding, num_rows)


def make_watch_step(
  objective: Objective, sharding: TrainState, num_rows: int
) -> Callable[[TrainState, Mapping[str, Array]], tuple[TrainState, StepInfo]]:
  """Returns a step that changes no parameters: the recurrent state advances, and all is scored.

  A teacher stays too (`Objective.watched_state`). The other arguments are those of
  `make_train_step`; its `grad_norm` is NaN.
  """

  def step(state: TrainState, window: Mapping[str, Array]) -> tuple[TrainState, StepInfo]:
    rng, key = jax.random.split(state.rng)
    (value, aux), _ = objective.loss_and_grad(state.params, state.model_state, window, key)
    after = objective.watched_state(state.model_state, aux.next_state)
    finite = jnp.isfinite(value) & all_finite(after)
    model_state = jax.tree.map(
      lambda new, old: jnp.where(finite, new, old), after, state.model_state
    )
    bad = 1 - finite.astype(jnp.int32)
    skipped, bad_run = state.skipped + bad, (state.bad_run + 1) * bad
    norm = jnp.full((), jnp.nan)
    info = StepInfo(value, norm, finite, skipped, bad_run, aux.scores, aux.predictions)
    counters = (state.windows + 1, skipped, bad_run)
    return TrainState(state.params, state.opt_state, model_state, rng, *counters), info

  return _on_mesh(step, sharding, num_rows)


def _on_mesh(step: Callable, sharding: TrainState, num_rows: int) -> Callable:
  """Returns a jitted step that donates the train state."""
  mesh = sharding.rng.mesh  # type: ignore[attr-defined]
  in_rows = rows_sharding(mesh, num_rows, axis=1)

  def on_mesh(state: TrainState, window: Mapping[str, Array]) -> tuple[TrainState, StepInfo]:
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # for `spread` in models
      return step(state, window)

  outputs = StepInfo(*[copied(mesh)] * 6, predictions=in_rows)  # type: ignore[arg-type]
  return jax.jit(on_mesh, donate_argnums=0, out_shardings=(sharding, outputs))


def all_finite(tree: PyTree) -> Bool[Array, ""]:
  """Returns True if every number of every float array is finite."""
  floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
  return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in floats], bool))
