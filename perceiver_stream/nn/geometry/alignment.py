"""Camera motion by least squares: from optical flow, and from the images themselves.

Both return `T_source_target` for known depth of the target. `twist_of_flow` is one linear solve;
`direct` is Gauss-Newton on the photometric error with a robust weight per pixel. Everything is
differentiable.

Source: the equations of the instantaneous motion field (Longuet-Higgins and Prazdny 1980) and of
direct alignment (Kerl et al. 2013, DVO, from which the robust weights too; Engel et al. 2014),
through the layers of gvnn (1607.07405).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn.geometry import cameras, estimators, lie, warps

_RESIDUAL = 0.04  # of matched motion, from which on a pixel counts less
_OFF_PX = 0.5  # of matched flow from the fit, from which on a pixel counts less


def flow_jacobian(
  xy: Float[Array, "B H W 2"], inverse_depth: Float[Array, "B H W"], intrinsics: Float[Array, "B 4"]
) -> Float[Array, "B H W 2 6"]:
  """Returns the derivative of a projected point by the twist (v, w) of its camera frame, in pixels.

  Args:
    xy: The pixel (x, y) of the point.
    inverse_depth: 1 over its depth.
    intrinsics: (fx, fy, cx, cy).
  """
  fx, fy, cx, cy = (intrinsics[:, None, None, i] for i in range(4))
  a, b, r = (xy[..., 0] - cx) / fx, (xy[..., 1] - cy) / fy, inverse_depth
  zero = jnp.zeros_like(r)
  along_x = jnp.stack([r, zero, -a * r, -a * b, 1 + a * a, -b], axis=-1)
  along_y = jnp.stack([zero, r, -b * r, -1 - b * b, a * b, a], axis=-1)
  return jnp.stack([fx[..., None] * along_x, fy[..., None] * along_y], axis=-2)


def solve(
  jacobian: Float[Array, "B N k"],
  residual: Float[Array, "B N"],
  weight: Float[Array, "B N"],
  damping: float,
) -> Float[Array, "B k"]:
  """Returns the x that minimises the weighted sum of (J x - r)^2, zero where there is no weight.

  The diagonal of the normal equations is increased by the share `damping`, and by 1e-9 of its
  largest entry.
  """
  weighted = jacobian * weight[..., None]
  normal = jnp.einsum("bni,bnj->bij", weighted, jacobian)
  right = jnp.einsum("bni,bn->bi", weighted, residual)
  diagonal = jnp.diagonal(normal, axis1=-2, axis2=-1)
  largest = jnp.max(diagonal, axis=-1, keepdims=True)
  extra = damping * diagonal + 1e-9 * largest + jnp.where(largest > 0, 0.0, 1.0)
  lifted = normal + extra[..., None] * jnp.eye(normal.shape[-1], dtype=normal.dtype)[None]
  return jnp.linalg.solve(lifted, right[..., None])[..., 0]


def twist_of_flow(
  flow: Float[Array, "B H W 2"],
  jacobian: Float[Array, "B H W 2 6"],
  weight: Float[Array, "B H W"],
  damping: float = 1e-3,
) -> Float[Array, "B 6"]:
  """Returns the twist (v, w) of `T_source_target` that explains a flow to first order.

  Args:
    flow: Displacement (x, y) in pixels from each pixel of the target to the source.
    jacobian: `flow_jacobian` at the pixel centres of the target; the scale of its inverse depth sets
      that of v.
    weight: Of each pixel, 0 or more.
    damping: Share by which the diagonal of the normal equations is increased.
  """
  batch = len(flow)
  weights = jnp.repeat(weight.reshape(batch, -1), 2, axis=1)
  return solve(jacobian.reshape(batch, -1, 6), flow.reshape(batch, -1), weights, damping)


def twist_of_matches(
  matched: Float[Array, "B H W 3"],
  inverse_depth: Float[Array, "B H W"],
  weight: Float[Array, "B H W"],
  intrinsics: Float[Array, "B 4"],
) -> Float[Array, "B 6"]:
  """Returns the twist that fits matched motion, in two rounds of reweighted least squares.

  Args:
    matched: From `nn.local_motion`: flow (x, y) to the source, and its residual.
    inverse_depth: Of the target; its scale sets that of v.
    weight: Of each pixel, 0 or more.
    intrinsics: (fx, fy, cx, cy) in pixels.
  """
  flow = matched[..., :2]
  trust = weight / (1 + jnp.square(matched[..., 2] / _RESIDUAL))
  centres = cameras.pixel_centres(flow.shape[1], flow.shape[2], flow.dtype)
  jacobian = flow_jacobian(jnp.broadcast_to(centres, flow.shape), inverse_depth, intrinsics)
  twist = twist_of_flow(flow, jacobian, trust)
  off = flow - jnp.einsum("bhwxk,bk->bhwx", jacobian, twist)
  far = jnp.sum(jnp.square(off), axis=-1) / _OFF_PX**2
  return twist_of_flow(flow, jacobian, trust / jnp.square(1 + far))


# --- direct alignment -----------------------------------------------------------------------------


class View(NamedTuple):
  """A target with depth, a source, and their camera, at one level of a pyramid.

  Attributes:
    target: Image in [0, 1].
    source: Image of the other camera.
    depth: Of the target, metres.
    intrinsics: (fx, fy, cx, cy) in pixels of this level.
  """

  target: Float[Array, "B H W C"]
  source: Float[Array, "B H W C"]
  depth: Float[Array, "B H W"]
  intrinsics: Float[Array, "B 4"]


def direct(
  view: View,
  start: Float[Array, "B 4 4"] | None = None,
  *,
  estimator: str = "tukey",
  levels: int = 3,
  steps: int = 8,
  damping: float = 1e-4,
) -> Float[Array, "B 4 4"]:
  """Returns `T_source_target` that aligns two images, by Gauss-Newton from coarse to fine.

  Args:
    view: The pair at full resolution.
    start: Pose from which it starts; None is no motion.
    estimator: A name of `estimators.ESTIMATORS`; the scale of the residuals is `mad_scale` of each
      pair, in every step.
    levels: Of the pyramid, each of half the size; sizes that cannot be halved get fewer.
    steps: Per level.
    damping: As in `solve`.

  Raises:
    ValueError: The estimator is unknown.
  """
  estimators.get(estimator)
  batch = view.depth.shape[0]
  pose = jnp.broadcast_to(jnp.eye(4, dtype=view.depth.dtype), (batch, 4, 4))
  pose = pose if start is None else start
  for level in reversed(pyramid(view, levels)):
    step = lambda p, _, level=level: (_step(level, p, estimator, damping), None)  # noqa: E731
    pose, _ = jax.lax.scan(step, pose, None, length=steps)
  return pose


def pyramid(view: View, levels: int) -> Sequence[View]:
  """Returns the views from full resolution to the coarsest; means of 2×2 pixels, of depth of the known ones."""
  found = [view]
  while len(found) < levels and not any(size % 2 for size in found[-1].depth.shape[1:]):
    last = found[-1]
    target, source = _halve(last.target), _halve(last.source)
    known = (last.depth > cameras.MIN_DEPTH).astype(last.depth.dtype)
    share = _halve(known[..., None])[..., 0]
    total = _halve((known * last.depth)[..., None])[..., 0]
    depth = jnp.where(share > 0, total / jnp.where(share > 0, share, 1.0), 0.0)
    found.append(View(target, source, depth, last.intrinsics / 2))
  return found


def residual(
  view: View, pose: Float[Array, "B 4 4"]
) -> tuple[Float[Array, "B H W C"], Bool[Array, "B H W"], warps.Landing]:
  """Returns warped source minus target, a mask of pixels inside the source, and the positions."""
  warped, landing = warps.warp_rigid(view.source, view.depth, pose, view.intrinsics, "edge")
  return warped - view.target, landing.inside, landing


def linearised(
  view: View, pose: Float[Array, "B 4 4"]
) -> tuple[Float[Array, "B H W C 6"], Float[Array, "B H W C"], Bool[Array, "B H W"]]:
  """Returns the derivative of `residual` by a twist of the source's frame, the residual and its mask."""
  error, inside, landing = residual(view, pose)
  slope = warps.sample(_slopes(view.source), landing.xy)
  slope = slope.reshape(*error.shape, 2)
  inverse = 1 / jnp.where(landing.valid, landing.z, 1.0)
  moving = flow_jacobian(landing.xy, inverse, view.intrinsics)
  return jnp.einsum("bhwcx,bhwxk->bhwck", slope, moving), error, inside


def _step(view: View, pose: Array, estimator: str, damping: float) -> Array:
  jacobian, error, inside = linearised(view, pose)
  batch, channels = error.shape[0], error.shape[-1]
  flat = error.reshape(batch, -1)
  known = jnp.repeat(inside.reshape(batch, -1), channels, axis=1)
  weight = jnp.where(known, _weights(flat, known, estimator), 0.0)
  twist = solve(jacobian.reshape(batch, -1, 6), flat, weight, damping)
  return lie.se3_exp(-twist) @ pose


def _weights(error: Array, known: Array, estimator: str) -> Array:
  """Returns the robust weight of each residual, `[B, N]`."""
  chosen = estimators.get(estimator)
  size = jnp.where(known, jnp.abs(error), jnp.nan)
  scale = 1.4826 * jnp.nanmedian(size, axis=1, keepdims=True)
  scale = jax.lax.stop_gradient(jnp.where(scale > 1e-4, scale, 1e-4))
  ratio = error / scale
  return chosen.weight(ratio, jnp.full_like(ratio, chosen.scale))


def _halve(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
  batch, height, width, channels = x.shape
  return jnp.mean(x.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))


def _slopes(image: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
  """Returns central differences (x, y) of each channel; edges repeat."""
  padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
  along_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
  along_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
  return jnp.stack([along_x, along_y], axis=-1).reshape(*image.shape[:3], -1)
