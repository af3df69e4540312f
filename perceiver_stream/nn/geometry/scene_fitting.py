"""Depth and camera motion of one short video, by gradient descent on its photometric error.

No network: every frame has a grid of inverse depths, every step a twist. Each frame is synthesised
from its neighbours through the geometry layers; the error is the minimum over neighbours. The scale
of a monocular video is free: the mean logarithm of depth is kept near 0.

Source: the losses of monodepth2 (1806.01260); the parameters are ours.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

from perceiver_stream.nn.geometry import cameras, lie, photometric, warps
from perceiver_stream.types import Positive, Size
from perceiver_stream.utils.poses import chained

MIN_FRAMES = 3


@dataclass(kw_only=True)
class Config:
  """Settings of a fit.

  Attributes:
    cell: Side in pixels of a cell of the grid of inverse depths, which is read bilinearly.
    steps: Of Adam.
    depth_rate: Its rate for the logarithms of inverse depth.
    motion_rate: Its rate for twists.
    smoothness: Weight of the edge-aware smoothness of inverse depth.
    scale_weight: Weight of the squared mean of the logarithms.
  """

  cell: Size = 4
  steps: Size = 150
  depth_rate: Positive = 0.03
  motion_rate: Positive = 0.002
  smoothness: float = 0.02
  scale_weight: float = 0.1


class Fitted(NamedTuple):
  """Depth and motion of a video.

  Attributes:
    depth: In units of the video's own scale.
    poses: Camera to world; the first camera is the world.
    errors: The photometric error at each step.
  """

  depth: Float[np.ndarray, "T H W"]
  poses: Float[np.ndarray, "T 4 4"]
  errors: Float[np.ndarray, " S"]


class _Parameters(NamedTuple):
  """Logarithms of inverse depth on a grid, and twists of `T_before_frame` in units of a step."""

  log_inverse: Float[Array, "T h w"]
  twists: Float[Array, "t 6"]


def fit(
  frames: UInt8[np.ndarray, "T H W 3"],
  intrinsics: Float[np.ndarray, " 4"],
  config: Config | None = None,
) -> Fitted:
  """Returns depth and camera motion of a video of a static scene.

  Args:
    frames: RGB, at least three; neighbours should differ by a few pixels at most.
    intrinsics: (fx, fy, cx, cy) in pixels, centres at halves.
    config: Settings.

  Raises:
    ValueError: There are fewer than three frames.
  """
  c = config or Config()
  count, height, width = frames.shape[:3]
  if count < MIN_FRAMES:
    raise ValueError(f"scene_fitting: {count} frames; a fit needs at least {MIN_FRAMES}.")
  images = jnp.asarray(frames, jnp.float32) / 255
  camera = jnp.broadcast_to(jnp.asarray(intrinsics, jnp.float32), (count - 1, 4))
  grid = (count, -(-height // c.cell), -(-width // c.cell))
  parameters = _Parameters(jnp.zeros(grid), jnp.zeros((count - 1, 6)))
  optimizer = optax.adam(c.depth_rate)  # its steps do not depend on the scale of a parameter

  def motions_of(p: _Parameters) -> Array:
    return lie.se3_exp(c.motion_rate / c.depth_rate * p.twists)

  def objective(p: _Parameters) -> tuple[Array, Array]:
    inverse = inverse_depth(p.log_inverse, height, width, c.cell)
    error = photometric_error(images, 1 / inverse, motions_of(p), camera)
    smooth = photometric.edge_aware_smoothness(inverse, images)
    scale = jnp.square(jnp.mean(p.log_inverse))
    return error + c.smoothness * smooth + c.scale_weight * scale, error

  def step(carry: Any, _: None) -> tuple[Any, Array]:
    p, state = carry
    grads, error = jax.grad(objective, has_aux=True)(p)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes counts with rates
      updates, state = optimizer.update(grads, state, p)
    return (optax.apply_updates(p, updates), state), error

  run = jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), None, length=c.steps))
  (found, _), errors = run(parameters)
  depth = 1 / inverse_depth(found.log_inverse, height, width, c.cell)
  motions = np.asarray(motions_of(found), np.float64)
  poses = chained([np.eye(4), *motions])
  return Fitted(np.asarray(depth), poses, np.asarray(errors))


def inverse_depth(
  log_inverse: Float[Array, "T h w"], height: int, width: int, cell: int
) -> Float[Array, "T H W"]:
  """Returns inverse depth of every pixel, read bilinearly from the grid's cells."""
  centres = cameras.pixel_centres(height, width) / cell
  xy = jnp.broadcast_to(centres, (log_inverse.shape[0], *centres.shape))
  return jnp.exp(warps.sample(log_inverse[..., None], xy, "edge")[..., 0])


def photometric_error(
  images: Float[Array, "T H W 3"],
  depth: Float[Array, "T H W"],
  motions: Float[Array, "t 4 4"],
  camera: Float[Array, "t 4"],
) -> Float[Array, ""]:
  """Returns the mean error of all frames, each pixel from the neighbour that explains it best.

  Args:
    images: RGB in [0, 1].
    depth: Of each frame.
    motions: `T_before_frame` of all frames but the first.
    camera: Intrinsics of each of these.
  """
  back, ahead = motions, lie.se3_inverse(motions)
  sides = []
  for source, target, z, pose in (
    (images[:-1], images[1:], depth[1:], back),
    (images[1:], images[:-1], depth[:-1], ahead),
  ):
    warped, landing = warps.warp_rigid(source, z, pose, camera, "edge")
    error = photometric.photometric(warped, target)
    sides.append(jnp.where(landing.inside, error, 1.0))  # 1 is more than any other error
  nothing = jnp.ones_like(sides[0][:1])
  from_before = jnp.concatenate([nothing, sides[0]])
  from_after = jnp.concatenate([sides[1], nothing])
  best = jnp.minimum(from_before, from_after)
  counted = best < 1
  total = jnp.sum(jnp.where(counted, best, 0.0))
  return total / jnp.maximum(jnp.sum(counted.astype(jnp.float32)), 1.0)
