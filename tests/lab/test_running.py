"""A run is the plain loop that it says it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_lab import SIDE, TICKS, clips, colour_learner

from perceiver_stream.lab.masking import Masking
from perceiver_stream.lab.rules import Rule, optimizer
from perceiver_stream.lab.running import Program, Runner, batch_of, unit
from perceiver_stream.lab.tasks import Task
from perceiver_stream.nn import roughness
from perceiver_stream.training.objectives import Objective
from perceiver_stream.training.optimizers import make_optimizer

SEEN, HELD_OUT = clips(), clips(1, num=3, rows=2)
RATE = 0.05


def started(program):
  return program.init(jax.random.key(0), SEEN)


def run(program, seen=SEEN, order=None, parts=2, seed=0):
  order = program.rule.order(len(seen.frames), 0) if order is None else order
  return Runner(program)(started(program), RATE, seed, order, seen, HELD_OUT, parts)


def plain_loop(program, order):
  """Returns the same by hand: no scan, no parts, no batch of one."""
  params, losses = started(program), []
  update_rule = make_optimizer(program.rule.optimizer)
  opt_state = update_rule.init(params)

  def loss(params, frames, pictures):
    painted, _ = program.learner.predict_frames(params, (), frames, None)
    return jnp.mean(jnp.square(painted.pictures - pictures))

  for clip in order:
    frames, pictures = unit(SEEN.frames[clip]), unit(SEEN.pictures[clip])
    value, grads = jax.value_and_grad(loss)(params, frames, pictures)
    updates, opt_state = update_rule.update(grads, opt_state, params)
    scale = RATE / program.rule.optimizer.learning_rate
    params = optax.apply_updates(params, jax.tree.map(lambda u, s=scale: s * u, updates))
    losses.append(float(value))
  return params, losses


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_cadence_of_one_is_the_plain_loop(shuffled):
  program = Program(colour_learner(), Task(), Rule(shuffled=shuffled))
  order = program.rule.order(len(SEEN.frames), 0)
  params, losses = plain_loop(program, order[:, 0])
  curves = run(program)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), curves.params, params)
  np.testing.assert_allclose(program.task.score(curves.in_stream), losses, rtol=1e-5)


def test_between_steps_of_a_cadence_nothing_changes():
  program = Program(colour_learner(), Task(), Rule(optimizer=optimizer("sgd", cadence=4)))
  curves = run(program, parts=6)  # two clips a part
  out = program.task.score(curves.out_of_stream)
  assert out[0] == out[1] != out[2] == out[3] != out[4]


def test_order_is_each_clip_once_or_as_the_stream_has_it():
  np.testing.assert_array_equal(Rule().order(9, 0)[:, 0], np.arange(9))
  shuffled = Rule(shuffled=True).order(9, 0)[:, 0]
  assert sorted(shuffled) == list(range(9)) and list(shuffled) != list(range(9))
  assert list(shuffled) != list(Rule(shuffled=True).order(9, 1)[:, 0])


def test_what_is_not_there_to_replay_does_not_count():
  program = Program(colour_learner(), Task(), Rule(optimizer=optimizer("sgd")))
  alone = np.arange(6, dtype=np.int32)[:, None]
  nothing = np.concatenate([alone, np.full_like(alone, -1)], axis=1)
  a, b = run(program, order=alone), run(program, order=nothing)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), a.params, b.params)
  np.testing.assert_allclose(a.in_stream, b.in_stream, rtol=1e-5)
  twice = run(program, order=np.concatenate([alone, alone[::-1]], axis=1))
  assert not np.allclose(twice.params["w"], a.params["w"], rtol=1e-3)


def test_pictures_that_do_not_count_are_not_learnt_from():
  program = Program(colour_learner(), Task(), Rule())
  blind = SEEN._replace(counts=np.zeros_like(SEEN.counts))
  curves = run(program, seen=blind)
  jax.tree.map(np.testing.assert_array_equal, curves.params, started(program))


def test_revealing_nothing_is_vanilla():
  rule = Rule(optimizer=optimizer("sgd"))
  make = lambda masking: Program(colour_learner(), Task(), rule, masking, hints=True)  # noqa: E731
  vanilla, none = run(make(Masking())), run(make(Masking(reveal_fraction=0.0)), seed=5)
  jax.tree.map(np.testing.assert_array_equal, vanilla.params, none.params)
  guided = run(make(Masking(reveal_fraction=0.3)))
  assert not np.allclose(guided.params["w"][3:], vanilla.params["w"][3:], atol=1e-4)
  np.testing.assert_array_equal(vanilla.params["w"][3:], started(make(Masking()))["w"][3:])
  bare = run(Program(colour_learner(), Task(), rule), seed=7)
  assert bare.params["w"].shape == (3, 3)


def test_a_carried_state_goes_on_from_clip_to_clip():
  carried, reset = (
    run(Program(colour_learner(memory=True), Task(), Rule(), carry=carry))
    for carry in (True, False)
  )
  np.testing.assert_allclose(carried.in_stream[0], reset.in_stream[0], rtol=1e-5)
  assert not np.allclose(carried.in_stream[1], reset.in_stream[1], rtol=1e-4)
  np.testing.assert_allclose(carried.out_of_stream[0], reset.out_of_stream[0], rtol=1e-5)
  on = run(Program(colour_learner(memory=True), Task(), Rule(), carry_held_out=True))
  np.testing.assert_array_equal(on.in_stream, reset.in_stream)
  assert not np.allclose(on.out_of_stream[0], reset.out_of_stream[0], rtol=1e-4)


def test_a_penalty_makes_flow_smoother_and_changes_nothing_else_of_the_run():
  learner, rule = colour_learner(says_flow=True), Rule(optimizer=optimizer("sgd"))
  rough, none, smooth = (
    Program(learner, Task(), rule, smoothness=weight) for weight in (0.0, 0.0, 10.0)
  )
  curves = [run(program) for program in (rough, none, smooth)]
  np.testing.assert_array_equal(curves[0].in_stream, curves[1].in_stream)
  np.testing.assert_array_equal(curves[0].in_stream[0], curves[2].in_stream[0])
  flows = [Runner(rough).flow(c.params, HELD_OUT) for c in curves]
  assert flows[0].shape == (3, TICKS, 2, SIDE, SIDE, 2)
  assert roughness(flows[2]) < 0.9 * roughness(flows[0])
  assert rough.says_flow(curves[0].params, HELD_OUT)


def test_no_flow_cannot_be_smoothed():
  program = Program(colour_learner(), Task(), Rule(), smoothness=0.1)
  assert not program.says_flow(started(program), HELD_OUT)
  with pytest.raises(ValueError, match="smoothness=0.1, but this learner predicts no flow; use 0"):
    run(program)


def test_held_out_footage_is_scored_by_an_average_if_there_is_one():
  curves = run(Program(colour_learner(), Task(), Rule(average=0.999)))
  plain = run(Program(colour_learner(), Task(), Rule()))
  before = plain.out_of_stream[0]
  assert np.abs(curves.out_of_stream[-1] - before)[0] < np.abs(plain.out_of_stream[-1] - before)[0]
  np.testing.assert_array_equal(curves.in_stream, plain.in_stream)


def test_steps_one_by_one_are_the_scan():
  learner = colour_learner()
  scan, single = (
    run(Program(learner._replace(convolves=c), Task(), Rule())) for c in (False, True)
  )
  np.testing.assert_allclose(scan.in_stream, single.in_stream, rtol=1e-5)
  np.testing.assert_allclose(scan.out_of_stream, single.out_of_stream, rtol=1e-5)


def test_a_batch_is_clips_side_by_side():
  batch = batch_of(SEEN, jnp.asarray([3, 0]))
  np.testing.assert_allclose(batch.frames[:, 0], SEEN.frames[3, :, 0] / np.float32(255))
  np.testing.assert_allclose(batch.pictures[:, 1], SEEN.pictures[0, :, 0] / np.float32(255))


def test_its_loss_is_an_objective_of_the_trainer():
  """State and predictions are those of the new clip; a replayed one counts in the loss alone."""
  objective = Program(colour_learner(memory=True), Task(), Rule(), carry=True).objective
  assert isinstance(objective, Objective)
  one, two = (batch_of(SEEN, jnp.asarray(which))._asdict() for which in ([2], [2, 4]))
  params = objective.init_params(jax.random.key(0), one)
  state = objective.initial_state(params)
  results = [objective.loss_and_grad(params, state, b, jax.random.key(1)) for b in (one, two)]
  (alone, a), grads = results[0]
  (both, b), _ = results[1]
  assert jax.tree.structure(grads) == jax.tree.structure(params) and float(alone) != float(both)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), a, b)


def test_a_hint_needs_channels():
  program = Program(colour_learner(), Task(), Rule(), Masking(reveal_fraction=0.5))
  with pytest.raises(ValueError, match="reveal_fraction=0.5, but the learner has no channels"):
    run(program)
  with pytest.raises(ValueError, match="hide_fraction=1.0; use 0 to below 1"):
    Masking(hide_fraction=1.0)
  with pytest.raises(ValueError, match="replay=2 clips from no memory"):
    Rule(replay=2)
  with pytest.raises(ValueError, match=r"average=1.0; use 0 \(none\) to below 1"):
    Rule(average=1.0)
