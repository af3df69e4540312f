"""What a pipeline is told by its sequential twin."""

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream.execution import Pipeline, distilling, gradients, partition
from perceiver_stream.execution.nets import convchain

STAGED = convchain.staged(convchain.Config(channels=(2, 2), taps=2, output_dim=1), 4, 4)
MADE = partition(STAGED)
FRAMES = jax.random.normal(jax.random.key(1), (6, 2, 4, 4, 3))
TARGETS = jax.random.normal(jax.random.key(2), (6, 2, 4, 4, 1))


def squared(answer, target):
  return jnp.mean(jnp.square(answer["head"] - target))


def apart(answer, told):
  return squared(answer, told["head"])


def test_the_twin_answers_at_once_and_goes_on_from_its_registers():
  params = jax.jit(MADE.init)(jax.random.key(0))
  first = distilling.sequential_teacher(MADE).initial(params, 2)
  show = jax.jit(lambda r, f, y: distilling.shown(MADE, params, r, {"frames": f}, y))
  (targets, told), _ = show(first, FRAMES, TARGETS)
  np.testing.assert_array_equal(targets, TARGETS)
  rule = gradients("backprop", MADE, squared)  # all stages on the same frame
  step = jax.jit(lambda r, f, y: rule.step(params, r, {"frames": f}, y))
  registers = rule.initial(params, 2)
  for tick in range(3):
    found, registers = step(registers, FRAMES[tick], TARGETS[tick])
    np.testing.assert_allclose(told["head"][tick], found.answer["head"], atol=1e-6)
  half, registers = show(first, FRAMES[:3], TARGETS[:3])
  (_, rest), _ = show(registers, FRAMES[3:], TARGETS[3:])
  parts = jnp.concatenate([half[1]["head"], rest["head"]])
  np.testing.assert_allclose(parts, told["head"], atol=1e-6)


def test_the_loss_is_that_of_the_target_and_of_the_twin():
  answer, told = {"head": FRAMES[0, ..., :1]}, {"head": FRAMES[1, ..., :1]}
  both = distilling.distilled(squared, apart, 0.5)
  expected = squared(answer, TARGETS[0]) + 0.5 * squared(answer, told["head"])
  np.testing.assert_allclose(both(answer, (TARGETS[0], told)), expected, rtol=1e-6)


def test_the_twin_learns_nothing():
  def total(params):
    registers = distilling.sequential_teacher(MADE).initial(params, 2)
    (_, told), _ = distilling.shown(MADE, params, registers, {"frames": FRAMES}, TARGETS)
    return jnp.sum(told["head"])

  slopes = jax.jit(jax.grad(total))(jax.jit(MADE.init)(jax.random.key(0)))
  assert not any(np.any(x) for x in jax.tree.leaves(slopes))


def test_where_nothing_moves_a_pipeline_comes_to_leave_what_its_twin_does_and_not_before():
  params = jax.jit(MADE.init)(jax.random.key(0))
  still = jnp.broadcast_to(FRAMES[:1], FRAMES.shape)
  told, _ = distilling.sequential_teacher(MADE).unroll(
    params, distilling.sequential_teacher(MADE).initial(params, 2), {"frames": still}
  )
  pipeline = Pipeline(MADE, tells_all=True)
  left, _ = pipeline.unroll(params, pipeline.initial(params, 2), {"frames": still})
  assert set(left) == {layer.name for layer in STAGED.layers} == set(told)
  apart = jax.vmap(distilling.activations)(left, told)
  full = MADE.delay + len(STAGED.layers)  # each has two taps
  np.testing.assert_allclose(apart[full:], 0, atol=1e-5)
  assert np.all(apart[: MADE.delay] > 0.1)


def test_only_numbers_that_the_pipeline_leaves_count():
  told = {"a": jnp.asarray([0.0, 2.0]), "b": jnp.ones(2), "seen": jnp.ones(2, bool)}
  mine = {"a": jnp.asarray([0.0, 0.0]), "seen": jnp.zeros(2, bool)}
  np.testing.assert_allclose(distilling.activations(mine, told), 2.0, rtol=1e-5)
