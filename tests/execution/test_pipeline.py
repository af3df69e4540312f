"""What comes out of a pipeline, when, and of which frame."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.execution import Pipeline, partition
from perceiver_stream.execution.nets import convchain
from perceiver_stream.models.stages import Layer, Staged, scoped_layer

TICKS, ROWS = 9, 2
STAGED = convchain.staged(
  convchain.Config(channels=(2, 2, 2), shortcut="add", taps=2, output_dim=1), 4, 4
)
FRAMES = {"frames": jax.random.normal(jax.random.key(1), (TICKS, ROWS, 4, 4, 3))}


@functools.cache
def unrolled(stages, fresh=False, clocks=()):
  """Returns answers of the chain and the registers after them."""
  pipeline = Pipeline(partition(STAGED, stages, fresh=fresh), clocks)
  params = jax.jit(pipeline.partition.init)(jax.random.key(0))
  answers, last = jax.jit(pipeline.unroll)(params, pipeline.initial(params, ROWS), FRAMES)
  return np.asarray(answers["head"]), last


@pytest.mark.parametrize("stages", [2, 4, (3,)])
def test_the_answer_is_that_of_the_net_d_minus_1_ticks_later(stages):
  """Exactly, with layers that remember, whatever they have seen while the pipe was empty."""
  late, now = unrolled(stages)[0], unrolled(1)[0]
  delay = partition(STAGED, stages).delay
  np.testing.assert_allclose(late[delay:], now[: TICKS - delay], atol=1e-6)
  assert not np.any(late[:delay])
  assert np.std(now) > 0.1


def ages(layers, outputs, shortcuts=frozenset(), **options):
  """Returns at tick 6 how old each output is, for layers that hand numbers on."""
  frame = {"x": jax.ShapeDtypeStruct((1, 1), jnp.float32)}
  pipeline = Pipeline(partition(Staged("ages", layers, frame, outputs, shortcuts), **options))
  frames = {"x": jnp.arange(1.0, 8.0)[:, None, None]}
  answers, _ = pipeline.unroll({}, pipeline.initial({}), frames)
  return {name: float(7 - answers[name][6, 0, 0]) for name in outputs}


def same(name, *reads):
  return scoped_layer(name, reads, lambda *values: values[-1])


LONG = (same("a", "x"), same("b", "a"), same("c", "b"), same("d", "c", "a"), same("e", "d"))


def test_shortcuts_carry_fresher_frames():
  """d is made of a: through b and c it is 3 ticks old, straight from a one tick."""
  sides = frozenset({"a"})
  assert ages(LONG, ("e",), sides) == {"e": 2.0}
  assert ages(LONG, ("e",), sides, fresh=False) == {"e": 4.0}
  assert ages(LONG, ("e",)) == {"e": 4.0}  # nothing may be read fresh
  assert ages(LONG, ("e",), sides, stages=(3,)) == {"e": 1.0}
  assert ages(LONG, ("e",), sides, stages=1) == {"e": 0.0}
  assert ages(LONG, ("a", "e"), sides) == {"a": 1.0, "e": 2.0}


def test_fresh_is_not_aligned_and_one_stage_is_both():
  assert np.max(np.abs(unrolled(4, True)[0] - unrolled(4)[0])) > 1e-3
  np.testing.assert_array_equal(unrolled(1, True)[0], unrolled(1)[0])


def test_unroll_is_steps_from_anywhere():
  pipeline = Pipeline(partition(STAGED))
  params = jax.jit(pipeline.partition.init)(jax.random.key(0))
  answers, last = unrolled(0, True)
  registers, step = pipeline.initial(params, ROWS), jax.jit(pipeline.step)
  for tick in range(TICKS):
    answer, registers = step(params, registers, {"frames": FRAMES["frames"][tick]})
    np.testing.assert_allclose(answer["head"], answers[tick], atol=1e-6)
  for a, b in zip(jax.tree.leaves(registers), jax.tree.leaves(last), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_slow_clocks_hold_what_they_have():
  """Stages fire every 1, 1, 2 and 4 ticks, first when the first frame has come to them."""
  held = unrolled(0, False, (1, 1, 2, 4))[0]
  fires = [tick for tick in range(1, TICKS) if np.any(held[tick] != held[tick - 1])]
  assert fires == [3, 7]
  np.testing.assert_allclose(held[3], unrolled(0)[0][3], atol=1e-6)


def test_the_program_does_not_grow_with_time():
  pipeline = Pipeline(partition(STAGED))
  params = jax.jit(pipeline.partition.init)(jax.random.key(0))

  def size(ticks):
    frames = {"frames": jnp.zeros((ticks, 1, 4, 4, 3))}
    return str(jax.make_jaxpr(pipeline.unroll)(params, pipeline.initial(params), frames)).count("=")

  assert size(2) == size(20)


def test_registers_that_are_trees_with_flags_and_numbers():
  """A register may be any tree of arrays; layers may carry state from tick to tick."""

  def count(state, inputs):
    first = inputs["first"]
    state = jnp.where(first, 0, state + 1)
    return {"seen": {"count": state, "first": first}}, state

  def tell(state, inputs):
    return {"told": jnp.where(inputs["seen"]["first"], -1, inputs["seen"]["count"])}, state

  layers = (
    Layer("count", ("first",), count, lambda rows: jnp.full(rows, 10, jnp.int32)),
    Layer("tell", ("seen",), tell),
  )
  frame = {"first": jax.ShapeDtypeStruct((1,), jnp.bool_)}
  pipeline = Pipeline(partition(Staged("counter", layers, frame, ("told",))))
  frames = {"first": jnp.zeros((5, 1), bool).at[2].set(True)}
  answers, _ = pipeline.unroll({}, pipeline.initial({}), frames)
  assert answers["told"][:, 0].tolist() == [0, 11, 12, -1, 1]


def test_what_does_not_fit_is_told():
  with pytest.raises(ValueError, match=r"clocks \(1, 2\) for 4 stages of convchain; give each"):
    Pipeline(partition(STAGED), (1, 2))
  pipeline = Pipeline(partition(STAGED))
  params = jax.jit(pipeline.partition.init)(jax.random.key(0))
  with pytest.raises(ValueError, match=r"reads 'frames' of shapes \[\(4, 4, 3\)\] a row, but the"):
    pipeline.step(params, pipeline.initial(params), {"frames": jnp.zeros((1, 5, 4, 3))})
  with pytest.raises(ValueError, match=r"but the tick has \['pixels'\]"):
    pipeline.step(params, pipeline.initial(params), {"pixels": jnp.zeros((1, 4, 4, 3))})
