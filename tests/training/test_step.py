import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_fakes import DIM, Objective, Windows

from perceiver_stream.training import step
from perceiver_stream.training.mesh import MeshConfig, make_mesh, place


def setup(rows=1, devices=(), optimizer=None):
  optimizer = optimizer or optax.adam(0.01)
  mesh = make_mesh(MeshConfig(), rows, devices)
  observation = {"x": np.zeros((rows, DIM), np.float32)}
  with jax.numpy_dtype_promotion("standard"):
    state, sharding = step.placed_train_state(mesh, Objective(), optimizer, observation, seed=0)
  run = step.make_train_step(Objective().loss_and_grad, optimizer, sharding, rows)
  windows = [place(mesh, rows, {"x": w["x"]}) for w in Windows(rows, 4)]
  return state, run, windows


@pytest.fixture(autouse=True)
def standard_promotion():
  with jax.numpy_dtype_promotion("standard"):  # optax.adam
    yield


def test_buffers_are_donated():
  state, run, windows = setup()
  leaves = jax.tree.leaves((state.params, state.opt_state, state.model_state))
  run(state, windows[0])
  assert all(leaf.is_deleted() for leaf in leaves)


def test_the_second_call_does_not_compile():
  state, run, windows = setup(rows=2)
  for window in windows:
    state, _ = run(state, window)
  assert run._cache_size() == 1
  assert int(state.windows) == 4


@pytest.mark.parametrize("where", ["x", "state"])
def test_what_is_not_finite_changes_only_the_counters(where):
  state, run, windows = setup()
  state, _ = run(state, windows[0])
  if where == "state":
    state = state._replace(model_state=state.model_state._replace(h=jnp.full((1, DIM), jnp.inf)))
    bad = windows[1]
  else:
    bad = {"x": windows[1]["x"].at[2].set(jnp.nan)}
  before = jax.tree.map(np.array, state)
  state, info = run(state, bad)
  assert not info.finite and info.bad_run == info.skipped == 1
  same = lambda a, b: np.testing.assert_array_equal(np.asarray(a), b)  # noqa: E731
  fields = ("params", "opt_state", "model_state")
  jax.tree.map(same, *[[getattr(s, f) for f in fields] for s in (state, before)])
  assert int(state.windows) == 2
  if where == "x":
    state, info = run(state, windows[1])
    assert info.finite and info.bad_run == 0 and info.skipped == 1


def test_a_gradient_that_is_not_finite_is_seen_where_the_loss_is():
  def loss(params, state, window, rng):
    value, aux = Objective().loss(params, state, window, rng)
    return value + jnp.sqrt(jnp.sum(params["in"]["b"])), aux  # b is 0: slope without end

  state, _, windows = setup()
  sharding = step.state_sharding(make_mesh(MeshConfig(), 1), state, 1)
  run = step.make_train_step(jax.value_and_grad(loss, has_aux=True), optax.adam(0.01), sharding, 1)
  _, info = run(state, windows[0])
  assert jnp.isfinite(info.loss) and not jnp.isfinite(info.grad_norm) and not info.finite


def test_rows_are_spread_over_devices_and_agree_with_one():
  results = []
  for devices in (jax.devices(), jax.devices()[:1]):
    state, run, windows = setup(rows=4, devices=devices)
    for window in windows:
      state, info = run(state, window)
    assert len(state.model_state.h.sharding.device_set) == len(devices)
    assert state.params["in"]["w"].sharding.is_fully_replicated
    results.append(jax.device_get((state.params, state.model_state, info.loss)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)


@pytest.mark.parametrize("rows, expected", [(1, 1), (2, 2), (3, 1), (8, 2)])
def test_the_mesh_has_as_many_devices_as_divide_the_rows(rows, expected):
  assert make_mesh(MeshConfig(), rows).size == expected


def test_watching_changes_the_state_that_the_objective_lets_change():
  class Slow(Objective):
    def watched_state(self, before, after):
      return before._replace(h=after.h + 1)

  state, _, windows = setup()
  sharding = step.state_sharding(make_mesh(MeshConfig(), 1), state, 1)
  found = []
  for objective in (Objective(), Slow()):
    state, _, _ = setup()
    params = np.array(state.params["in"]["w"])
    state, info = step.make_watch_step(objective, sharding, 1)(state, windows[0])
    assert info.finite and jnp.isnan(info.grad_norm)
    np.testing.assert_array_equal(state.params["in"]["w"], params)
    found.append(np.array(state.model_state.h))
  np.testing.assert_allclose(found[1], found[0] + 1, rtol=1e-6)


def test_all_finite_looks_at_floats_only():
  tree = {"a": jnp.ones(3), "n": jnp.array([1, 2]), "on": jnp.array(True)}
  assert step.all_finite(tree)
  assert not step.all_finite(tree | {"b": jnp.array([1.0, jnp.inf])})
  assert step.all_finite({"n": jnp.array(1)})
