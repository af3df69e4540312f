"""One window of learning: a jitted, donated function of the train state, on a device mesh."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.training.objectives import Score

AXIS = "data"  # the mesh axis over which rows are spread


class TrainState(NamedTuple):
  """All that learning carries from window to window.

  Attributes:
    params: Of the model.
    opt_state: Of the optimiser.
    model_state: What the model remembers, rows first.
    rng: Raw key, uint32 `[2]`.
    windows: Windows seen.
    skipped: Windows whose loss, gradient or state was not finite and so changed nothing.
    bad_run: How many of them came in a row just now.
  """

  params: PyTree
  opt_state: PyTree
  model_state: PyTree
  rng: Array
  windows: Int[Array, ""]
  skipped: Int[Array, ""]
  bad_run: Int[Array, ""]


class StepInfo(NamedTuple):
  """What one window tells.

  Attributes:
    loss: Mean over the window.
    grad_norm: Global norm before clipping.
    finite: Whether the update was made.
    skipped: Windows skipped so far.
    bad_run: Windows skipped in a row just now.
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


LossFn = Callable[..., tuple[Array, Any]]


def make_mesh(num_rows: int, devices: Sequence[Any] = ()) -> Mesh:
  """Returns a mesh over as many devices as divide the rows evenly, one at least."""
  devices = list(devices) or jax.devices()
  count = max(n for n in range(1, len(devices) + 1) if num_rows % n == 0)
  return Mesh(np.asarray(devices[:count]), (AXIS,))


def initial_train_state(
  model: Any, optimizer: optax.GradientTransformation, observation: Mapping[str, Any], seed: int
) -> TrainState:
  """Returns the state before the first window; `observation` is one tick, `[B, ...]`."""
  init_key, state_key, rng = jax.random.split(jax.random.PRNGKey(seed), 3)
  params = model.init(init_key, observation)
  rows = next(iter(observation.values())).shape[0]
  model_state = model.initial_state(params, batch_size=rows, rng=state_key)
  # One zero each: donated buffers must not be shared.
  zero = lambda: jnp.array(0, jnp.int32)  # noqa: E731
  return TrainState(params, optimizer.init(params), model_state, rng, zero(), zero(), zero())


def state_sharding(mesh: Mesh, state: TrainState, num_rows: int) -> TrainState:
  """Returns the sharding of each array: rows of the model's state are spread, all else copied."""
  copied = NamedSharding(mesh, PartitionSpec())
  spread = NamedSharding(mesh, PartitionSpec(AXIS))
  sharding = jax.tree.map(lambda _: copied, state)
  rows = lambda x: spread if x.ndim and x.shape[0] == num_rows else copied  # noqa: E731
  return sharding._replace(model_state=jax.tree.map(rows, state.model_state))


def place(mesh: Mesh, window: Mapping[str, np.ndarray]) -> dict[str, Array]:
  """Returns the window, `[W, B, ...]`, on the mesh, its rows spread over the devices."""
  return jax.device_put(dict(window), NamedSharding(mesh, PartitionSpec(None, AXIS)))


def make_train_step(
  loss: LossFn, optimizer: optax.GradientTransformation, sharding: TrainState
) -> Callable[[TrainState, Mapping[str, Array]], tuple[TrainState, StepInfo]]:
  """Returns the jitted step; its first argument is donated.

  A window whose loss, gradient or next state is not finite changes nothing but the counters: also
  the recurrent state stays, so that one broken tick does not poison all that follow.

  Args:
    loss: `(params, model_state, window, rng) -> (loss, aux)`; aux has `next_state`, `scores` and
      `predictions`.
    optimizer: As `make_optimizer` makes it.
    sharding: Of the train state.
  """

  def step(state: TrainState, window: Mapping[str, Array]) -> tuple[TrainState, StepInfo]:
    rng, key = jax.random.split(state.rng)
    gradient = jax.value_and_grad(loss, has_aux=True)
    (value, aux), grads = gradient(state.params, state.model_state, window, key)
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(value) & jnp.isfinite(norm) & all_finite(aux.next_state)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    learnt = (optax.apply_updates(state.params, updates), opt_state, aux.next_state)
    before = (state.params, state.opt_state, state.model_state)
    params, opt_state, model_state = jax.tree.map(
      lambda new, old: jnp.where(finite, new, old), learnt, before
    )
    bad = 1 - finite.astype(jnp.int32)
    skipped, bad_run = state.skipped + bad, (state.bad_run + 1) * bad
    info = StepInfo(value, norm, finite, skipped, bad_run, aux.scores, aux.predictions)
    counters = (state.windows + 1, skipped, bad_run)
    return TrainState(params, opt_state, model_state, rng, *counters), info

  return jax.jit(step, donate_argnums=0, out_shardings=(sharding, None))


def all_finite(tree: PyTree) -> Bool[Array, ""]:
  """Returns whether every number of every float array is finite."""
  floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
  return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in floats], bool))
