"""What is judged by labels that teach nothing: flow; and depth beside the mean-depth predictor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.training import load_config
from perceiver_stream.training.loop import visible
from perceiver_stream.training.objectives.future_prediction import judge_flow
from perceiver_stream.training.parts import make_parts


@pytest.fixture(scope="module")
def made():
  config = load_config("configs/world.py:nano")
  config.model.displacements = (1,)
  config.objective.window = 3
  parts = make_parts(config)
  window = next(iter(parts.windows))
  params = parts.objective.init_params(jax.random.PRNGKey(0), parts.observation)
  state = parts.objective.initial_state(params, 1)
  loss = jax.jit(parts.objective.loss)
  return parts, window, lambda w: loss(params, state, visible(w, parts.observation))


def test_flow_is_judged_by_labels_and_not_taught_by_them(made):
  parts, window, learn = made
  loss, aux = learn(window)
  score = aux.scores["pixels_flow@1"]
  truth = window["flow_backward"][-3:]
  length = np.linalg.norm(truth, axis=-1).mean((2, 3))
  np.testing.assert_allclose(score.baselines["zero_flow"], length, rtol=1e-5)
  np.testing.assert_allclose(score.model, length, rtol=1e-5)  # untrained: no flow
  assert score.valid.all() and parts.metric_names["pixels_flow"] == "epe"
  other, _ = learn(window | {"flow_backward": window["flow_backward"] + 5})
  assert float(other) == float(loss)
  without = {k: v for k, v in window.items() if k != "flow_backward"}
  assert "pixels_flow@1" not in learn(without)[1].scores


def test_end_point_error_is_the_length_of_the_difference():
  truth = jnp.zeros((2, 1, 4, 4, 2)).at[..., 0].set(3.0)
  score = judge_flow(truth.at[..., 1].set(4.0), truth, jnp.ones((2, 1), bool))
  np.testing.assert_allclose(score.model, 4.0)
  np.testing.assert_allclose(score.baselines["zero_flow"], 3.0)


def test_depth_stands_beside_the_mean(made):
  parts, window, _ = made
  assert parts.baselines is not None
  errors = parts.baselines(window)
  depth = window["depth"].astype(np.float64)
  before = [depth[: t + 1].mean() for t in range(3)]  # all that one tick ahead may see
  expected = [np.abs(m - d) / d for m, d in zip(before, depth[1:], strict=True)]
  np.testing.assert_allclose(errors["depth@1"]["past_mean"], np.mean(expected, (2, 3)), rtol=1e-5)
  assert {"mix", "fitted_mix"} < set(errors["pixels@1"])
  assert set(errors["audio@1"]) == {"past_mean", "recent_mean"}
