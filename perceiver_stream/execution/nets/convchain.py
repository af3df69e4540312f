"""A chain of convolutions with shortcuts and short memories: the smallest net with all features.

Layer i reads layer i - 1, and with shortcuts layer i - span too. On one frame that is an ordinary
residual or dense net. When every layer is a stage, the shortcut carries a newer frame than the
chain, so that one-frame layers can detect motion (Skip-Sideways).

Source: our version of Malinowski et al. 2021, 2106.08318, and of Carreira et al. 2018, 1806.03863
("temporal filters": a layer also reads its inputs of earlier ticks).
"""

from collections.abc import Callable
from dataclasses import dataclass

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.models.stages import FRAMES, Layer, Staged, Values, image_net
from perceiver_stream.nn import LayerNorm, Linear, gelu
from perceiver_stream.nn.conv import Conv2D, norm_act_conv

JOINS = ("none", "add", "concat")
HEADS = ("picture", "classes")


@dataclass(kw_only=True)
class Config:
  """Sizes of a chain.

  Attributes:
    channels: Of every convolution.
    strides: Of every convolution; none means 1 everywhere.
    shortcut: Connection to an earlier layer: `"none"`, `"add"` or `"concat"`.
    span: Layers that a shortcut spans, 2 or more.
    taps: Number of ticks of its input that a layer reads, the newest included.
    head: `"picture"`, one output per position, or `"classes"`, one per frame.
    output_dim: Width of the output.
  """

  channels: tuple[int, ...] = (16, 16, 16, 16)
  strides: tuple[int, ...] = ()
  shortcut: str = "none"
  span: int = 2
  taps: int = 1
  head: str = "picture"
  output_dim: int = 3

  def __post_init__(self):
    self.validate()

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    for name, valid in (("shortcut", JOINS), ("head", HEADS)):
      if getattr(self, name) not in valid:
        raise ValueError(f"convchain: {name}={getattr(self, name)!r} is not one of {valid}.")
    if not self.channels or self.taps < 1 or self.span < 2:
      raise ValueError(
        f"convchain: channels={self.channels}, taps={self.taps}, span={self.span}; use one layer, "
        f"one tap and a span of two at least."
      )
    if self.strides and len(self.strides) != len(self.channels):
      raise ValueError(
        f"convchain: {len(self.channels)} channels but {len(self.strides)} strides; give one each."
      )


def staged(config: Config, height: int, width: int, input_dim: int = 3) -> Staged:
  """Returns the chain as layers, for frames of one size; its output is the register `head`.

  Raises:
    ValueError: The inputs of a shortcut have different shapes.
  """
  config.validate()
  shapes = {FRAMES: (height, width, input_dim)}
  layers: list[Layer] = []
  strides = config.strides or (1,) * len(config.channels)
  for i, (channels, stride) in enumerate(zip(config.channels, strides, strict=True)):
    names = list(shapes)
    reads = {name: shapes[name] for name in names[-1:]}
    if config.shortcut != "none" and i >= config.span:
      reads |= {names[-config.span]: shapes[names[-config.span]]}
    name = f"chain_{i}"
    layers.append(_layer(config, name, reads, _rectified(channels, stride, is_raw=i == 0)))
    rows, columns, _ = reads[names[-1]]
    shapes[name] = (-(-rows // stride), -(-columns // stride), channels)
  heads = {"picture": _rectified(config.output_dim, 1), "classes": _pooled(config.output_dim)}
  last = {name: shapes[name] for name in list(shapes)[-1:]}
  layers.append(_layer(config, "head", last, heads[config.head]))
  return image_net("convchain", layers, height, width, input_dim)


def _layer(
  config: Config, name: str, reads: dict[str, tuple[int, int, int]], function: Callable
) -> Layer:
  """Returns `function` of the joined inputs, of this tick and of earlier ones, as a layer."""
  joined = _joined_shape(config, name, reads)
  past = (*joined[:2], joined[2] * (config.taps - 1))

  def call(state: PyTree, inputs: Values) -> tuple[Values, PyTree]:
    arrays = [inputs[register] for register in reads]
    x = sum(arrays[1:], arrays[0]) if config.shortcut == "add" else jnp.concatenate(arrays, -1)
    x = jnp.concatenate([x, state], axis=-1)
    with hk.name_scope(name):
      return {name: function(x)}, x[..., : past[2]]

  return Layer(name, tuple(reads), call, lambda rows: jnp.zeros((rows, *past)))


def _joined_shape(
  config: Config, name: str, reads: dict[str, tuple[int, int, int]]
) -> tuple[int, int, int]:
  shapes = list(reads.values())
  axes = 3 if config.shortcut == "add" else 2
  if len({shape[:axes] for shape in shapes}) > 1:
    raise ValueError(
      f"convchain: '{name}' cannot {config.shortcut} the registers {reads}: they differ in "
      f"{'shape' if axes == 3 else 'rows and columns'}; change channels, strides or span."
    )
  channels = shapes[0][2] if config.shortcut == "add" else sum(shape[2] for shape in shapes)
  return (*shapes[0][:2], channels)


def _rectified(dim: int, stride: int, *, is_raw: bool = False) -> Callable[[Array], Array]:
  """Returns a convolution of normalised, rectified features, or of a raw image."""

  def function(x: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
    if is_raw:
      return Conv2D(dim, stride=stride, in_loop=True, name="conv")(x)
    return norm_act_conv(x, dim, stride=stride, in_loop=True)

  return function


def _pooled(dim: int) -> Callable[[Array], Array]:
  """Returns a linear map of the mean over all positions."""

  def function(x: Float[Array, "B H W C"]) -> Float[Array, "B K"]:
    x = gelu(LayerNorm(name="norm")(x))
    return Linear(dim, name="classes")(jnp.mean(x, axis=(1, 2)))

  return function
