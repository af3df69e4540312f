"""The video autoencoder: it starts from the last frame, and its flow is what moves features."""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.inference import flow_estimation
from perceiver_stream.models.frame_predictors import video_autoencoder
from perceiver_stream.models.frame_predictors.base import FlowPredictor, FramePredictor
from perceiver_stream.training.objectives import FuturePrediction, ObjectiveConfig

NANO = zoo.config("video_autoencoder/nano")
SIDE, TICKS = NANO.height, 3
DIRECT = dataclasses.replace(NANO, warps=False)


@functools.cache
def built(warps=True):
  """Returns a model, its parameters as they start, observations and what it makes of them."""
  model = zoo.build(NANO if warps else DIRECT)
  rng = np.random.default_rng(0)
  pictures = jnp.asarray(rng.integers(0, 256, (TICKS, 1, SIDE, SIDE, 3)), jnp.uint8)
  watched = {"pixels": pictures, "is_first": jnp.zeros((TICKS, 1), bool)}
  params = model.init(jax.random.key(0), {n: v[0] for n, v in watched.items()})
  return model, params, watched, *model.unroll(params, model.initial_state(params), watched)


def test_at_first_nothing_moves_and_both_forms_paint_the_last_frame_alike():
  model, params, watched, outputs, state = built()
  flow = outputs.predictions["pixels_flow"]
  assert flow.shape == (TICKS, 1, 1, SIDE, SIDE, 2) and np.all(np.asarray(flow) == 0)
  direct = built(warps=False)[0]
  same = {n: v for n, v in params.items() if "flow_" not in n}
  same["video_autoencoder/change"] = jax.tree.map(
    jnp.zeros_like, built(warps=False)[1]["video_autoencoder/change"]
  )
  painted, _ = direct.unroll(same, direct.initial_state(same), watched)
  np.testing.assert_allclose(
    painted.predictions["pixels"], outputs.predictions["pixels"], atol=1e-6
  )
  assert set(painted.predictions) == {"pixels"}


def test_the_picture_is_that_of_features_moved_along_the_flow():
  model, params, watched, outputs, state = built()
  cells = jnp.asarray([1.0, -2.0])  # along x, along y; whole cells, so that nothing is blurred
  head = params["video_autoencoder/flow_2"]
  moved = {**params, "video_autoencoder/flow_2": {**head, "b": cells}}
  said = model.predict(moved, state)
  flow = np.asarray(said["pixels_flow"])
  np.testing.assert_allclose(flow, np.broadcast_to(NANO.patch * np.asarray(cells), flow.shape))
  shift = lambda x: jnp.roll(x, (2 * NANO.patch, -NANO.patch), (-3, -2))  # noqa: E731
  inner = np.s_[..., 6:14, 2:12, :]  # no edge in sight, here or where it comes from
  expected = shift(outputs.predictions["pixels"][-1])
  np.testing.assert_allclose(said["pixels"][inner], expected[inner], atol=1e-5)


def test_flow_ends_at_its_longest():
  model, params, _, _, state = built()
  head = params["video_autoencoder/flow_2"]
  far = {**params, "video_autoencoder/flow_2": {**head, "b": jnp.asarray([1e3, -1e3])}}
  flow = np.asarray(model.predict(far, state)["pixels_flow"])
  most = NANO.max_flow * SIDE
  np.testing.assert_allclose(flow, np.broadcast_to([most, -most], flow.shape))


def test_its_flow_is_asked_for_and_judged_as_that_of_other_models():
  model, params, watched, _, state = built()
  answers = model.decode(params, state, model.queries("pixels", cells=[0, 37]))
  assert answers["pixels_flow"].shape == (1, 2, 1, 1, 2)
  assert flow_estimation.gives_flow(model) == "stream"
  with pytest.raises(ValueError, match="a video_autoencoder gives no flow"):
    flow_estimation.gives_flow(built(warps=False)[0])
  window = watched | {"flow_backward": jnp.ones((TICKS, 1, SIDE, SIDE, 2))}
  objective = FuturePrediction(model, ObjectiveConfig(window=TICKS - 1))
  _, aux = objective.loss(params, model.initial_state(params), window)
  np.testing.assert_allclose(aux.scores["pixels_flow@1"].model, np.sqrt(2), rtol=1e-5)


def test_kinds_of_frame_predictors():
  def kinds(config):
    made = video_autoencoder.make(config)
    return [isinstance(made, kind) for kind in (FramePredictor, FlowPredictor)]

  for config, expected in ((NANO, [True, True]), (DIRECT, [True, False])):
    assert hk.transform(kinds).apply({}, None, config) == expected


def test_errors_say_what_is_wrong():
  with pytest.raises(ValueError, match=r"displacements=\(1, 4\), but it predicts the next tick"):
    video_autoencoder.Config(displacements=(1, 4))
  with pytest.raises(ValueError, match="memory_kernel=4; use an odd number"):
    video_autoencoder.Config(memory_kernel=4)
