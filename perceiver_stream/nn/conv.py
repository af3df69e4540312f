"""Convolutions over images."""

from collections.abc import Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.layers import LayerNorm, gelu, lecun_normal
from perceiver_stream.nn.precision import broadcast

Pair = int | Sequence[int]


def _pair(value: Pair) -> tuple[int, int]:
  return (value, value) if isinstance(value, int) else (value[0], value[1])


class Conv2D(hk.Module):
  """2-D convolution with 'SAME' padding; weight `[*kernel, C_in, C_out]`, bias.

  Args:
    output_dim: Output channels.
    kernel: Rows and columns of the kernel; one number for both.
    stride: Rows and columns; one number for both.
    use_bias: If True, a bias is added.
    w_init: Initialiser of the weight; None: LeCun's.
    in_loop: If True, computed as a product of patches and a matrix. The result is the same, but the
      gradient inside a loop is fast on a CPU. Kernels must be odd.
    name: Haiku name.
  """

  def __init__(
    self,
    output_dim: int,
    *,
    kernel: Pair = 3,
    stride: Pair = 1,
    use_bias: bool = True,
    w_init: hk.initializers.Initializer | None = None,
    in_loop: bool = False,
    name: str,
  ):
    super().__init__(name=name)
    self.w_init = w_init or lecun_normal()
    self.in_loop = in_loop
    self.output_dim = output_dim
    self.kernel = _pair(kernel)
    self.stride = _pair(stride)
    self.use_bias = use_bias

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
    """Returns the filtered images, in the dtype of `x`."""
    shape = (*self.kernel, x.shape[-1], self.output_dim)
    w = hk.get_parameter("w", shape, jnp.float32, self.w_init)
    y = (_as_product if self.in_loop else _as_convolution)(x, w.astype(x.dtype), self.stride)
    if not self.use_bias:
      return y
    return y + broadcast(hk.get_parameter("b", (self.output_dim,), jnp.float32, jnp.zeros), y)


def _as_convolution(
  x: Float[Array, "B H W C"], w: Float[Array, "k l C K"], stride: tuple[int, int]
) -> Float[Array, "B h w K"]:
  dimensions = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(x, w, stride, "SAME", dimension_numbers=dimensions)


def _as_product(
  x: Float[Array, "B H W C"], w: Float[Array, "k l C K"], stride: tuple[int, int]
) -> Float[Array, "B h w K"]:
  """Returns the result of `_as_convolution`; windows are centred on every `stride`-th position."""
  before = [low for low, _ in jax.lax.padtype_to_pads(x.shape[1:3], w.shape[:2], stride, "SAME")]
  rows, columns = (
    slice(size // 2 - low, None, step)
    for size, low, step in zip(w.shape[:2], before, stride, strict=True)
  )
  around = extract_patches(x, w.shape[:2])[:, rows, columns]
  return around @ w.reshape(-1, w.shape[-1])


def extract_patches(x: Float[Array, "*n h w C"], kernel: Pair) -> Float[Array, "*n h w K"]:
  """Returns the `kernel` neighbourhood of each pixel, flattened row by row; zeros beyond the edge.

  Multiplied by a matrix this is a convolution whose gradient inside a loop is fast on a CPU.

  Args:
    x: Images.
    kernel: Rows and columns of a neighbourhood, one number for both; odd.
  """
  rows, columns = x.shape[-3:-1]
  down, across = _pair(kernel)
  edges = [(down // 2, down // 2), (across // 2, across // 2), (0, 0)]
  padded = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + edges)
  places = [(i, j) for i in range(down) for j in range(across)]
  around = [padded[..., i : i + rows, j : j + columns, :] for i, j in places]
  return jnp.concatenate(around, axis=-1)


def norm_act_conv(
  x: Float[Array, "B H W C"], dim: int, *, prefix: str = "", **how: Any
) -> Float[Array, "B h w K"]:
  """Returns normalised, rectified and filtered features.

  Args:
    x: Features.
    dim: Output channels.
    prefix: Prefix of the names of both modules, `norm` and `conv`.
    **how: Further arguments of `Conv2D`.
  """
  x = gelu(LayerNorm(name=f"{prefix}norm")(x))
  return Conv2D(dim, **how, name=f"{prefix}conv")(x)


class ConvStack(hk.Module):
  """Convolutions with GELU between them and none after the last; kernels are 3×3 by default."""

  def __init__(
    self,
    channels: Sequence[int],
    strides: Sequence[Pair],
    *,
    kernels: Sequence[Pair] | None = None,
    name: str,
  ):
    super().__init__(name=name)
    self.channels = tuple(channels)
    self.strides = tuple(strides)
    self.kernels = (3,) * len(self.channels) if kernels is None else tuple(kernels)
    for what, given in (("strides", self.strides), ("kernels", self.kernels)):
      if len(given) != len(self.channels):
        raise ValueError(
          f"ConvStack '{name}': {len(self.channels)} channels {self.channels} but {len(given)} "
          f"{what} {given}; give one per layer."
        )

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
    """Returns features, smaller than `x` by the product of the strides."""
    for i in range(len(self.channels)):
      x = self.layer(i, x)
    return x

  @hk.name_like("__call__")
  def layer(self, i: int, x: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
    """Returns the output of convolution i on the features before it."""
    sizes = {"kernel": self.kernels[i], "stride": self.strides[i]}
    return Conv2D(self.channels[i], **sizes, name=f"conv_{i}")(gelu(x) if i else x)


def pool(
  x: Float[Array, "B H W C"], kind: str, *, window: int = 2, stride: int = 2
) -> Float[Array, "B h w C"]:
  """Returns the `"max"` or the `"mean"` over windows of `window`², every `stride` pixels.

  With 'SAME' padding; pixels outside the image are excluded from maximum and mean.

  Raises:
    ValueError: `kind` is neither.
  """
  if kind not in ("max", "mean"):
    raise ValueError(f"pool: kind={kind!r} is not one of ('max', 'mean').")
  shape, strides = (1, window, window, 1), (1, stride, stride, 1)
  if kind == "max":
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, shape, strides, "SAME")
  total = lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, shape, strides, "SAME")  # noqa: E731
  return total(x) / total(jnp.ones_like(x))
