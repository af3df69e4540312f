"""Depth of a static scene from a moving camera, gathered from tick to tick; no parameters.

Every tick the inverse depth of the last image is carried to the new one along the matched motion. The
motion of the camera is fitted to the matched motion for this depth, and refined by aligning the new
image with earlier ones, one, three and six ticks ago. Then the inverse depth takes one weighted
least-squares step that makes the earlier images agree with the new one. Weights add up while a surface
stays in view; where the images show little, depth is that of the surroundings. The scale is that of the
start, and drifts slowly.

Source: after the depth filter of semi-dense odometry (Engel et al. 2013, "Semi-Dense Visual Odometry
for a Monocular Camera") and direct alignment (Kerl et al. 2013). Differs: all pixels, no search along
epipolar lines, and several earlier images instead of a keyframe.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.nn.geometry import alignment, cameras, lie, warps
from perceiver_stream.nn.motion import box_filter, is_unexplained
from perceiver_stream.nn.rows import where_rows

AGES = (1, 3, 6)  # in ticks, of the images that an image is compared with
_NOISE = 0.05  # of grey levels in [0, 1], for weights
_OUTLIER = 0.1  # difference of warped images in [0, 1], from which on a pixel counts less
_ALIGNMENTS = 2  # Gauss-Newton steps of the motion
_DAMPING = 1e-4  # of them
_DECAY = 0.95  # of weights, per tick
_START_WEIGHT = 0.3  # of the start's inverse depth, per tick
_AROUND_WEIGHT = 5.0  # of the mean inverse depth around a pixel, per tick
_NARROW_PX, _WIDE_PX = 5, 11  # sides of the neighbourhoods
_STEP = 0.3  # largest change of an inverse depth in a tick, as a share
_NEAREST_M = 0.05  # after a motion


class Depths(NamedTuple):
  """Range of depths, in the unit of the path; `start` is that of every pixel before any motion."""

  nearest: float
  start: float
  farthest: float


class Filtered(NamedTuple):
  """Result of a tick, with a leading T.

  Attributes:
    inverse_depth: Of every pixel.
    weight: Inverse variance of each inverse depth, 0 or more.
    motion: `T_previous_newest`; the identity where there is no image before or no new one.
  """

  inverse_depth: Float[Array, "T B H W"]
  weight: Float[Array, "T B H W"]
  motion: Float[Array, "T B 4 4"]


class Memory(NamedTuple):
  """State of the filter, rows first.

  Attributes:
    inverse_depth: Of the newest image.
    weight: Inverse variance of each inverse depth, 0 or more.
    frames: The newest images, newest first, as many as the largest of `AGES`.
    path: `T_frame_newest` of each of them.
    count: Images since the start; 0 is none.
  """

  inverse_depth: Float[Array, "B H W"]
  weight: Float[Array, "B H W"]
  frames: Float[Array, "B K H W 3"]
  path: Float[Array, "B K 4 4"]
  count: Int[Array, " B"]


class Tick(NamedTuple):
  """Input of a tick, or with a leading T.

  Attributes:
    frame: RGB in [0, 1].
    matched: From `nn.local_motion`: flow (x, y) to the frame before, and its residual.
    starts: Another recording begins. An image that the matched motion does not explain starts too.
    valid: There is a new frame; the memory does not change without.
  """

  frame: Float[Array, "*T B H W 3"]
  matched: Float[Array, "*T B H W 3"]
  starts: Bool[Array, "*T B"]
  valid: Bool[Array, "*T B"]


def initial(rows: int, height: int, width: int, depths: Depths) -> Memory:
  """Returns the memory before the first image."""
  shape, kept = (rows, height, width), max(AGES)
  return Memory(
    jnp.full(shape, 1 / depths.start, jnp.float32),
    jnp.zeros(shape),
    jnp.zeros((rows, kept, height, width, 3)),
    jnp.broadcast_to(jnp.eye(4), (rows, kept, 4, 4)),
    jnp.zeros(rows, jnp.int32),
  )


def update(
  memory: Memory, ticks: Tick, intrinsics: Float[Array, "B 4"], depths: Depths
) -> tuple[Filtered, Memory]:
  """Returns depth and motion after each of T ticks, and the memory after them.

  Args:
    memory: Before the ticks.
    ticks: Inputs with a leading T.
    intrinsics: (fx, fy, cx, cy) in pixels.
    depths: Range of depths.
  """

  def step(memory: Memory, tick: Tick) -> tuple[Memory, Filtered]:
    starts = tick.starts | (tick.valid & _is_cut(memory, tick))
    rows, height, width = tick.frame.shape[:3]
    memory = _choose(starts, initial(rows, height, width, depths), memory)
    after, motion = _advance(_started(memory, tick, depths), tick, intrinsics, depths)
    moves = tick.valid & (memory.count > 0)
    motion = where_rows(moves, motion, jnp.broadcast_to(jnp.eye(4), motion.shape))
    after = _choose(tick.valid, after, memory)
    return after, Filtered(after.inverse_depth, after.weight, motion)

  after, found = jax.lax.scan(step, memory, ticks)
  return found, after


def _is_cut(memory: Memory, tick: Tick) -> Bool[Array, " B"]:
  """Returns the rows in which the newest image and the matched motion do not make the new one.

  The motion may be matched to another image: a model that begins anew at a cut matches none.
  """
  return is_unexplained(memory.frames[:, 0], tick.frame, tick.matched[..., :2])


def _choose(rows: Bool[Array, " B"], one: Memory, other: Memory) -> Memory:
  return jax.tree.map(lambda a, b: where_rows(rows, a, b), one, other)


def _started(memory: Memory, tick: Tick, depths: Depths) -> Memory:
  """Returns the memory; that of rows without an image holds the new one, at the start's depth."""
  rows, height, width = tick.frame.shape[:3]
  begun = initial(rows, height, width, depths)
  begun = begun._replace(frames=jnp.broadcast_to(tick.frame[:, None], begun.frames.shape))
  return _choose(memory.count == 0, begun, memory)


def _advance(
  memory: Memory, tick: Tick, intrinsics: Float[Array, "B 4"], depths: Depths
) -> tuple[Memory, Float[Array, "B 4 4"]]:
  inverse, weight = _carried(memory, tick.matched[..., :2], depths)
  twist = alignment.twist_of_matches(tick.matched, inverse, jnp.ones_like(inverse), intrinsics)
  inverse = _clip(_transformed(inverse, twist, intrinsics), depths)
  view = _against(memory, tick.frame, inverse, intrinsics)
  motion = _aligned(view, memory.path, lie.se3_exp(twist))
  path = memory.path @ motion[:, None]
  slope, square = _compared(view, path)
  total = _DECAY * weight + square
  change = jnp.clip(slope / (total + 1e-9), -_STEP * inverse, _STEP * inverse)
  inverse = _clip(inverse + change, depths)
  started = total * inverse + _START_WEIGHT / depths.start
  sums = jnp.stack([started, total + _START_WEIGHT], axis=-1)
  narrow, wide = (box_filter(sums, size) for size in (_NARROW_PX, _WIDE_PX))
  smooth = (sums + narrow) / 2 + _AROUND_WEIGHT * wide / wide[..., 1:]
  after = Memory(
    _clip(smooth[..., 0] / smooth[..., 1], depths),
    smooth[..., 1],
    jnp.concatenate([tick.frame[:, None], memory.frames[:, :-1]], axis=1),
    jnp.concatenate([jnp.broadcast_to(jnp.eye(4), path[:, :1].shape), path[:, :-1]], axis=1),
    memory.count + 1,
  )
  return after, motion


def _clip(inverse: Array, depths: Depths) -> Array:
  return jnp.clip(inverse, 1 / depths.farthest, 1 / depths.nearest)


def _carried(
  memory: Memory, flow: Float[Array, "B H W 2"], depths: Depths
) -> tuple[Float[Array, "B H W"], Float[Array, "B H W"]]:
  """Returns inverse depth and weights read where pixels were; no weight where that is outside."""
  height, width = flow.shape[1:3]
  at = flow + jnp.broadcast_to(cameras.pixel_centres(height, width), flow.shape)
  sums = jnp.stack([memory.weight * memory.inverse_depth, memory.weight], axis=-1)
  scaled, weight = jnp.moveaxis(warps.sample(sums, at), -1, 0)
  x, y = at[..., 0], at[..., 1]
  inside = (x >= 0.5) & (x <= width - 0.5) & (y >= 0.5) & (y <= height - 0.5) & (weight > 0)
  inverse = scaled / jnp.where(weight > 0, weight, 1.0)
  inverse = jnp.where(weight > 0, inverse, 1 / depths.start)
  return inverse, jnp.where(inside, weight, 0.0)


def _transformed(
  inverse: Float[Array, "B H W"], twist: Float[Array, "B 6"], intrinsics: Float[Array, "B 4"]
) -> Float[Array, "B H W"]:
  """Returns the inverse depth in the new camera of what had this one in the camera before."""
  fx, fy, cx, cy = (intrinsics[:, None, None, i] for i in range(4))
  centres = cameras.pixel_centres(inverse.shape[1], inverse.shape[2])
  a, b = (centres[None, ..., 0] - cx) / fx, (centres[None, ..., 1] - cy) / fy
  v, w = twist[:, None, None, :3], twist[:, None, None, 3:]
  # To first order z_before = z (1 + w_x b - w_y a) + v_z.
  return (1 + w[..., 0] * b - w[..., 1] * a) / jnp.maximum(1 / inverse - v[..., 2], _NEAREST_M)


def _of_ages(kept: Array) -> Array:
  """Returns the entries of `AGES`, side by side as rows (ages first), from those of all ages."""
  return jnp.swapaxes(kept[:, np.asarray(AGES) - 1], 0, 1).reshape(-1, *kept.shape[2:])


def _against(
  memory: Memory,
  frame: Float[Array, "B H W 3"],
  inverse: Float[Array, "B H W"],
  intrinsics: Float[Array, "B 4"],
) -> alignment.View:
  """Returns the pairs of the frame and each kept image, side by side as rows."""
  target, depth, camera = (
    jnp.concatenate([x] * len(AGES)) for x in (frame, 1 / inverse, intrinsics)
  )
  return alignment.View(target, _of_ages(memory.frames), depth, camera)


def _aligned(
  view: alignment.View, path: Float[Array, "B K 4 4"], motion: Float[Array, "B 4 4"]
) -> Float[Array, "B 4 4"]:
  """Returns the motion that aligns the frame with all kept images, for a known depth."""
  kept, rows = _of_ages(path), len(motion)
  adjoint = lie.se3_adjoint(kept)

  def join(x: Float[Array, "N H W C *k"]) -> Float[Array, "B M *k"]:
    """Returns the equations of all ages as one system for each row."""
    apart = x.reshape(len(AGES), rows, -1, *x.shape[4:])
    return jnp.swapaxes(apart, 0, 1).reshape(rows, -1, *x.shape[4:])

  def step(motion: Array, _: None) -> tuple[Array, None]:
    pose = kept @ jnp.concatenate([motion] * len(AGES))
    jacobian, error, inside = alignment.linearised(view, pose)
    # From a twist of the kept camera's frame to one of the last camera's.
    jacobian = jnp.einsum("bhwck,bkl->bhwcl", jacobian, adjoint)
    trust = 1 / jnp.square(1 + jnp.square(error / _OUTLIER))
    trust = jnp.where(inside[..., None], trust, 0.0)
    twist = alignment.solve(join(jacobian), join(error), join(trust), _DAMPING)
    return lie.se3_exp(-twist) @ motion, None

  return jax.lax.scan(step, motion, None, length=_ALIGNMENTS)[0]


def _compared(
  view: alignment.View, path: Float[Array, "B K 4 4"]
) -> tuple[Float[Array, "B H W"], Float[Array, "B H W"]]:
  """Returns right side and diagonal of the least squares for a change of each inverse depth."""

  def warp(inverse: Array) -> tuple[Array, warps.Landing]:
    return warps.warp_rigid(view.source, 1 / inverse, _of_ages(path), view.intrinsics, "edge")

  inverse = 1 / view.depth
  made, slope, landing = jax.jvp(warp, (inverse,), (jnp.ones_like(inverse),), has_aux=True)
  error = view.target - made
  square = box_filter(jnp.mean(jnp.square(error), axis=-1, keepdims=True), 3)[..., 0]
  trust = jnp.where(landing.inside, 1 / jnp.square(1 + square / _OUTLIER**2), 0.0)
  sums = jnp.stack([jnp.sum(slope * x, axis=-1) * trust for x in (error, slope)], axis=-1)
  total = sums.reshape(len(AGES), -1, *sums.shape[1:]).sum(axis=0)
  right, diagonal = jnp.moveaxis(box_filter(total, 3) / _NOISE**2, -1, 0)
  return right, diagonal
