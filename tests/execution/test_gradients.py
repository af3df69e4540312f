"""Gradient rules: where they are exact, where they are not, and what they carry."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.execution import RULES, gradients, partition
from perceiver_stream.execution.nets import convchain
from perceiver_stream.models.stages import Staged, scoped_layer

TICKS, DEPTH = 10, 4
STAGED = convchain.staged(
  convchain.Config(channels=(2, 2, 2), shortcut="concat", output_dim=1), 4, 4
)
FRAMES = jax.random.normal(jax.random.key(1), (TICKS, 2, 4, 4, 3))
TARGETS = jax.random.normal(jax.random.key(2), (TICKS, 2, 4, 4, 1))


def loss(answer, target):
  return jnp.mean(jnp.square(answer["head"] - target))


@functools.cache
def told(rule, stages=0, fresh=False, still=False, noise=0.1, clocks=(), ticks=TICKS):
  """Returns gradients of every tick as one vector `[T, P]`, by module, and losses."""
  made = partition(STAGED, stages, fresh=fresh)
  params = jax.jit(made.init)(jax.random.key(0))
  params = jax.tree.map(lambda x: x + noise, params)
  rule = gradients(rule, made, loss, clocks=clocks)

  def tick(registers, now):
    found, registers = rule.step(params, registers, {"frames": now[0]}, now[1])
    return registers, (found.gradients, found.loss)

  now = (FRAMES, TARGETS)
  if still:
    now = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], (ticks, *x.shape[1:])), now)
  _, found = jax.jit(lambda: jax.lax.scan(tick, rule.initial(params, 2), now))()
  return found


def close(one, other, atol=1e-5):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol * max(1.0, float(np.max(np.abs(b)))))


def size(tree):
  return float(jnp.sqrt(sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree))))


@pytest.mark.parametrize(
  ("rule", "fresh"), [("sideways", True), ("sideways", False), ("buffered", False)]
)
def test_where_nothing_moves_it_is_backprop_once_the_pipe_is_full(rule, fresh):
  exact, _ = told("backprop", 1, still=True)
  found, losses = told(rule, 0, fresh, still=True)
  full = 2 * (DEPTH - 1)  # there and back
  close(jax.tree.map(lambda x: x[full:], found), jax.tree.map(lambda x: x[full:], exact))
  first = jax.tree.map(lambda x: x[full - 1], found)
  assert size(jax.tree.map(lambda a, b: a - b[0], first, exact)) > 1e-3, "it is full earlier"
  assert not np.any(losses[: DEPTH - 1]) and np.all(losses[DEPTH - 1 :] > 0)


def test_slow_stages_learn_as_much_as_their_answers_were_used():
  """Over the ticks in which all clocks meet, what comes back is the sum of all answers' gradients."""
  clocks, period = (2, 1, 4, 2), 4
  exact, _ = told("backprop", 1, still=True)
  found, losses = told("sideways", 0, True, still=True, clocks=clocks, ticks=28)
  late = jax.tree.map(lambda x: jnp.sum(x[-period:], axis=0), found)
  answers = period // clocks[-1]
  close(late, jax.tree.map(lambda x: answers * x[0], exact))
  fires = {"chain_0": 2, "chain_1": 1, "chain_2": 4, "head": 2}
  for i, (name, clock) in enumerate(fires.items()):
    own = {module: x for module, x in found.items() if module.startswith(name)}
    learns = [size(jax.tree.map(lambda x: x[t], own)) > 0 for t in range(20, 28)]  # noqa: B023
    assert not any(learns[t - 20] for t in range(20, 28) if t % clock != i % clock)
    assert any(learns)
  assert [bool(x > 0) for x in losses[:8]] == [False, False, False, True] + [False, True] * 2


@pytest.mark.parametrize("rule", sorted(RULES))
def test_one_stage_is_backprop_always(rule):
  close(told(rule, 1), told("backprop", 1))


def test_backprop_does_not_depend_on_the_cut():
  close(told("backprop", 0), told("backprop", 1))


def test_where_things_move_sideways_is_another_and_buffered_an_older_gradient():
  """The stage i of D has, at tick t, the gradient of frame t - (D - 1) - (D - 1 - i)."""
  exact, _ = told("backprop", 1)
  # The targets are those of the tick: a late answer is compared with a later target.
  made = partition(STAGED, 0, fresh=False)
  late = gradients("backprop", made, loss)
  params = jax.tree.map(lambda x: x + 0.1, jax.jit(made.init)(jax.random.key(0)))
  at = jax.jit(
    lambda f, y: late.step(params, late.initial(params, 2), {"frames": f}, y)[0].gradients
  )
  found, _ = told("buffered")
  tick = TICKS - 1
  for i, own in enumerate(made.split(params)):
    frame = tick - (DEPTH - 1) - (DEPTH - 1 - i)
    expected = at(FRAMES[frame], TARGETS[frame + DEPTH - 1])
    for name in own:
      close({name: jax.tree.map(lambda x: x[tick], found[name])}, {name: expected[name]})
  sideways, _ = told("sideways")
  difference = jax.tree.map(lambda a, b: a - b, sideways, found)
  assert size(difference) > 0.1 * size(exact)
  assert size({"head/conv": difference["head/conv"]}) < 1e-5, "the last stage is never late"


def test_sideways_is_the_equations():
  """Two numbers as a net: a = w x, b = v a; what comes back meets the newest x."""
  scalar = lambda name: hk.get_parameter(name, (1,), jnp.float32, jnp.ones)  # noqa: E731

  def times(name):
    def function(x):
      return x * jnp.broadcast_to(scalar(name), x.shape)

    return function

  layers = (scoped_layer("a", ["x"], times("w")), scoped_layer("b", ["a"], times("v")))
  inputs = {"x": jax.ShapeDtypeStruct((1, 1), jnp.float32)}

  def half_square(answer, target):
    return 0.5 * jnp.sum(jnp.square(answer["b"] - target))

  made = partition(Staged("two", layers, inputs, ("b",)))
  rule = gradients("sideways", made, half_square)
  params = jax.tree.map(lambda x: 0 * x + 2.0, jax.jit(made.init)(jax.random.key(0)))
  (w_name,), (v_name,) = (list(part) for part in made.split(params))
  x, y = np.array([1.0, 3.0, 4.0, 8.0], np.float32), np.array([9.0, 1.0, 2.0, 5.0], np.float32)
  registers, (v, w) = rule.initial(params), (2.0, 2.0)
  for t in range(4):
    frame = {"x": jnp.full((1, 1), x[t])}
    found, registers = rule.step(params, registers, frame, jnp.full((1, 1), y[t]))
    error = lambda t: v * w * x[t - 1] - y[t] if t > 0 else 0.0  # noqa: E731
    np.testing.assert_allclose(found.gradients[v_name]["v"], error(t) * w * x[max(t - 1, 0)])
    np.testing.assert_allclose(found.gradients[w_name]["w"], error(t - 1) * v * x[t])


def test_feedback_alignment_sends_no_weights_back():
  """The last layer learns exactly; before it nothing depends on the weights that come after."""
  exact, _ = told("backprop", 1)
  found, _ = told("feedback_alignment")
  close(found["head/conv"], exact["head/conv"])
  assert size(jax.tree.map(lambda a, b: a - b, found, exact)) > 0.1 * size(exact)
  assert all(size(found[name]) > 0 for name in found)


def test_only_buffers_grow_with_the_square_of_the_depth():
  def numbers(rule, depth):
    chain = convchain.staged(convchain.Config(channels=(2,) * depth), 4, 4)
    made = partition(chain)
    params = jax.eval_shape(made.init, jax.random.key(0))
    carried = jax.eval_shape(gradients(rule, made, loss).initial, params)
    return sum(x.size for x in jax.tree.leaves(carried)) - 1  # without the tick

  grows = [numbers("sideways", d + 1) - numbers("sideways", d) for d in (3, 4, 5)]
  assert len(set(grows)) == 1
  buffered = [numbers("buffered", d + 1) - numbers("buffered", d) for d in (3, 4, 5)]
  assert buffered[1] - buffered[0] == buffered[2] - buffered[1] > 0


def test_what_cannot_be_is_told():
  with pytest.raises(ValueError, match="rule 'backwards' is not one of"):
    gradients("backwards", partition(STAGED), loss)
  with pytest.raises(ValueError, match="mixes frames through its shortcuts .* fresh=False"):
    gradients("buffered", partition(STAGED), loss)
  with pytest.raises(ValueError, match=r"'backprop' needs all stages at every tick, not clocks"):
    gradients("backprop", partition(STAGED), loss, clocks=(1, 1, 1, 2))
  with pytest.raises(ValueError, match=r"clocks \(1, 2\) for 4 stages of convchain"):
    gradients("sideways", partition(STAGED), loss, clocks=(1, 2))
