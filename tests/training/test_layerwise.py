"""LARS by hand on two arrays, its two masks, and factors of gradients by path."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_stream.training.layerwise import by_path, scale_by_path
from perceiver_stream.training.optimizers import OptimizerConfig, make_optimizer

PARAMS = {"head/norm_0": {"scale": jnp.asarray([3.0, 4.0])}, "head": {"w": jnp.full((2, 2), 2.0)}}
GRADIENTS = {
  "head/norm_0": {"scale": jnp.asarray([0.3, 0.4])},
  "head": {"w": jnp.full((2, 2), 0.5)},
}


def trusted(p, g, decay, trust):
  g = g + decay * p
  return g * trust * np.linalg.norm(p) / np.linalg.norm(g)


@pytest.mark.parametrize("mask", ["paper", "as_released"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_two_steps_by_hand(mask, nesterov):
  config = OptimizerConfig(
    name="lars",
    learning_rate=0.5,
    b1=0.9,
    weight_decay=0.1,
    trust_coefficient=0.01,
    nesterov=nesterov,
    lars_mask=mask,
    clip_norm=0.0,
  )
  optimizer, found = make_optimizer(config), PARAMS
  state = optimizer.init(PARAMS)
  for _ in range(2):
    updates, state = optimizer.update(GRADIENTS, state, found)
    found = optax.apply_updates(found, updates)
  for module, leaf in (("head/norm_0", "scale"), ("head", "w")):
    p, g = np.asarray(PARAMS[module][leaf]), np.asarray(GRADIENTS[module][leaf])
    momentum, masked = 0.0, (leaf == "scale") == (mask == "as_released")
    for _ in range(2):
      step = -0.5 * (trusted(p, g, 0.1, 0.01) if masked else g)
      momentum = step + 0.9 * momentum
      p = p + (step + 0.9 * momentum if nesterov else momentum)
    np.testing.assert_allclose(found[module][leaf], p, rtol=1e-5)


def test_factors_of_all_matching_paths_multiply():
  scaled, _ = scale_by_path({".*norm.*": 10.0, "head/": 2.0, "w": 5.0}).update(GRADIENTS, None)
  assert by_path(len, PARAMS) == {"head/norm_0": {"scale": 17}, "head": {"w": 6}}
  np.testing.assert_allclose(scaled["head/norm_0"]["scale"], [6.0, 8.0])
  np.testing.assert_allclose(scaled["head"]["w"], np.full((2, 2), 1.0))


def test_factors_of_no_parameter_are_refused():
  with pytest.raises(ValueError, match=r"gradient_factors: 'predictor' matches none of 2 param"):
    make_optimizer(OptimizerConfig(gradient_factors={"head": 2.0, "predictor": 1.0})).init(PARAMS)


def test_factors_cancel_in_a_trust_ratio_and_count_without_it():
  config = {"name": "lars", "learning_rate": 0.5, "b1": 0.0, "clip_norm": 0.0}
  moved = []
  for factors in ({}, {".*": 10.0}):
    optimizer = make_optimizer(OptimizerConfig(**config, gradient_factors=factors))
    moved.append(optimizer.update(GRADIENTS, optimizer.init(PARAMS), PARAMS)[0])
  np.testing.assert_allclose(moved[1]["head"]["w"], moved[0]["head"]["w"], rtol=1e-6)
  ratio = moved[1]["head/norm_0"]["scale"] / moved[0]["head/norm_0"]["scale"]
  np.testing.assert_allclose(ratio, 10.0, rtol=1e-6)


def test_unknown_masks_are_named():
  with pytest.raises(ValueError, match="optimizer.lars_mask='papr' .*Did you mean 'paper'"):
    OptimizerConfig(lars_mask="papr")
