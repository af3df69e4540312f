"""Inverse warps: sampling a source image where pixels of the target project to.

An invalid pixel (`depth`, or z in the source, at or below `cameras.MIN_DEPTH`) maps to its own
centre: flow 0, warped value 0, no gradient.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn.geometry import cameras, lie


def sample(
  pictures: Float[Array, "B H W C"], xy: Float[Array, "B *k 2"], border: str = "edge"
) -> Float[Array, "B *k C"]:
  """Returns images sampled bilinearly at (x, y) in pixels, centres at halves.

  Args:
    pictures: The images; gradients flow to them and to `xy`.
    xy: Positions; they may lie outside the image.
    border: "zeros": each of the four taps counts only if it lies in the image, so values fade out
      within half a pixel (gvnn). "edge": the border repeats, with zero gradient beyond it.

  Raises:
    ValueError: `border` is neither.
  """
  if border not in ("zeros", "edge"):
    raise ValueError(f"sample: border='{border}' is not one of ['edge', 'zeros'].")
  height, width, channels = pictures.shape[1:]
  places = xy.reshape(xy.shape[0], -1, 2) - 0.5
  if border == "edge":
    limit = jnp.broadcast_to(jnp.asarray([width - 1, height - 1], xy.dtype), places.shape)
    places = jnp.clip(places, 0, limit)
  # Far positions read zeros; clipping them keeps the conversion to integers defined.
  places = jnp.clip(places, -4.0, max(height, width) + 4.0)
  low = jax.lax.stop_gradient(jnp.floor(places))
  part = places - low
  flat = pictures.reshape(pictures.shape[0], -1, channels)
  total = jnp.zeros((*places.shape[:2], channels), pictures.dtype)
  for right in (0, 1):
    for below in (0, 1):
      x, y = low[..., 0].astype(jnp.int32) + right, low[..., 1].astype(jnp.int32) + below
      inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
      index = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
      tap = jnp.take_along_axis(flat, index[..., None], axis=1)
      weight_x = part[..., 0] if right else 1 - part[..., 0]
      weight_y = part[..., 1] if below else 1 - part[..., 1]
      weight = jnp.where(inside, weight_x * weight_y, 0.0)
      total = total + weight[..., None] * tap
  return total.reshape(*xy.shape[:-1], channels)


class Landing(NamedTuple):
  """The positions in the source image that correspond to pixels of the target.

  Attributes:
    xy: Position in pixels of the source.
    z: Depth in the source camera; 0 if invalid.
    valid: Both depths are above `cameras.MIN_DEPTH`.
    inside: Valid, and between the outermost pixel centres of the source.
  """

  xy: Float[Array, "B H W 2"]
  z: Float[Array, "B H W"]
  valid: Bool[Array, "B H W"]
  inside: Bool[Array, "B H W"]


def rigid(
  depth: Float[Array, "B H W"], pose: Float[Array, "B 4 4"], intrinsics: Float[Array, "B 4"]
) -> Landing:
  """Returns the positions of a target's pixels in a source image of the same static scene.

  Args:
    depth: Depth of the target in metres.
    pose: `T_source_target`.
    intrinsics: Intrinsics of both cameras.
  """
  batch, height, width = depth.shape
  known = depth > cameras.MIN_DEPTH
  points = cameras.backproject(jnp.where(known, depth, 1.0), intrinsics)
  moved = lie.transform(pose, points.reshape(batch, -1, 3)).reshape(points.shape)
  xy, in_front = cameras.project(moved, intrinsics)
  valid = known & in_front
  own = jnp.broadcast_to(cameras.pixel_centres(height, width, depth.dtype), xy.shape)
  # Rounding errors are removed, so that a camera at rest samples the image bit for bit.
  rounding = jax.lax.stop_gradient(cameras.project(points, intrinsics)[0] - own)
  xy = jnp.where(valid[..., None], xy - rounding, own)
  x, y = xy[..., 0], xy[..., 1]
  within = (x >= 0.5) & (x <= width - 0.5) & (y >= 0.5) & (y <= height - 0.5)
  return Landing(xy, jnp.where(valid, moved[..., 2], 0.0), valid, valid & within)


def rigid_flow(
  depth: Float[Array, "B H W"], pose: Float[Array, "B 4 4"], intrinsics: Float[Array, "B 4"]
) -> Float[Array, "B H W 2"]:
  """Returns the optical flow in pixels that a camera motion causes."""
  xy = rigid(depth, pose, intrinsics).xy
  own = cameras.pixel_centres(depth.shape[1], depth.shape[2], depth.dtype)
  return xy - jnp.broadcast_to(own, xy.shape)


def warp_rigid(
  source: Float[Array, "B H W C"],
  depth: Float[Array, "B H W"],
  pose: Float[Array, "B 4 4"],
  intrinsics: Float[Array, "B 4"],
  border: str = "zeros",
) -> tuple[Float[Array, "B H W C"], Landing]:
  """Returns the target synthesised from the source image, and the sampled positions."""
  landing = rigid(depth, pose, intrinsics)
  read = sample(source, landing.xy, border)
  return jnp.where(landing.valid[..., None], read, 0.0), landing


def warp_flow(
  source: Float[Array, "B H W C"], flow: Float[Array, "B H W 2"], border: str = "edge"
) -> Float[Array, "B H W C"]:
  """Returns the source read at each pixel plus its flow (x, y) in pixels."""
  own = cameras.pixel_centres(flow.shape[1], flow.shape[2], flow.dtype)
  return sample(source, jnp.broadcast_to(own, flow.shape) + flow, border)


# --- gvnn's parametric flows ----------------------------------------------------------------------
# In its coordinates -1 and 1 are the centres of the first and the last pixel; `to_pixels` converts.


def normalised_grid(height: int, width: int, dtype: DTypeLike = jnp.float32) -> Array:
  """Returns (x, y) of every pixel centre in gvnn's coordinates, `[H, W, 2]`."""
  x, y = jnp.linspace(-1, 1, width, dtype=dtype), jnp.linspace(-1, 1, height, dtype=dtype)
  return jnp.stack(jnp.meshgrid(x, y), axis=-1)


def to_pixels(grid: Float[Array, "*n H W 2"]) -> Float[Array, "*n H W 2"]:
  """Returns pixels (x, y) from gvnn's coordinates."""
  height, width = grid.shape[-3:-1]
  last = jnp.broadcast_to(jnp.asarray([width - 1, height - 1], grid.dtype), grid.shape)
  return (grid + 1) / 2 * last + 0.5


def _grid_of(params: Array) -> tuple[Array, Array]:
  grid = normalised_grid(params.shape[1], params.shape[2], params.dtype)
  grid = jnp.broadcast_to(grid, (*params.shape[:3], 2))
  return grid[..., 0], grid[..., 1]


def affine_grid(params: Float[Array, "B H W 6"]) -> Float[Array, "B H W 2"]:
  """Returns (a0 x + a1 y + a2, a3 x + a4 y + a5): absolute positions, not offsets."""
  x, y = _grid_of(params)
  a = [params[..., i] for i in range(6)]
  return jnp.stack([a[0] * x + a[1] * y + a[2], a[3] * x + a[4] * y + a[5]], axis=-1)


def se2_grid(params: Float[Array, "B H W 3"]) -> Float[Array, "B H W 2"]:
  """Returns the grid rotated by theta and shifted by (tx, ty), all per pixel."""
  x, y = _grid_of(params)
  cos, sin = jnp.cos(params[..., 0]), jnp.sin(params[..., 0])
  turned = jnp.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
  return turned + params[..., 1:]


def disparity_grid(disparity: Float[Array, "B H W 1"]) -> Float[Array, "B H W 2"]:
  """Returns (x + d, y)."""
  x, y = _grid_of(disparity)
  return jnp.stack([x + disparity[..., 0], y], axis=-1)


def slanted_plane_disparity(params: Float[Array, "B H W 3"]) -> Float[Array, "B H W"]:
  """Returns the disparity p0 x + p1 y + p2 of a plane per pixel.

  gvnn's code (missing in its list of layers) multiplies p0 by the rows: exchange p0 and p1.
  """
  x, y = _grid_of(params)
  return params[..., 0] * x + params[..., 1] * y + params[..., 2]


def slanted_plane_grid(params: Float[Array, "B H W 3"]) -> Float[Array, "B H W 2"]:
  """Returns (x + disparity of the plane, y)."""
  return disparity_grid(slanted_plane_disparity(params)[..., None])


def move_points(
  points: Float[Array, "B H W 3"], twists: Float[Array, "B H W 6"]
) -> Float[Array, "B H W 3"]:
  """Returns each point moved by the exponential of its own twist (v, w)."""
  return lie.transform(lie.se3_exp(twists), points[..., None, :])[..., 0, :]


def move_points_rt(
  points: Float[Array, "B H W 3"], twists: Float[Array, "B H W 6"]
) -> Float[Array, "B H W 3"]:
  """Returns R(w) p + v, as gvnn's per-pixel layer has it (without V(w))."""
  return lie.transform(lie.rotation_translation(twists), points[..., None, :])[..., 0, :]
