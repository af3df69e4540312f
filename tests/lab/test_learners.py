"""Every learner keeps the small interface, and has about as many parameters as every other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.lab import comparing, motion
from perceiver_stream.lab.learners import LEARNERS
from perceiver_stream.lab.tables import TABLES
from perceiver_stream.lab.tasks import Task
from perceiver_stream.lab.trials import SIZES, Trial, Workshop

TICKS, ROWS = 4, 1
GIVEN = ("copy", "no flow")  # baselines, and rivals in flow
SAYS_FLOW = ("stream_perceiver", "video_autoencoder")


def shapes(name, size, channels=3):
  """Returns a learner and the shapes of what `init`, `initial_state` and `paint` give."""
  side = size.side
  learner = LEARNERS[name](side, size.widths[name])
  frames = jax.ShapeDtypeStruct((TICKS, ROWS, side, side, channels), jnp.float32)
  first = jax.ShapeDtypeStruct((TICKS, ROWS), bool)
  params = jax.eval_shape(learner.init, jax.random.key(0), frames, first)
  state = jax.eval_shape(lambda p: learner.initial_state(p, ROWS), params)
  return params, state, *jax.eval_shape(learner.predict_frames, params, state, frames, first)


@pytest.mark.parametrize("name", LEARNERS)
def test_pictures_and_states_have_their_shapes(name):
  size = SIZES["nano"]
  _, before, painted, after = shapes(name, size)
  assert painted.pictures.shape == (TICKS, ROWS, size.side, size.side, 3)
  if name in SAYS_FLOW:
    assert painted.flow.shape == (TICKS, ROWS, size.side, size.side, 2)
  else:
    assert painted.flow is None
  assert jax.tree.map(lambda x: x.shape, before) == jax.tree.map(lambda x: x.shape, after)


def test_parameters_are_about_equal():
  for size in (SIZES["default"], SIZES["full"]):
    assert set(size.widths) == set(LEARNERS)
  counts = {
    name: sum(x.size for x in jax.tree.leaves(shapes(name, SIZES["default"])[0]))
    for name in LEARNERS
  }
  assert max(counts.values()) < 1.12 * min(counts.values()), counts


@pytest.mark.parametrize("name", ["vit", "frame_by_frame", "image_rnn", "conv3d", "conv_lstm"])
def test_hints_are_more_channels(name):
  params, _, painted, _ = shapes(name, SIZES["nano"], channels=7)
  assert painted.pictures.shape[-1] == 3
  plain, *_ = shapes(name, SIZES["nano"])
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
  assert count(params) > count(plain)


@pytest.mark.parametrize("name", TABLES)
def test_tables_name_what_there_is(name):
  table = TABLES[name]
  for trial in table.trials.values():
    assert trial.learner in SIZES["default"].widths
  for effect in table.effects:
    assert {effect.first, effect.second} <= {*table.trials, *GIVEN}, effect
    assert effect.where in (*comparing.WHERE, *motion.SCORES)
  for size in SIZES:
    budgets = {len(table.size(size).rates(trial.rule)) for trial in table.trials.values()}
    assert len(budgets) == 1, "every learner tries as many learning rates"


def test_a_trial_says_all_that_a_page_needs(tmp_path):
  size = dataclasses.replace(SIZES["nano"], stream_ticks=36, pretraining_ticks=36)
  trial = Trial(learner="frame_by_frame", pretraining="guided")
  result = Workshop(trial, size, tmp_path)(seed=0)
  assert set(result["baselines"]) == {"copy", "mean picture"}
  (told,) = result["runs"].values()
  assert len(told["out_of_stream_curve"]) == size.parts + 1
  assert told["out_of_stream"] == told["out_of_stream_curve"][-1] > 0
  np.testing.assert_allclose(np.mean(told["in_stream_curve"]), told["in_stream"], rtol=0.05)
  assert result["clips"] == 8 and result["parameters"] > 1000


def test_a_trial_judges_flow_where_learner_and_footage_have_it(tmp_path):
  size = dataclasses.replace(SIZES["nano"], stream_ticks=25)
  trial = Trial(
    learner="video_autoencoder", source="moving", task=Task(displacement=1), smoothness=0.1
  )
  result = Workshop(trial, size, tmp_path)(seed=0)
  (told,) = result["runs"].values()
  assert set(told["motion"]) == set(motion.SCORES) and told["motion"]["epe_things"] > 0
  assert result["rivals"]["the truth"]["epe"] == 0 < result["rivals"]["no flow"]["epe"]


def test_errors_say_what_is_wrong():
  with pytest.raises(ValueError, match="learner='vits'; use one of vit, unet"):
    Trial(learner="vits")
  with pytest.raises(ValueError, match="smoothness=-1.0; use 0"):
    Trial(smoothness=-1.0)
  with pytest.raises(ValueError, match="carry='yes'; use one of never, always, held out"):
    Trial(carry="yes")
  shuffled = dataclasses.replace(Trial().rule, shuffled=True)
  with pytest.raises(ValueError, match="shuffled clips have no state to carry over"):
    Trial(carry="always", rule=shuffled)
