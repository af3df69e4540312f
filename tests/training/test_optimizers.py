import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_stream.training.optimizers import (
  OPTIMIZERS,
  SCHEDULES,
  STEPS,
  OptimizerConfig,
  every,
  make_optimizer,
  make_schedule,
)

PARAMS = {"linear": {"w": jnp.array([[1.0, -2.0], [3.0, 0.5]]), "b": jnp.array([1.0, -1.0])}}


def run(config, gradients, params=PARAMS):
  optimizer = make_optimizer(config)
  state = optimizer.init(params)
  step = jax.jit(optimizer.update)
  for g in gradients:
    updates, state = step(g, state, params)
    params = optax.apply_updates(params, updates)
  return params


def noise(seed, n):
  keys = jax.random.split(jax.random.PRNGKey(seed), n)
  return [jax.tree.map(lambda p, k=k: jax.random.normal(k, p.shape), PARAMS) for k in keys]


@pytest.mark.parametrize("name", [*OPTIMIZERS, *STEPS])
def test_every_optimiser_descends_a_bowl(name):
  config = OptimizerConfig(name=name, learning_rate=0.05, clip_norm=0.0, trust_coefficient=1.0)
  params = PARAMS
  optimizer = make_optimizer(config)
  state = optimizer.init(params)
  loss = lambda p: optax.tree.norm(p, squared=True)  # noqa: E731
  first = loss(params)
  for _ in range(60):
    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    params = optax.apply_updates(params, updates)
  assert loss(params) < 0.2 * first


@pytest.mark.parametrize("name", [*OPTIMIZERS, *STEPS])
def test_the_state_does_not_depend_on_what_a_resumed_run_may_change(name):
  shapes = lambda **fields: jax.eval_shape(  # noqa: E731
    make_optimizer(OptimizerConfig(name=name, **fields)).init, PARAMS
  )
  want = shapes()
  for fields in (
    {"clip_norm": 0.0},
    {"weight_decay": 0.1},
    {"schedule": "cosine", "warmup_steps": 3},
    {"learning_rate": 7.0, "final_fraction": 0.0},
  ):
    got = shapes(**fields)
    assert jax.tree.structure(got) == jax.tree.structure(want), fields
    assert jax.tree.leaves(got) == jax.tree.leaves(want)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_a_learning_rate_that_is_none_is_refused(value):
  with pytest.raises(ValueError, match=rf"optimizer.learning_rate={value} must be a number above"):
    OptimizerConfig(learning_rate=value)


@pytest.mark.parametrize("name", ["final_fraction", "eps", "weight_decay", "clip_norm", "b1", "b2"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_numbers_out_of_range_are_refused_with_their_name(name, value):
  with pytest.raises(ValueError, match=f"optimizer.{name}={value}"):
    OptimizerConfig(**{name: value})


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 5])
def test_schedules_warm_up_peak_and_arrive(schedule, warmup):
  config = OptimizerConfig(
    schedule=schedule, learning_rate=0.4, warmup_steps=warmup, decay_steps=25, final_fraction=0.25
  )
  rate = make_schedule(config)
  assert float(rate(warmup)) == pytest.approx(0.4)
  if warmup:
    assert float(rate(0)) == 0 and float(rate(1)) == pytest.approx(0.08)
  arrived = 0.4 if schedule == "constant" else 0.1
  assert float(rate(25)) == pytest.approx(arrived) == float(rate(1000))


@pytest.mark.parametrize("name", [*OPTIMIZERS, *STEPS])
def test_cadence_is_accumulating_by_hand(name):
  gradients = noise(0, 9)
  config = OptimizerConfig(name=name, clip_norm=0.5, weight_decay=0.1, learning_rate=0.01)
  means = [jax.tree.map(lambda a, b, c: (a + b + c) / 3, *gradients[i : i + 3]) for i in (0, 3, 6)]
  by_hand = run(config, means)
  by_cadence = run(dataclasses.replace(config, cadence=3), gradients)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), by_hand, by_cadence)


def test_cadence_leaves_parameters_alone_between_steps():
  optimizer = every(3, optax.sgd(1.0))
  state = optimizer.init(PARAMS)
  for i, g in enumerate(noise(1, 6)):
    updates, state = optimizer.update(g, state)
    assert bool(optax.tree.norm(updates) > 0) == (i % 3 == 2)


def test_clipping_bounds_the_global_norm():
  config = OptimizerConfig(name="sgd", b1=0.0, learning_rate=1.0, clip_norm=0.25)
  moved = optax.tree.sub(PARAMS, run(config, noise(2, 1)))
  assert float(optax.tree.norm(moved)) == pytest.approx(0.25, rel=1e-5)


def test_only_matrices_decay():
  zero = jax.tree.map(jnp.zeros_like, PARAMS)
  config = OptimizerConfig(weight_decay=0.5, learning_rate=0.1)
  after = run(config, [zero])
  np.testing.assert_allclose(after["linear"]["w"], PARAMS["linear"]["w"] * 0.95, rtol=1e-6)
  np.testing.assert_array_equal(after["linear"]["b"], PARAMS["linear"]["b"])


@pytest.mark.parametrize(
  "fields, text",
  [
    ({"name": "adamx"}, "optimizer.name='adamx' is not known. Did you mean 'adamw'"),
    ({"schedule": "cosin"}, "Did you mean 'cosine'"),
    ({"learning_rate": 0.0}, "must be a number above 0"),
    ({"warmup_steps": -1}, "warmup_steps=-1; use 0"),
    ({"cadence": 0}, "1 window or more"),
    ({"schedule": "linear", "warmup_steps": 10, "decay_steps": 10}, "counts the warm-up too"),
  ],
)
def test_wrong_settings_are_named(fields, text):
  with pytest.raises(ValueError, match=text):
    OptimizerConfig(**fields)
