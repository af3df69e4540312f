"""Losses of unsupervised depth and camera motion; images are `[B, H, W, C]` in [0, 1].

Source: monodepth2 (Godard et al. 2019, 1806.01260), SfMLearner (Zhou et al. 2017, 1704.07813),
depth consistency of Bian et al. 2019, scale-invariant error of Eigen et al. 2014.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.nn.geometry.estimators import absolute


def _box_mean(x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
  """Returns 3×3 means; the border is reflected without repeating the edge."""
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
  rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
  return (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9


def ssim(one: Float[Array, "B H W C"], other: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
  """Returns the structural similarity per pixel and channel, at most 1.

  3×3 boxes and population variances, as monodepth2; the metric `evaluation.metrics.image` is the
  original with a Gaussian window.
  """
  c1, c2 = 0.01**2, 0.03**2
  mean_one, mean_other = _box_mean(one), _box_mean(other)
  var_one = _box_mean(one * one) - mean_one * mean_one
  var_other = _box_mean(other * other) - mean_other * mean_other
  covariance = _box_mean(one * other) - mean_one * mean_other
  top = (2 * mean_one * mean_other + c1) * (2 * covariance + c2)
  return top / ((mean_one**2 + mean_other**2 + c1) * (var_one + var_other + c2))


def dissimilarity(
  one: Float[Array, "B H W C"], other: Float[Array, "B H W C"]
) -> Float[Array, "B H W"]:
  """Returns the channel mean of (1 - SSIM) / 2, clipped to [0, 1]."""
  return jnp.mean(jnp.clip((1 - ssim(one, other)) / 2, 0, 1), axis=-1)


def photometric(
  prediction: Float[Array, "B H W C"], target: Float[Array, "B H W C"], ssim_share: float = 0.85
) -> Float[Array, "B H W"]:
  """Returns the error per pixel: a share of `dissimilarity` and the rest of mean absolute error."""
  l1 = jnp.mean(absolute(prediction - target), axis=-1)
  return ssim_share * dissimilarity(prediction, target) + (1 - ssim_share) * l1


class MinimumError(NamedTuple):
  """Minimum error per pixel over several sources.

  Attributes:
    per_pixel: The error.
    chosen: Index of the source with this error; identity sources come first.
    kept: The pixel is explained better by a warped source than by an unwarped one.
  """

  per_pixel: Float[Array, "B H W"]
  chosen: Int[Array, "B H W"]
  kept: Bool[Array, "B H W"]


def minimum_error(
  warped: Float[Array, "S B H W"],
  identity: Float[Array, "S B H W"] | None = None,
  tie_noise: Float[Array, "S B H W"] | None = None,
) -> MinimumError:
  """Returns the minimum over sources, with monodepth2's automatic mask if `identity` is given.

  A pixel that an unwarped source explains better (a camera at rest, an object that moves along)
  gets the identity's error, which is constant. The mean over all pixels is then
  scaled by the share of `kept`; monitor this share, since a network can learn to reduce it.

  Args:
    warped: Errors of the warped sources.
    identity: Errors of the unwarped sources.
    tie_noise: Added to `identity` to break ties; monodepth2 takes normal noise of 1e-5.
  """
  masks = 0 if identity is None else identity.shape[0]
  stack = warped
  if identity is not None:
    still = identity if tie_noise is None else identity + tie_noise
    stack = jnp.concatenate([still, warped], axis=0)
  chosen = jnp.argmin(stack, axis=0)
  per_pixel = jnp.take_along_axis(stack, chosen[None], axis=0)[0]
  return MinimumError(per_pixel, chosen, chosen >= masks)


# --- regularisers ---------------------------------------------------------------------------------


def _differences(x: Array, axis: int) -> Array:
  first = [slice(None)] * x.ndim
  second = list(first)
  first[axis], second[axis] = slice(None, -1), slice(1, None)
  return x[tuple(first)] - x[tuple(second)]


def edge_aware_smoothness(
  disparity: Float[Array, "B H W"], picture: Float[Array, "B H W C"], normalise: bool = True
) -> Float[Array, ""]:
  """Returns the mean absolute gradient of the disparity, less where the image has edges.

  Args:
    disparity: Inverse depth.
    picture: The image of the same view.
    normalise: Divide the disparity by its mean over each image (monodepth2), so that smaller
      disparities do not lower the loss.
  """
  if normalise:
    disparity = disparity / (jnp.mean(disparity, axis=(1, 2), keepdims=True) + 1e-7)
  total = jnp.zeros((), disparity.dtype)
  for axis in (2, 1):
    edges = jnp.mean(absolute(_differences(picture, axis)), axis=-1)
    total += jnp.mean(absolute(_differences(disparity, axis)) * jnp.exp(-edges))
  return total


def second_order_smoothness(disparity: Float[Array, "B H W"]) -> Float[Array, ""]:
  """Returns the mean absolute second derivatives, as SfMLearner."""
  total = jnp.zeros((), disparity.dtype)
  for first in (2, 1):
    once = _differences(disparity, first)
    for second in (2, 1):
      total += jnp.mean(absolute(_differences(once, second)))
  return total


def explainability(
  logits: Float[Array, "B H W 2"],
) -> tuple[Float[Array, "B H W"], Float[Array, ""]]:
  """Returns SfMLearner's mask in [0, 1] and its regulariser, the cross entropy to all ones.

  The mask multiplies the absolute error. The released code's default weight is 0 (off); the paper
  has 0.2.
  """
  log_mask = jax.nn.log_softmax(logits, axis=-1)[..., 1]
  return jnp.exp(log_mask), -jnp.mean(log_mask)


def depth_consistency(
  computed: Float[Array, "B H W"], projected: Float[Array, "B H W"]
) -> Float[Array, "B H W"]:
  """Returns |a - b| / (a + b) of two positive depths of the same points, in [0, 1)."""
  return absolute(computed - projected) / (computed + projected)


def scale_invariant_log(
  prediction: Float[Array, "..."], target: Float[Array, "..."], variance_share: float = 0.5
) -> Float[Array, ""]:
  """Returns mean(e^2) - share · mean(e)^2 of e, the difference of log depths."""
  error = jnp.log(prediction) - jnp.log(target)
  return jnp.mean(error**2) - variance_share * jnp.mean(error) ** 2
