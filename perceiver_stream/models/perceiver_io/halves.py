"""Encoder and decoder of Perceiver and Perceiver IO.

All published models share them: the encoder maps tokens to latents, the decoder maps queries and
latents to outputs. `flow`, `autoencoder` and `classifier` add their own tokens and output layers.

Source: Jaegle et al. 2021, 2103.03206 and 2107.14795; deepmind-research, `perceiver/perceiver.py`.
Differs: no dropout; long query lists are decoded in chunks of bounded memory.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import haiku as hk
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.nn import (
  CrossBlock,
  LearnedPositions,
  Linear,
  SelfBlock,
  coordinates,
  fourier_linear,
  in_chunks,
)
from perceiver_stream.nn.positions import coordinates_float32
from perceiver_stream.types import Bands, Layers, NonNegative, Size

EPS = 1e-5  # of all norms in the published models


@dataclass(kw_only=True)
class EncoderConfig:
  """Sizes of an `Encoder`; defaults are those of the optical flow model.

  Attributes:
    num_latents: Latents, L.
    latent_dim: Width of a latent, D.
    num_blocks: Number of passes through the same self-attention layers.
    num_layers: Self-attention layers with separate weights.
    num_cross_heads: Heads of the cross-attention to the tokens.
    num_self_heads: Heads of self-attention.
    cross_mlp_factor: MLP width over `latent_dim` after the cross-attention.
    self_mlp_factor: MLP width over `latent_dim` after self-attention.
    qk_dim: Width of queries and keys, cross and self; None: that of the inputs.
    v_dim: Width of values, cross and self; None: that of queries and keys.
    qk_from_tokens: If True, the cross-attention's default `qk_dim` is the tokens' width (all
      published models), otherwise the latents'.
    use_query_residual: If True, latents are added to the output of the cross-attention.
    init_scale: Standard deviation of the initial latents.
  """

  num_latents: Size = 2048
  latent_dim: Size = 512
  num_blocks: Layers = 1
  num_layers: Layers = 24
  num_cross_heads: Size = 1
  num_self_heads: Size = 16
  cross_mlp_factor: Size = 1
  self_mlp_factor: Size = 1
  qk_dim: Size | None = None
  v_dim: Size | None = None
  qk_from_tokens: bool = True
  use_query_residual: bool = True
  init_scale: NonNegative = 0.02


@dataclass(kw_only=True)
class DecoderConfig:
  """Sizes of a `Decoder`.

  Attributes:
    num_heads: Heads of the cross-attention to the latents.
    qk_dim: Width of queries and keys; None: the latents' width.
    v_dim: Width of values; None: `qk_dim`.
    use_query_residual: If True, queries are added to the output of the cross-attention.
    chunk: Maximum number of queries decoded at once; None: all.
  """

  num_heads: Size = 1
  qk_dim: Size | None = None
  v_dim: Size | None = None
  use_query_residual: bool = False
  chunk: Size | None = 2**15


@dataclass(kw_only=True)
class FourierConfig:
  """Fourier features of a grid.

  Attributes:
    num_bands: Bands per axis.
    max_resolution: Elements per axis that set the highest band; None: the size of the grid.
    sine_only: If True, cosines are left out.
    concat_pos: If True, raw positions come first.
    as_released: If True, tables are rounded as in the released code (float32); otherwise they are
      computed in float64.
  """

  num_bands: Bands = 64
  max_resolution: tuple[int, ...] | None = None
  sine_only: bool = False
  concat_pos: bool = True
  as_released: bool = True

  def grid(self, shape: Sequence[int]) -> Float[np.ndarray, "N F"]:
    """Returns features of all points of a grid with both ends at ±1, float32, row-major."""
    released = coordinates_float32(shape) if self.as_released else coordinates(shape, "inclusive")
    return np.asarray(self._features(released, shape), np.float32)

  def points(self, shape: Sequence[int], indices: PyTree) -> Float[Array, "Q F"]:
    """Returns features of some points, by flat index, in the convention of released decoders.

    There -1 is the first point, but +1 is not the last one: positions differ from those of `grid`.
    """
    positions = coordinates(shape, "left", indices)
    positions = positions.astype(np.float32) if self.as_released else positions
    return jnp.asarray(self._features(positions, shape), jnp.float32)

  def axes(
    self, shape: Sequence[int], convention: str = "inclusive"
  ) -> list[tuple[Float[np.ndarray, "N F"], Int[np.ndarray, " F"]]]:
    """Returns the position features of each axis, and their columns in the features of a point.

    Args:
      shape: Shape of the grid.
      convention: `"inclusive"` gives the features of `grid`, `"left"` those of `points`.
    """
    made, count = [], len(shape)
    for axis, size in enumerate(shape):
      if convention == "inclusive" and self.as_released:
        positions = coordinates_float32((size,))
      else:
        positions = coordinates((size,), convention)
        positions = positions.astype(np.float32) if self.as_released else positions
      most = (tuple(self.max_resolution or shape)[axis],)
      table = dataclasses.replace(self, max_resolution=most)._features(positions, (size,))
      first = count * self.concat_pos + axis * self.num_bands + np.arange(self.num_bands)
      bands = [first] if self.sine_only else [first, first + count * self.num_bands]
      columns = np.concatenate([[axis] * self.concat_pos, *bands]).astype(int)
      made.append((np.asarray(table, np.float32), columns))
    return made

  def dim(self, num_axes: int) -> int:
    """Returns the width of the features of a grid with that many axes."""
    return num_axes * (self.concat_pos + self.num_bands * (1 if self.sine_only else 2))

  def _features(self, positions, shape: Sequence[int]):
    return fourier_linear(
      positions,
      self.num_bands,
      tuple(self.max_resolution or shape),
      sine_only=self.sine_only,
      concat_pos=self.concat_pos,
    )


class Encoder(hk.Module):
  """Cross-attention of latents to tokens, followed by self-attention layers."""

  def __init__(self, config: EncoderConfig, *, name: str):
    super().__init__(name=name)
    self.config = config

  def __call__(
    self, tokens: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None
  ) -> Float[Array, "B L D"]:
    """Returns the latents; tokens with a False `mask` are ignored."""
    return self.process(self.read(tokens, mask))

  @hk.name_like("__call__")
  def read(
    self, tokens: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None = None
  ) -> Float[Array, "B L D"]:
    """Returns the latents after the cross-attention to the tokens."""
    c = self.config
    start = LearnedPositions(c.num_latents, c.latent_dim, init_scale=c.init_scale, name="latents")
    cross = CrossBlock(
      c.num_cross_heads,
      qk_dim=c.qk_dim or (tokens.shape[-1] if c.qk_from_tokens else c.latent_dim),
      v_dim=c.v_dim,
      mlp_dim=c.cross_mlp_factor * c.latent_dim,
      use_residual=c.use_query_residual,
      eps=EPS,
      name="cross",
    )
    return cross(start(tokens.shape[0]).astype(tokens.dtype), tokens, mask)

  @hk.name_like("__call__")
  def process(self, latents: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """Returns the latents after `num_blocks` passes through the same layers."""
    c = self.config
    layers = [
      SelfBlock(
        c.num_self_heads,
        qk_dim=c.qk_dim,
        v_dim=c.v_dim,
        mlp_dim=c.self_mlp_factor * c.latent_dim,
        eps=EPS,
        name=f"self_{i}",
      )
      for i in range(c.num_layers)
    ]
    for layer in layers * c.num_blocks:
      latents = layer(latents)
    return latents


class Decoder(hk.Module):
  """Cross-attention of queries to latents and a dense output layer. Queries are independent."""

  def __init__(
    self,
    config: DecoderConfig,
    output_dim: int,
    *,
    w_init: hk.initializers.Initializer | None = None,
    name: str,
  ):
    super().__init__(name=name)
    self.config = config
    self.output_dim = output_dim
    self.w_init = w_init

  def __call__(
    self, queries: Float[Array, "B Q E"], latents: Float[Array, "B L D"]
  ) -> Float[Array, "B Q K"]:
    """Returns the output for each query."""
    return in_chunks(lambda q: self._decode(q, latents), queries, self.config.chunk)

  @hk.name_like("__call__")
  def _decode(
    self, queries: Float[Array, "B Q E"], latents: Float[Array, "B L D"]
  ) -> Float[Array, "B Q K"]:
    c = self.config
    cross = CrossBlock(
      c.num_heads,
      qk_dim=c.qk_dim or latents.shape[-1],
      v_dim=c.v_dim,
      mlp_dim=queries.shape[-1],
      use_residual=c.use_query_residual,
      eps=EPS,
      name="cross",
    )
    return Linear(self.output_dim, w_init=self.w_init, name="output")(cross(queries, latents))


def plain_init(fan_in: int) -> hk.initializers.Initializer:
  """Returns Haiku's default initialiser: truncated normal, 0.88/sqrt(fan_in) after truncation."""
  return hk.initializers.TruncatedNormal(1 / np.sqrt(fan_in))
