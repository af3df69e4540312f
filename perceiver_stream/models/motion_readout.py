"""Depth and camera motion read out of a model's states, their frames, and a filter of depth.

A filter without parameters (`nn.geometry.depth_filter`) gathers inverse depth over the ticks of a
recording and aligns the images for it. A small U-shaped net of convolutions reads the newest frame,
its matched motion, the filter's depth and the latents, and gives a change of that depth and a weight for
every pixel. The motion of the camera since the tick before is the filter's, plus what the changed depth
and the weights change in a least-squares fit to the matched motion (`nn.geometry.alignment`), plus a
correction that starts at zero. So the untrained read-out already is an odometer, in any room; training
gives what single images show of depth, trust in pixels, and what the filter misses. No label is needed;
the scale is that of `start_m`.

Source: depth and pose heads after SfMLearner and monodepth2 (six numbers times 0.01, sigmoid of an
inverse depth); the filter and the fit in place of a regressed pose are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models.point_readout import Features
from perceiver_stream.nn import (
  CrossBlock,
  LayerNorm,
  Linear,
  coordinates,
  fourier_linear,
  gelu,
  local_motion,
  patchify,
  repeat_2d,
  repeat_rows,
)
from perceiver_stream.nn.conv import Conv2D
from perceiver_stream.nn.geometry import alignment, depth_filter, lie
from perceiver_stream.nn.geometry.depth_filter import Depths, Filtered, Memory, Tick
from perceiver_stream.types import Size

_LOG_TRUST = 6.0  # logarithm of the filter's weight where inverse depth is known to 0.05
_LEAST_SHARE = 0.01  # of the range of inverse depths, from its ends
_SMALL = 0.01  # of the output of the pose head, as SfMLearner


@dataclass(kw_only=True)
class Config:
  """Sizes of the read-out, and the camera.

  Attributes:
    dim: Channels at the coarsest of three levels, an eighth of the image; half of it above.
    num_heads: Attention heads between cells and latents.
    use_latents: Read the latents. If False, frame, matched motion and the filter's depth are the only inputs.
    nearest_m: Depth of a disparity of 1. Without labels only ratios of the three depths matter.
    farthest_m: Depth of a disparity of 0.
    start_m: Depth of every pixel before there is motion.
    field_of_view_deg: Of the camera, from the left edge of the image to the right; pixels are square.
    learn_intrinsics: Learn the focal lengths and the principal point, starting from that camera.
  """

  dim: Size = 64
  num_heads: Size = 4
  use_latents: bool = True
  nearest_m: float = 0.4
  farthest_m: float = 12.0
  start_m: float = 2.5
  field_of_view_deg: float = 75.0
  learn_intrinsics: bool = False

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.dim % (2 * self.num_heads):
      raise ValueError(
        f"motion read-out: dim={self.dim} is not a multiple of twice num_heads={self.num_heads}; "
        "change one."
      )
    if not 0 < self.nearest_m < self.start_m < self.farthest_m:
      raise ValueError(
        f"motion read-out: nearest_m={self.nearest_m}, start_m={self.start_m} and farthest_m="
        f"{self.farthest_m} must be above 0 and in this order."
      )
    if not 1 <= self.field_of_view_deg <= 170:
      raise ValueError(
        f"motion read-out: field_of_view_deg={self.field_of_view_deg}; use 1 to 170 degrees."
      )


class Motion(NamedTuple):
  """Depth and motion of a tick, or with a leading T.

  Attributes:
    inverse_depth: 1 / depth of every pixel of the newest frame.
    weight: Of every pixel in the fit of the motion, in [0, 1].
    twist: (v, w) of the motion that maps points of the newest camera to the one before it.
    intrinsics: (fx, fy, cx, cy) in pixels.
  """

  inverse_depth: Float[Array, "*T B H W"]
  weight: Float[Array, "*T B H W"]
  twist: Float[Array, "*T B 6"]
  intrinsics: Float[Array, "*T B 4"]

  @property
  def pose(self) -> Float[Array, "*T B 4 4"]:
    """`T_previous_newest`."""
    return lie.se3_exp(self.twist)


class Odometer(NamedTuple):
  """The read-out as pure, jitted functions.

  Attributes:
    init: `(rng, features) -> params`; `features` without T.
    read: `(params, features, starts, valid, memory) -> (Motion, memory)`; features, `starts` (another
      recording begins) and `valid` (there is a new frame) have leading T and B, so has the result.
    initial_state: `(rows, height, width) -> memory` before the first frame.
    config: Config from which it was built.
  """

  init: Callable[..., PyTree]
  read: Callable[..., tuple[Motion, Memory]]
  initial_state: Callable[[int, int, int], Memory]
  config: Config


def build(config: Config) -> Odometer:
  """Returns the read-out that `config` describes; raises ValueError if it contradicts itself."""
  config.validate()
  depths = Depths(config.nearest_m, config.start_m, config.farthest_m)

  def initial_state(rows: int, height: int, width: int) -> Memory:
    return depth_filter.initial(rows, height, width, depths)

  def read(features: Features, starts: Array, valid: Array, memory: Memory) -> Any:
    return MotionHead(config, depths, name="motion")(features, starts, valid, memory)

  function = hk.without_apply_rng(hk.transform(read))

  def init(rng: Array, features: Features) -> PyTree:
    once = jax.tree.map(lambda x: x[None], features)
    last = _frames(once)[0]
    flag = jnp.ones(last.shape[:2], bool)
    return function.init(rng, once, flag, flag, initial_state(*last.shape[1:4]))

  return Odometer(jax.jit(init), jax.jit(function.apply), initial_state, config)


def _frames(features: Features) -> tuple[Array, Array]:
  """Returns the newest frames and those before; raises ValueError without, or of other sizes."""
  last, previous = features.last, features.previous
  if last is None or previous is None:
    raise ValueError("motion read-out: the state of the model has no frames; use another model.")
  height, width = last.shape[-3:-1]
  if height % 8 or width % 8:
    raise ValueError(
      f"motion read-out: frames of {height}×{width}; use sides that are multiples of 8."
    )
  return last, previous


def intrinsics_of(config: Config, height: int, width: int) -> Float[np.ndarray, " 4"]:
  """Returns (fx, fy, cx, cy) in pixels of the configured camera; centres at halves."""
  focal = width / 2 / np.tan(np.radians(config.field_of_view_deg) / 2)
  return np.asarray([focal, focal, width / 2, height / 2], np.float32)


class MotionHead(hk.Module):
  """Heads of disparity and pose."""

  def __init__(self, config: Config, depths: Depths, *, name: str):
    super().__init__(name=name)
    self.config, self.depths = config, depths

  def __call__(
    self,
    features: Features,
    starts: Bool[Array, "T B"],
    valid: Bool[Array, "T B"],
    memory: Memory,
  ) -> tuple[Motion, Memory]:
    """Returns depth and motion after each tick, and the memory of the filter after them.

    Raises:
      ValueError: The state has no frames, or their sides are not multiples of 8.
    """
    last, previous = _frames(features)
    flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    matched = jax.lax.stop_gradient(local_motion(flat(previous), flat(last)))
    camera = self._camera(flat(last))
    tick = Tick(last, matched.reshape(*last.shape[:-1], 3), starts, valid)
    known = jax.lax.stop_gradient((memory, tick, camera[: last.shape[1]]))
    filtered, after = depth_filter.update(*known, self.depths)
    filtered = jax.tree.map(flat, filtered)
    motion = self._motion(flat(last), filtered, flat(features.latents), matched, camera)
    motion = jax.tree.map(lambda x: x.reshape(*last.shape[:2], *x.shape[1:]), motion)
    return motion, after

  @hk.name_like("__call__")
  def _motion(
    self,
    last: Float[Array, "N H W 3"],
    filtered: Filtered,
    latents: Float[Array, "N L D"],
    matched: Float[Array, "N H W 3"],
    camera: Float[Array, "N 4"],
  ) -> Motion:
    """Returns depth and motion of ticks side by side."""
    inverse, trust, moved = filtered
    gathered = jnp.stack([inverse * self.depths.start - 1, jnp.log1p(trust) / _LOG_TRUST], axis=-1)
    flow, rest = matched[..., :2] / 4, matched[..., 2:] * 4
    maps, summary = self._maps(
      jnp.concatenate([last - 0.5, flow, rest, gathered], axis=-1), latents
    )
    near, far = 1 / self.config.nearest_m, 1 / self.config.farthest_m
    share = jnp.clip((inverse - far) / (near - far), _LEAST_SHARE, 1 - _LEAST_SHARE)
    share = jax.nn.sigmoid(maps[..., 0] + jnp.log(share / (1 - share)))
    changed, weight = far + (near - far) * share, jax.nn.sigmoid(maps[..., 1])
    fitted = alignment.twist_of_matches(matched, changed, weight, camera)
    before = alignment.twist_of_matches(matched, inverse, jnp.ones_like(weight), camera)
    correction = Linear(6, w_init=jnp.zeros, name="pose")(summary)
    twist = lie.se3_log(moved) + fitted - before + _SMALL * correction
    return Motion(changed, weight, twist, camera)

  def _camera(self, last: Float[Array, "B H W 3"]) -> Float[Array, "B 4"]:
    base = intrinsics_of(self.config, *last.shape[1:3])
    camera = jnp.asarray(base)
    if self.config.learn_intrinsics:
      logs = hk.get_parameter("log_focal", (2,), init=jnp.zeros)
      centre = hk.get_parameter("centre", (2,), init=jnp.zeros)  # in tenths of the image
      sizes = jnp.asarray([last.shape[2], last.shape[1]], jnp.float32)
      camera = jnp.concatenate([camera[:2] * jnp.exp(logs), camera[2:] + 0.1 * sizes * centre])
    return jnp.broadcast_to(camera[None], (last.shape[0], 4))

  @hk.name_like("__call__")
  def _maps(
    self, inputs: Float[Array, "B H W C"], latents: Float[Array, "B L D"]
  ) -> tuple[Float[Array, "B H W 2"], Float[Array, "B E"]]:
    """Returns two logits per pixel, and a summary of the image."""
    dim = self.config.dim
    grid = patchify(inputs, 2)  # [B, H/2, W/2, 2, 2, C]
    x = grid.reshape(*grid.shape[:3], -1)
    fine = gelu(Conv2D(dim // 2, name="down_0")(_with_places(x)))
    middle = gelu(Conv2D(dim // 2, stride=2, name="down_1")(fine))
    coarse = gelu(Conv2D(dim, stride=2, name="down_2")(middle))
    coarse = coarse + gelu(Conv2D(dim, name="deep")(coarse))
    if self.config.use_latents:
      coarse = self._attended(coarse, latents)
    summary = LayerNorm(name="summary_norm")(jnp.mean(coarse, axis=(1, 2)))
    up = gelu(
      Conv2D(dim // 2, name="up_1")(jnp.concatenate([repeat_2d(coarse, 2), middle], axis=-1))
    )
    up = gelu(Conv2D(dim // 2, name="up_0")(jnp.concatenate([repeat_2d(up, 2), fine], axis=-1)))
    init = hk.initializers.TruncatedNormal(0.01)
    maps = Conv2D(2, w_init=init, name="maps")(up)
    shape = (*inputs.shape[:3], 2)
    return jax.image.resize(maps, shape, "bilinear"), summary

  @hk.name_like("__call__")
  def _attended(
    self, cells: Float[Array, "B h w E"], latents: Float[Array, "B L D"]
  ) -> Float[Array, "B h w E"]:
    """Returns cells that have read the latents."""
    rows, height, width, dim = cells.shape
    places = fourier_linear(coordinates((height, width)), 4, (height, width))
    query = Linear(dim, name="place")(jnp.asarray(places, jnp.float32))
    x = cells.reshape(rows, -1, dim) + repeat_rows(query, rows)
    block = CrossBlock(self.config.num_heads, qk_dim=dim, mlp_dim=2 * dim, name="latents")
    return block(x, latents).reshape(cells.shape)


def _with_places(x: Float[Array, "B h w C"]) -> Float[Array, "B h w E"]:
  """Returns maps with two more channels, the row and the column in [-1, 1]."""
  rows, columns = jnp.linspace(-1, 1, x.shape[1]), jnp.linspace(-1, 1, x.shape[2])
  places = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1).astype(x.dtype)
  return jnp.concatenate([x, jnp.broadcast_to(places[None], (*x.shape[:3], 2))], axis=-1)
