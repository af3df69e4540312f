"""Depth and camera motion read out of a model's states and their last two frames.

A small U-shaped net of convolutions reads both frames, their matched motion and the latents, and
gives inverse depth and a weight for every pixel. The motion of the camera since the tick before is
the weighted least-squares fit to the matched flow for that depth (`nn.geometry.alignment`), plus a
correction that starts at zero. So the untrained read-out already is an odometer for a scene of one
depth, in any room; training gives depth, trust in pixels, and what the fit misses. No label is
needed; the scale is that of `nearest_m` and `farthest_m`.

Source: depth and pose heads after SfMLearner and monodepth2 (two frames, six numbers times 0.01,
sigmoid of an inverse depth); the fit in place of a regressed pose is ours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

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
  repeat_rows,
)
from perceiver_stream.nn.conv import Conv2D
from perceiver_stream.nn.geometry import alignment, cameras, lie
from perceiver_stream.types import Size

_RESIDUAL = 0.04  # of matched motion, from which on a pixel counts less
_OFF_PX = 0.5  # of matched flow from the fit, from which on a pixel counts less
_SMALL = 0.01  # of the output of the pose head, as SfMLearner


@dataclass(kw_only=True)
class Config:
  """Sizes of the read-out, and the camera.

  Attributes:
    dim: Channels at the coarsest of three levels, an eighth of the image; half of it above.
    num_heads: Attention heads between cells and latents.
    use_latents: Read the latents. If False, the two frames are the only input.
    nearest_m: Depth of a disparity of 1; only its ratio to `farthest_m` means something without labels.
    farthest_m: Depth of a disparity of 0.
    start_m: Depth of every pixel before training.
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
    read: `(params, features) -> Motion`.
    config: Config from which it was built.
  """

  init: Callable[..., PyTree]
  read: Callable[..., Motion]
  config: Config


def build(config: Config) -> Odometer:
  """Returns the read-out that `config` describes; raises ValueError if it contradicts itself."""
  config.validate()
  head = lambda features: MotionHead(config, name="motion")(features)  # noqa: E731
  function = hk.without_apply_rng(hk.transform(head))
  return Odometer(jax.jit(function.init), jax.jit(function.apply), config)


def intrinsics_of(config: Config, height: int, width: int) -> Float[np.ndarray, " 4"]:
  """Returns (fx, fy, cx, cy) in pixels of the configured camera; centres at halves."""
  focal = width / 2 / np.tan(np.radians(config.field_of_view_deg) / 2)
  return np.asarray([focal, focal, width / 2, height / 2], np.float32)


class MotionHead(hk.Module):
  """Heads of disparity and pose."""

  def __init__(self, config: Config, *, name: str):
    super().__init__(name=name)
    self.config = config

  def __call__(self, features: Features) -> Motion:
    """Returns depth and motion.

    Raises:
      ValueError: The state has no frames, or their sides are not multiples of 8.
    """
    last, previous = features.last, features.previous
    if last is None or previous is None:
      raise ValueError("motion read-out: the state of the model has no frames; use another model.")
    height, width = last.shape[1:3]
    if height % 8 or width % 8:
      raise ValueError(
        f"motion read-out: frames of {height}×{width}; use sides that are multiples of 8."
      )
    matched = jax.lax.stop_gradient(local_motion(previous, last))
    maps, summary = self._maps(last, matched, features.latents)
    near, far = 1 / self.config.nearest_m, 1 / self.config.farthest_m
    share = jax.nn.sigmoid(maps[..., 0] + self._start())
    inverse_depth = far + (near - far) * share
    weight = jax.nn.sigmoid(maps[..., 1])
    camera = self._camera(last)
    fitted = fit(matched, inverse_depth, weight, camera)
    correction = Linear(6, w_init=jnp.zeros, name="pose")(summary)
    return Motion(inverse_depth, weight, fitted + _SMALL * correction, camera)

  def _start(self) -> float:
    c = self.config
    share = (1 / c.start_m - 1 / c.farthest_m) / (1 / c.nearest_m - 1 / c.farthest_m)
    return float(np.log(share / (1 - share)))

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
    self,
    last: Float[Array, "B H W 3"],
    matched: Float[Array, "B H W 3"],
    latents: Float[Array, "B L D"],
  ) -> tuple[Float[Array, "B H W 2"], Float[Array, "B E"]]:
    """Returns two logits per pixel, and a summary of the image."""
    dim = self.config.dim
    scaled = jnp.concatenate([last - 0.5, matched[..., :2] / 4, matched[..., 2:] * 4], axis=-1)
    grid = patchify(scaled, 2)  # [B, H/2, W/2, 2, 2, C]
    x = grid.reshape(*grid.shape[:3], -1)
    fine = gelu(Conv2D(dim // 2, name="down_0")(_with_places(x)))
    middle = gelu(Conv2D(dim // 2, stride=2, name="down_1")(fine))
    coarse = gelu(Conv2D(dim, stride=2, name="down_2")(middle))
    coarse = coarse + gelu(Conv2D(dim, name="deep")(coarse))
    if self.config.use_latents:
      coarse = self._attended(coarse, latents)
    summary = LayerNorm(name="summary_norm")(jnp.mean(coarse, axis=(1, 2)))
    up = gelu(Conv2D(dim // 2, name="up_1")(jnp.concatenate([_twice(coarse), middle], axis=-1)))
    up = gelu(Conv2D(dim // 2, name="up_0")(jnp.concatenate([_twice(up), fine], axis=-1)))
    init = hk.initializers.TruncatedNormal(0.01)
    maps = Conv2D(2, w_init=init, name="maps")(up)
    shape = (last.shape[0], *last.shape[1:3], 2)
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


def fit(
  matched: Float[Array, "B H W 3"],
  inverse_depth: Float[Array, "B H W"],
  weight: Float[Array, "B H W"],
  intrinsics: Float[Array, "B 4"],
) -> Float[Array, "B 6"]:
  """Returns the twist that fits matched motion, in two rounds of reweighted least squares.

  Args:
    matched: From `local_motion`: flow (x, y) to the frame before, and its residual.
    inverse_depth: Of the newest frame.
    weight: Of each pixel.
    intrinsics: (fx, fy, cx, cy) in pixels.
  """
  flow = matched[..., :2]
  trust = weight / (1 + jnp.square(matched[..., 2] / _RESIDUAL))
  twist = alignment.twist_of_flow(flow, inverse_depth, trust, intrinsics)
  centres = cameras.pixel_centres(flow.shape[1], flow.shape[2], flow.dtype)
  xy = jnp.broadcast_to(jnp.asarray(centres), flow.shape)
  jacobian = alignment.flow_jacobian(xy, inverse_depth, intrinsics)
  off = flow - jnp.einsum("bhwxk,bk->bhwx", jacobian, twist)
  far = jnp.sum(jnp.square(off), axis=-1) / _OFF_PX**2
  return alignment.twist_of_flow(flow, inverse_depth, trust / jnp.square(1 + far), intrinsics)


def _with_places(x: Float[Array, "B h w C"]) -> Float[Array, "B h w E"]:
  """Returns maps with two more channels, the row and the column in [-1, 1]."""
  rows, columns = jnp.linspace(-1, 1, x.shape[1]), jnp.linspace(-1, 1, x.shape[2])
  places = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1).astype(x.dtype)
  return jnp.concatenate([x, jnp.broadcast_to(places[None], (*x.shape[:3], 2))], axis=-1)


def _twice(x: Float[Array, "B h w C"]) -> Float[Array, "B H W C"]:
  """Returns maps of twice the size, each value repeated."""
  return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
