"""Motion reconstruction: frame t is frame t-1, warped by flow that is decoded from the latents alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import shaken

import perceiver_stream
from perceiver_stream.models import point_readout
from perceiver_stream.models.mapping import flatten
from perceiver_stream.models.point_readout import Features, TrackCommands
from perceiver_stream.models.stream_perceiver import BottleneckConfig
from perceiver_stream.training.objectives import ObjectiveConfig
from perceiver_stream.training.objectives.future_prediction import FuturePrediction
from perceiver_stream.training.objectives.readout_base import first_features, observe_features

TICKS, ROWS = 3, 2


def watched(*, reconstruct: bool = True, by: float = 0.0, **bottleneck):
  """Returns a model, its parameters (shaken), frames `[T, B, H, W, 3]`, and the states."""
  config = perceiver_stream.config("stream_perceiver/nano")
  pixels = dataclasses.replace(config.modalities["pixels"], reconstruct_motion=reconstruct)
  changes = {"modalities": {"pixels": pixels}, "displacements": (0, 1)}
  bottleneck = BottleneckConfig(**{"condition_queries_on_input": False} | bottleneck)
  model = perceiver_stream.build(dataclasses.replace(config, bottleneck=bottleneck, **changes))
  rng = np.random.default_rng(0)
  seen = {"pixels": jnp.asarray(model.modalities["pixels"].random_observation(rng, (TICKS, ROWS)))}
  params = model.init(jax.random.key(0), {"pixels": seen["pixels"][0]})
  params = shaken(params, by) if by else params
  return model, params, seen, model.observe(params, model.initial_state(params, ROWS), seen)[1]


def test_untrained_it_copies_the_frame_before_for_now_and_the_newest_for_later():
  model, params, seen, state = watched()
  told = model.predict(params, state, (0, 1))["pixels"]
  np.testing.assert_allclose(told[:, 0], np.asarray(seen["pixels"][-2]) / 255.0, atol=1e-6)
  np.testing.assert_allclose(told[:, 1], np.asarray(seen["pixels"][-1]) / 255.0, atol=1e-6)


def test_flow_is_one_vector_a_cell_and_does_not_follow_what_was_matched():
  model, params, _, state = watched(by=0.3)
  moved = state._replace(extra=jax.tree.map(lambda x: x + 1.0, state.extra))
  for ahead in (0, 1):
    flow, other, turned = (
      np.asarray(model.predict(params, s, (ahead,))["pixels_flow"])
      for s in (state, moved, state._replace(latents=-state.latents))
    )
    assert np.abs(flow).max() > 1e-3
    assert np.array_equal(flow, other) and not np.allclose(flow, turned)
    cells = flow.reshape(ROWS, 1, 4, 4, 4, 4, 2)
    assert np.ptp(cells, axis=(3, 5)).max() == 0


def test_the_frame_before_is_what_now_is_compared_with():
  model, params, _, _ = watched()
  objective = FuturePrediction(model, ObjectiveConfig(window=2))
  rng = np.random.default_rng(1)
  ticks = objective.num_ticks
  frames = model.modalities["pixels"].random_observation(rng, (ticks, 1))
  flow = np.ones((ticks, 1, 16, 16, 2), np.float32)
  window = {"pixels": jnp.asarray(frames), "flow_backward": jnp.asarray(flow)}
  _, aux = objective.loss(params, model.initial_state(params, 1), window)
  mse = np.mean(np.square(np.diff(frames[-3:] / 255.0, axis=0)), axis=(2, 3, 4))
  for name in ("pixels@0", "pixels@1"):
    np.testing.assert_allclose(aux.scores[name].baselines["copy"], mse, rtol=1e-4)
  np.testing.assert_allclose(aux.scores["pixels_flow@0"].model, np.sqrt(2), rtol=1e-4)


def test_the_norm_of_tokens_can_be_left_out():
  normed, plain = watched(), watched(norm_tokens=False)
  named = [{n for n in flatten(x[1]) if "token_norm" in n} for x in (normed, plain)]
  assert len(named[0]) == 1 and not named[1]


def test_a_tracker_goes_where_the_decoded_motion_says():
  config = point_readout.Config(dim=8, num_heads=2, use_frames=False, use_flow=True)
  tracker = point_readout.build(config)
  flow = jnp.zeros((4, 1, 8, 16, 2)).at[..., 0].set(-2.0)  # what is here was 2 pixels to the left
  sight = Features(jnp.zeros((4, 1, 3, 8)), flow=flow)
  params = tracker.init(jax.random.key(0), jax.tree.map(lambda x: x[0], sight))
  start = np.zeros((4, 1, 1), bool)
  start[0] = True
  place = np.full((4, 1, 1, 2), 0.25, np.float32)
  orders = TrackCommands(*map(jnp.asarray, (start, place, np.zeros_like(start))))
  tracks, _ = tracker.unroll(params, tracker.initial_state(1, 1), sight, orders)
  np.testing.assert_allclose(tracks.position[:, 0, 0, 0], 0.25 + np.arange(4) * 2 / 16, atol=1e-6)
  np.testing.assert_allclose(tracks.position[:, 0, 0, 1], 0.25, atol=1e-6)


def test_what_a_tracker_sees_is_what_the_decoder_says():
  model, params, seen, _ = watched(by=0.3)
  state = model.initial_state(params, ROWS)
  sight, after = observe_features(model, params, state, seen, flow=True)
  assert sight.flow is not None and sight.flow.shape == (TICKS, ROWS, 16, 16, 2)
  told = model.predict(params, after, (0,))["pixels_flow"][:, 0]
  np.testing.assert_allclose(sight.flow[-1], told, atol=1e-5)
  assert observe_features(model, params, state, seen)[0].flow is None


def test_errors_say_what_to_do():
  model, params, seen, _ = watched(reconstruct=False)
  with pytest.raises(
    ValueError, match="this one reconstructs none; use one trained with pixels.Config"
  ):
    first_features(model, params, {"pixels": seen["pixels"][0]}, flow=True)
  with pytest.raises(ValueError, match=r"\['pixels'\] have reconstruct_motion=True, and queries"):
    watched(condition_queries_on_input=True)
  with pytest.raises(ValueError, match="use_frames and use_flow are both on; use one"):
    point_readout.Config(use_flow=True).validate()
  tracker = point_readout.build(point_readout.Config(use_frames=False, use_flow=True))
  with pytest.raises(ValueError, match="use_flow=True, but the features have no flow"):
    tracker.init(jax.random.key(0), Features(jnp.zeros((1, 3, 8))))
