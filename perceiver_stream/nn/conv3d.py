"""Convolution and pooling over space and time, on whole clips and on streams (`Timeline`)."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.layers import lecun_normal
from perceiver_stream.nn.precision import broadcast
from perceiver_stream.nn.timeline import Timeline

Triple = tuple[int, int, int]
Pads = list[tuple[int, int]]
Padding = Literal["same", "half", "edge", "valid"]


def padding_of(size: Triple, kernel: Triple, stride: Triple, padding: Padding) -> Pads:
  """Returns the zeros before and after each axis (time, rows, columns).

  Args:
    size: Size of the input.
    kernel: Size of the window.
    stride: Steps between windows.
    padding: `"same"`: TensorFlow's, as many outputs as ceil(size / stride), the odd zero after;
      `"half"`: torch's, kernel // 2 on both sides (`"edge"` counts likewise); `"valid"`: none.
  """
  if padding == "valid":
    return [(0, 0)] * 3
  if padding == "same":
    return list(jax.lax.padtype_to_pads(size, kernel, stride, "SAME"))
  return [(k // 2, k // 2) for k in kernel]


class Conv3D(hk.Module):
  """3-D convolution; weight `[t, h, w, C_in, C_out]`.

  Args:
    output_dim: Output channels.
    kernel: Frames, rows, columns of the kernel.
    stride: Frames, rows, columns.
    padding: See `padding_of`; `"edge"` repeats the first and last frames instead of zeros. A causal
      timeline replaces the padding in time by `kernel - 1` zeros before the first frame.
    use_bias: If True, a bias is added.
    w_init: Initialiser of the weight; None: LeCun's.
    name: Haiku name.
  """

  def __init__(
    self,
    output_dim: int,
    *,
    kernel: Triple = (3, 3, 3),
    stride: Triple = (1, 1, 1),
    padding: Padding = "half",
    use_bias: bool = False,
    w_init: hk.initializers.Initializer | None = None,
    name: str,
  ):
    super().__init__(name=name)
    self.output_dim = output_dim
    self.kernel, self.stride = kernel, stride
    self.padding: Padding = padding
    self.use_bias = use_bias
    self.w_init = w_init or lecun_normal()

  def __call__(
    self, x: Float[Array, "B T H W C"], timeline: Timeline
  ) -> tuple[Float[Array, "B t h w K"], Timeline]:
    """Returns the filtered clips, in the dtype of `x`, and their timeline."""
    shape = (*self.kernel, x.shape[-1], self.output_dim)
    w = hk.get_parameter("w", shape, jnp.float32, self.w_init).astype(x.dtype)
    x, pads, after = _in_time(self.module_name, x, timeline, self.kernel, self.stride, self.padding)
    steps = (1, *self.stride[1:]) if timeline.memory is not None else self.stride
    y = after.compute(lambda x: convolve(x, w, steps, pads), x)
    if self.use_bias:
      y = y + broadcast(hk.get_parameter("b", (self.output_dim,), jnp.float32, jnp.zeros), y)
    return y, after


def convolve(
  x: Float[Array, "B T H W C"], w: Float[Array, "k l m C K"], stride: Triple, pads: Pads
) -> Float[Array, "B t h w K"]:
  """Returns the convolution (cross-correlation) of padded clips with a kernel."""
  dimensions = ("NDHWC", "DHWIO", "NDHWC")
  return jax.lax.conv_general_dilated(x, w, stride, pads, dimension_numbers=dimensions)


def max_pool_3d(
  x: Float[Array, "B T H W C"],
  timeline: Timeline,
  *,
  kernel: Triple,
  stride: Triple,
  padding: Padding,
  name: str,
) -> tuple[Float[Array, "B t h w C"], Timeline]:
  """Returns the maxima over windows, and their timeline.

  Padding never wins a maximum, but in causal time it is zero: inputs should follow a ReLU.
  """
  x, pads, after = _in_time(name, x, timeline, kernel, stride, padding)
  steps = (1, *stride[1:]) if timeline.memory is not None else stride
  window, strides, edges = (1, *kernel, 1), (1, *steps, 1), [(0, 0), *pads, (0, 0)]
  pool = lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, edges)  # noqa: E731
  return after.compute(pool, x), after


def _in_time(
  name: str,
  x: Float[Array, "B T H W C"],
  timeline: Timeline,
  kernel: Triple,
  stride: Triple,
  padding: Padding,
) -> tuple[Float[Array, "B U H W C"], Pads, Timeline]:
  """Returns clips padded in time as needed, the remaining padding, and the outputs' timeline."""
  pads = padding_of((x.shape[1], x.shape[2], x.shape[3]), kernel, stride, padding)
  if timeline.causal:
    x = timeline.window(f"{name}/past", x, kernel[0])
    return x, [(0, 0), *pads[1:]], timeline.every(name, stride[0])
  if padding == "edge":
    edges = [(0, 0), pads[0], (0, 0), (0, 0), (0, 0)]
    return jnp.pad(x, edges, mode="edge"), [(0, 0), *pads[1:]], timeline
  return x, pads, timeline


def kaiming_normal() -> hk.initializers.Initializer:
  """Returns torch's `kaiming_normal_` with fan-out: σ = sqrt(2 / (K · kernel volume))."""

  def init(shape: Sequence[int], dtype: Any) -> Array:
    fan_out = math.prod(shape[:-2]) * shape[-1]
    return hk.initializers.RandomNormal(math.sqrt(2 / fan_out))(shape, dtype)

  return init


def inflate(kernel: Float[Array, "h w C K"], frames: int) -> Float[Array, "t h w C K"]:
  """Returns a 3-D kernel whose response to a static clip is that of the image kernel.

  The kernel is repeated `frames` times and divided by `frames` (Carreira & Zisserman, 2017). The
  identity needs the whole window inside the clip, or `"edge"` padding: with zeros the first and last
  `frames // 2` outputs differ.
  """
  return jnp.repeat(kernel[None], frames, axis=0) / frames


def central_frame(kernel: Float[Array, "h w C K"], frames: int) -> Float[Array, "t h w C K"]:
  """Returns a 3-D kernel that reads its central frame, `frames // 2`, only (ViViT)."""
  return jnp.zeros((frames, *kernel.shape), kernel.dtype).at[frames // 2].set(kernel)
