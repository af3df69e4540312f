"""An Inception net for keypoints: images in, heat maps out, with branches of unequal depth.

A module filters its input by 1×1, by 3×3, by 5×5 and by pooling, and concatenates the results. Every
convolution in depth is a layer, so that branches of fewer convolutions are shortcuts: when stages
run in parallel, they carry newer frames than the deeper branches.

Source: Szegedy et al. 2015, 1409.4842 (5×5) and 2016, 1512.00567 (two 3×3 in its place); in time our
version of Carreira et al. 2018, 1806.03863. Differs: normalised over channels before each rectifier;
strided convolutions as the stem; no auxiliary classifiers, heat maps as the output.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.execution.nets import heatmap
from perceiver_stream.models.stages import (
  FRAMES,
  Layer,
  Staged,
  apply_image_net,
  check_halvings,
  image_net,
  scoped_layer,
)
from perceiver_stream.nn.conv import Conv2D, norm_act_conv, pool

WIDE = ("5x5", "double_3x3")


@dataclass(kw_only=True)
class Config:
  """Sizes of an Inception net; the defaults are modules 3a to 4a of GoogLeNet, reducers included.

  Attributes:
    stem: Channels of the first convolutions, each of which halves the image.
    modules: Channels of each module's branches: 1×1, before 3×3, 3×3, before 5×5, 5×5, after pooling.
    halve_before: Modules before which the image is halved by max-pooling.
    wide: Filters of the widest branch: `"5x5"`, or two as `"double_3x3"`.
    num_keypoints: Number of heat maps.
  """

  stem: tuple[int, ...] = (64, 192)
  modules: tuple[tuple[int, int, int, int, int, int], ...] = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
  )
  halve_before: tuple[int, ...] = (2,)
  wide: str = "5x5"
  num_keypoints: int = 1

  def __post_init__(self):
    self.validate()

  @property
  def stride(self) -> int:
    """Pixels of a cell of the heat maps."""
    return 2 ** (len(self.stem) + len(self.halve_before))

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if not self.stem or not self.modules or min(*self.stem, self.num_keypoints) < 1:
      raise ValueError(
        f"inception: stem={self.stem}, {len(self.modules)} modules and num_keypoints="
        f"{self.num_keypoints} must all be 1 or more."
      )
    for i, widths in enumerate(self.modules):
      if len(widths) != 6 or min(widths) < 1:
        raise ValueError(
          f"inception: modules[{i}]={widths}; give six widths of 1 or more: 1×1, before 3×3, 3×3, "
          f"before 5×5, 5×5, after pooling."
        )
    wrong = [i for i in self.halve_before if not 0 <= i < len(self.modules)]
    if wrong or len(set(self.halve_before)) < len(self.halve_before):
      raise ValueError(
        f"inception: halve_before={self.halve_before} must name modules from 0 to "
        f"{len(self.modules) - 1}, each once."
      )
    if self.wide not in WIDE:
      raise ValueError(f"inception: wide={self.wide!r} is not one of {WIDE}.")


def layers(config: Config) -> tuple[Layer, ...]:
  """Returns the layers; they read the register `frames`, and the last writes the heat maps."""
  config.validate()
  first = lambda x: Conv2D(config.stem[0], stride=2, in_loop=True, name="conv")(x)  # noqa: E731
  found = [scoped_layer("inception_stem_0", [FRAMES], first)]
  for i, channels in enumerate(config.stem[1:], 1):
    halve = lambda x, dim=channels: _filter(x, dim, 3, "stem_", stride=2)  # noqa: E731
    found.append(scoped_layer(f"inception_stem_{i}", [found[-1].name], halve))
  reads = (found[-1].name,)
  for i in range(len(config.modules)):
    more, reads = _module(config, i, reads)
    found += more
  return (*found, heatmap.head("inception_head", reads, config.num_keypoints))


def inception(config: Config, frames: Float[Array, "B H W C"]) -> Float[Array, "B h w K"]:
  """Returns the heat maps of every frame, as logits; call it inside a Haiku transform.

  Raises:
    ValueError: The frames cannot be halved as often as the config demands.
  """
  return apply_image_net(staged(config, *frames.shape[1:]), frames)


def staged(config: Config, height: int, width: int, input_dim: int = 3) -> Staged:
  """Returns the net as layers, for frames of one size; see `inception`."""
  times = len(config.stem) + len(config.halve_before)
  check_halvings("inception", height, width, times, "stem or halve_before")
  return image_net("inception", layers(config), height, width, input_dim)


def _module(config: Config, i: int, reads: tuple[str, ...]) -> tuple[list[Layer], tuple[str, ...]]:
  """Returns the layers of module i, and the registers of its branches, the deepest first."""
  at = f"inception_{i}"
  one, before_3, three, before_5, five, after = config.modules[i]
  is_deep = config.wide == "double_3x3"

  def narrow(*features: Array) -> tuple[Array, tuple[Array, Array]]:
    x = jnp.concatenate(features, axis=-1)
    x = pool(x, "max") if i in config.halve_before else x
    pooled = pool(x, "max", window=3, stride=1)
    shallow = [_filter(x, one, 1, "one_"), _filter(pooled, after, 1, "after_pool_")]
    deeper = (_filter(x, before_3, 1, "before_3_"), _filter(x, before_5, 1, "before_5_"))
    return jnp.concatenate(shallow, axis=-1), deeper

  def widen(features: tuple[Array, Array]) -> tuple[Array, Array]:
    x, y = features
    return _filter(x, three, 3, "three_"), _filter(y, five, 3 if is_deep else 5, "wide_")

  shallow, narrowed, middle, wide = (f"{at}_{n}" for n in ("shallow", "narrowed", "middle", "wide"))
  found = [
    scoped_layer(f"{at}_narrow", reads, narrow, (shallow, narrowed)),
    scoped_layer(f"{at}_widen", [narrowed], widen, (middle, wide)),
  ]
  if not is_deep:
    return found, (wide, middle, shallow)
  found.append(scoped_layer(f"{at}_again", [wide], lambda x: _filter(x, five, 3, "wide_")))
  return found, (found[-1].name, middle, shallow)


def _filter(
  x: Float[Array, "B H W C"], dim: int, kernel: int, prefix: str, stride: int = 1
) -> Float[Array, "B h w K"]:
  return norm_act_conv(x, dim, kernel=kernel, stride=stride, in_loop=True, prefix=prefix)
