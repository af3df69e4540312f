"""Robust estimators and losses against torch in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geometry_golden import files

from perceiver_stream.nn.geometry import estimators, photometric

each = pytest.mark.parametrize("golden", files("losses"))


@each
def test_estimators(golden):
  residual, scale = golden["m_estimator/residual"], golden["m_estimator/scale"]
  shape = (*scale.shape, *residual.shape)
  r = jnp.broadcast_to(residual, shape)
  c = jnp.broadcast_to(scale[:, None], shape)
  for name, estimator in estimators.ESTIMATORS.items():
    golden.close(f"m_estimator/{name}/rho", estimator.rho(r, c))
    golden.close(f"m_estimator/{name}/influence", estimator.influence(r, c))
    if f"m_estimator/{name}/weight" in golden.arrays:
      golden.close(f"m_estimator/{name}/weight", estimator.weight(r, c))
    derivative = jax.grad(lambda r: jnp.sum(estimator.rho(r, c)))(r)  # noqa: B023
    np.testing.assert_allclose(derivative, estimator.influence(r, c), atol=1e-9)
  golden.close("irls/mad_scale", estimators.mad_scale(golden["irls/data"]))
  golden.close("irls/tukey_location", estimators.location(golden["irls/data"]))


@each
def test_photometric(golden):
  target = golden["photometric/target"]
  pictures = sorted(n for n in golden.arrays if n.endswith("/picture") and "pred_" in n)
  errors = []
  for name in pictures:
    prefix, prediction = name.removesuffix("picture"), golden[name]
    golden.close(f"{prefix}ssim", photometric.ssim(prediction, target))
    golden.close(f"{prefix}dssim_mean", photometric.dissimilarity(prediction, target))
    value, pull = jax.vjp(photometric.photometric, prediction, target)
    golden.close(f"{prefix}photometric", value)
    one, other = pull(golden[f"{prefix}cotangent"])
    golden.close(f"{prefix}grad_pred", one)
    golden.close(f"{prefix}grad_target", other)
    errors.append(value)
  flat = golden["photometric/flat/pred"], golden["photometric/flat/target"]
  golden.close("photometric/flat/photometric", photometric.photometric(*flat))
  gradient = jax.grad(lambda p: jnp.sum(photometric.photometric(p, flat[1])))(flat[0])
  golden.close("photometric/flat/grad_pred", gradient)
  sources = sorted(n for n in golden.arrays if n.startswith("photometric/min_auto_mask/source_"))
  identity = jnp.stack([photometric.photometric(golden[n], target) for n in sources])
  noise = jnp.swapaxes(golden["photometric/min_auto_mask/tie_noise"], 0, 1)  # [B, S, H, W]

  def loss(predictions):
    warped = jnp.stack([photometric.photometric(p, target) for p in predictions])
    return jnp.mean(photometric.minimum_error(warped, identity, noise).per_pixel)

  found = photometric.minimum_error(jnp.stack(errors), identity, noise)
  for name in ("per_pixel", "chosen", "kept"):
    golden.close(f"photometric/min_auto_mask/{name}", getattr(found, name))
  value, gradients = jax.value_and_grad(loss)([golden[n] for n in pictures])
  golden.close("photometric/min_auto_mask/loss", value)
  for i, gradient in enumerate(gradients):
    golden.close(f"photometric/min_auto_mask/grad_pred_{i}", gradient)
  least = photometric.minimum_error(jnp.stack(errors)).per_pixel
  golden.close("photometric/min_no_mask/per_pixel", least)
  golden.close("photometric/min_no_mask/loss", jnp.mean(least))
  golden.close("photometric/mean_no_mask/loss", jnp.mean(jnp.stack(errors)))


@each
def test_regularisers(golden):
  disparity, picture = golden["regularisers/disparity"], golden["regularisers/picture"]
  for name, function in (
    ("edge_aware_mean_normalised", lambda d: photometric.edge_aware_smoothness(d, picture)),
    ("edge_aware", lambda d: photometric.edge_aware_smoothness(d, picture, normalise=False)),
    ("second_order_sfmlearner", photometric.second_order_smoothness),
  ):
    value, gradient = jax.value_and_grad(function)(disparity)
    golden.close(f"regularisers/{name}/loss", value)
    golden.close(f"regularisers/{name}/grad_disparity", gradient)
  logits = golden["regularisers/explainability/logits"]
  mask, loss = photometric.explainability(logits)
  golden.close("regularisers/explainability/mask", mask)
  golden.close("regularisers/explainability/loss", loss)
  gradient = jax.grad(lambda x: photometric.explainability(x)[1])(logits)
  golden.close("regularisers/explainability/grad_logits", gradient)
  pair = golden["depth_consistency/computed"], golden["depth_consistency/projected"]
  golden.close("depth_consistency/per_pixel", photometric.depth_consistency(*pair))
  mean = lambda a, b: jnp.mean(photometric.depth_consistency(a, b))  # noqa: E731
  value, gradients = jax.value_and_grad(mean, (0, 1))(*pair)
  golden.close("depth_consistency/loss", value)
  golden.close("depth_consistency/grad_computed", gradients[0])
  golden.close("depth_consistency/grad_projected", gradients[1])
  depths = golden["silog/pred"], golden["silog/target"]
  for name in sorted({n.split("/")[1] for n in golden.arrays if n.startswith("silog/lambda_")}):
    share = float(name.removeprefix("lambda_"))
    error = lambda p: photometric.scale_invariant_log(p, depths[1], share)  # noqa: E731, B023
    value, gradient = jax.value_and_grad(error)(depths[0])
    golden.close(f"silog/{name}/loss", value)
    golden.close(f"silog/{name}/grad_pred", gradient)
