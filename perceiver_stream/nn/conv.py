"""A stack of 3×3 convolutions over pictures."""

from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.layers import lecun_normal
from perceiver_stream.nn.precision import broadcast


class Conv2D(hk.Module):
  """2-D convolution with 'SAME' padding; kernel `[k, k, C_in, C_out]`, bias."""

  def __init__(self, output_dim: int, *, kernel: int = 3, stride: int = 1, name: str):
    super().__init__(name=name)
    self.output_dim = output_dim
    self.kernel = kernel
    self.stride = stride

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
    """Returns the filtered pictures, in the dtype of `x`."""
    shape = (self.kernel, self.kernel, x.shape[-1], self.output_dim)
    w = hk.get_parameter("w", shape, jnp.float32, lecun_normal())
    b = hk.get_parameter("b", (self.output_dim,), jnp.float32, jnp.zeros)
    y = jax.lax.conv_general_dilated(
      x,
      w.astype(x.dtype),
      (self.stride, self.stride),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + broadcast(b, y)


class ConvStack(hk.Module):
  """3×3 convolutions with GELU between them and none after the last."""

  def __init__(self, channels: Sequence[int], strides: Sequence[int], *, name: str):
    super().__init__(name=name)
    if len(channels) != len(strides):
      raise ValueError(
        f"ConvStack '{name}': {len(channels)} channels {tuple(channels)} but {len(strides)} "
        f"strides {tuple(strides)}; give one stride per layer."
      )
    self.channels = tuple(channels)
    self.strides = tuple(strides)

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
    """Returns features, smaller than `x` by the product of the strides."""
    for i, (channels, stride) in enumerate(zip(self.channels, self.strides, strict=True)):
      if i:
        x = jax.nn.gelu(x, approximate=True)
      x = Conv2D(channels, stride=stride, name=f"conv_{i}")(x)
    return x
