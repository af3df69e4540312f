"""Dense read-out of depth, flow, segmentation or any other modality from a frozen model's states.

Queries on the modality's grid attend to the latents, followed by the modality's own head, loss and
metric. As in `point_readout`, the input is the latents and, with `use_frames`, the frames in the
state.

Source: a cross-attention decoder from pixel queries on stop-gradient states is MooG's depth
read-out (2411.05927); the heads are ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream import modalities as modality_room
from perceiver_stream.modalities import Modality, ModalityConfig
from perceiver_stream.models.point_readout import Features, frame_features
from perceiver_stream.nn import CrossBlock, LayerNorm, Linear, fourier_linear, patchify, repeat_rows
from perceiver_stream.types import Layers, Size


@dataclass(kw_only=True)
class Config:
  """Sizes of a dense read-out.

  Attributes:
    modalities: Modalities to read out, by name.
    dim: Width of a query.
    num_layers: Cross-attention blocks between queries and latents.
    num_heads: Attention heads of these blocks.
    use_frames: Read the last two frames in the state, in addition to the latents.
  """

  modalities: dict[str, ModalityConfig] = field(default_factory=dict)
  dim: Size = 128
  num_layers: Layers = 1
  num_heads: Size = 4
  use_frames: bool = True

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if not self.modalities:
      raise ValueError("read-out: modalities is empty; name what is to be read out.")
    if self.dim % self.num_heads:
      raise ValueError(
        f"read-out: dim={self.dim} is not a multiple of num_heads={self.num_heads}; change one."
      )
    for modality in self.modalities.values():
      modality.validate()


class Reader(NamedTuple):
  """A read-out as pure, jitted functions.

  Attributes:
    init: `(rng, features) -> params`; `features` without T.
    read: `(params, features) -> {modality: [B, ...]}`, in each modality's prediction space.
    modalities: Modalities with losses, metrics and images.
    config: Config from which it was built.
  """

  init: Callable[..., PyTree]
  read: Callable[..., dict[str, Array]]
  modalities: dict[str, Modality]
  config: Config


def build(config: Config) -> Reader:
  """Returns the read-out that `config` describes; raises ValueError if it contradicts itself."""
  config.validate()
  modalities = {n: modality_room.build(n, m) for n, m in config.modalities.items()}
  decoder = lambda features: Decoder(config, modalities, name="reader")(features)  # noqa: E731
  function = hk.without_apply_rng(hk.transform(decoder))
  return Reader(jax.jit(function.init), jax.jit(function.apply), modalities, config)


class Decoder(hk.Module):
  """Decoder of every cell of every modality."""

  def __init__(self, config: Config, modalities: Mapping[str, Modality], *, name: str):
    super().__init__(name=name)
    self.config, self.modalities = config, modalities

  def __call__(self, features: Features) -> dict[str, Array]:
    """Returns whole predictions, `[B, ...]`."""
    maps = frame_features(features) if self.config.use_frames else None
    return {n: self._read(n, m, features.latents, maps) for n, m in self.modalities.items()}

  @hk.name_like("__call__")
  def _read(
    self, name: str, modality: Modality, latents: Float[Array, "B L D"], maps: Array | None
  ) -> Array:
    c, rows = self.config, latents.shape[0]
    grid = modality.query_grid()
    shape = [max(n, 2) for n in modality.grid_shape()]
    where = jnp.asarray(fourier_linear(grid, 8, shape), latents.dtype)
    x = Linear(c.dim, name=f"{name}_query")(where)
    x = repeat_rows(x, rows)
    if maps is not None and len(modality.grid_shape()) == 2:
      x = x + Linear(c.dim, name=f"{name}_seen")(_cells(maps, modality.grid_shape()))
    for i in range(c.num_layers):
      block = CrossBlock(c.num_heads, qk_dim=c.dim, mlp_dim=2 * c.dim, name=f"{name}_latents_{i}")
      x = block(x, latents)
    x = LayerNorm(name=f"{name}_norm")(x)
    return modality.assemble(modality.head_without_input(x)[name])


def _cells(maps: Float[Array, "B H W C"], grid: tuple[int, ...]) -> Float[Array, "B Q F"]:
  """Returns the maps divided into the cells of a grid, row-major.

  Raises:
    ValueError: The image is not a whole number of cells.
  """
  rows, height, width, channels = maps.shape
  if height % grid[0] or width % grid[1]:
    raise ValueError(
      f"read-out: frames of {height}×{width} pixels cannot be cut into a grid of {grid[0]}×{grid[1]} "
      f"cells; change the modality's patch."
    )
  p, q = height // grid[0], width // grid[1]
  return patchify(maps, (p, q)).reshape(rows, grid[0] * grid[1], p * q * channels)
