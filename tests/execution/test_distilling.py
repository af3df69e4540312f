"""What a pipeline is told by its sequential twin."""

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream.execution import cut, distilling, gradients
from perceiver_stream.models import convchain

STAGED = convchain.staged(convchain.Config(channels=(2, 2), taps=2, output_dim=1), 4, 4)
MADE = cut(STAGED)
FRAMES = jax.random.normal(jax.random.key(1), (6, 2, 4, 4, 3))
TARGETS = jax.random.normal(jax.random.key(2), (6, 2, 4, 4, 1))


def squared(answer, target):
  return jnp.mean(jnp.square(answer["head"] - target))


def apart(answer, told):
  return squared(answer, told["head"])


def test_the_twin_answers_at_once_and_goes_on_from_its_registers():
  params = jax.jit(MADE.init)(jax.random.key(0))
  first = distilling.twin(MADE).initial(params, 2)
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
    registers = distilling.twin(MADE).initial(params, 2)
    (_, told), _ = distilling.shown(MADE, params, registers, {"frames": FRAMES}, TARGETS)
    return jnp.sum(told["head"])

  slopes = jax.jit(jax.grad(total))(jax.jit(MADE.init)(jax.random.key(0)))
  assert not any(np.any(x) for x in jax.tree.leaves(slopes))
