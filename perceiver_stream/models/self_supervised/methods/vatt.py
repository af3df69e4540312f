"""VATT: one transformer of video and of sound, trained on a random part of the tokens (DropToken).

Source: Akbari et al. 2021, 2104.11178; google-research, `vatt`: the modality-agnostic backbone, its
positions (a norm of the sum of learned tables), one order of tokens for a whole batch, and the loss with
one denominator. Sound is a spectrogram, a token a column; captions are left out. The share of tokens that
stay is of those present.
"""

from dataclasses import dataclass
from typing import Annotated

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import (
  ClipAndSound,
  Outcome,
  Outputs,
  Views,
)
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.nn import LayerNorm, Linear, SelfBlock
from perceiver_stream.nn.drop_token import draw_order, drop_tokens, kept_tokens
from perceiver_stream.nn.losses.contrastive import unit_length
from perceiver_stream.nn.losses.multiple_instance import asymmetric_nce
from perceiver_stream.types import Range, Size


@dataclass(kw_only=True)
class Config:
  """Sizes of the transformer.

  Attributes:
    drop: Share of the tokens that are left out in training.
    dim: Width of tokens.
    layers: Blocks.
    heads: Attention heads.
    tubelet: Frames of a token.
    patch: Rows and columns of a token.
    buckets: Most tokens along time, rows and columns of a clip.
    audio_buckets: Most columns of a spectrogram.
    temperature: Divides the similarities.
  """

  drop: Annotated[float, Range(0.0, 0.99)] = 0.5
  dim: Size = 64
  layers: Size = 2
  heads: Size = 4
  tubelet: Size = 2
  patch: Size = 4
  buckets: tuple[Size, Size, Size] = (16, 16, 16)
  audio_buckets: Size = 128
  temperature: float = 0.07

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("vatt", self, "temperature", "dim", "layers", "heads", "tubelet", "patch")


class Vatt(ClipAndSound):
  """Features of a modality are its aggregating token, which is never dropped."""

  name, config_type = "vatt", Config

  @classmethod
  def nano(cls) -> Config:
    """Returns one narrow block."""
    return Config(dim=8, layers=1, heads=2)

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns embeddings of unit length."""
    shared = _Shared(self.config, name="shared")
    drop = self.config.drop if towers.mode.is_training else 0.0
    video = shared(self._tubelets(views["clip"]), "video", self.config.buckets, drop)
    audio = shared(
      views["sound"][:, :, None, None], "audio", (self.config.audio_buckets, 1, 1), drop
    )
    found = {
      "video": towers.head(video, "video_head"),
      "audio": towers.head(audio, "audio_head"),
    }
    return {name: unit_length(x) for name, x in found.items()}

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns NCE with one denominator."""
    del slow, memory
    options = {"temperature": self.config.temperature, "rows": valid}
    loss = asymmetric_nce(outputs["video"], outputs["audio"][:, None], **options)
    return Outcome(loss, base.logarithm(base.num_rows(valid), 2.0), outputs["video"])

  def clip_features(self, towers: Towers, clips: Float[Array, "B T H W 3"]) -> Float[Array, "B D"]:
    """Returns the aggregating token of all tokens."""
    del towers
    shared = _Shared(self.config, name="shared")
    return shared(self._tubelets(clips), "video", self.config.buckets, 0.0)

  def _tubelets(self, clips: Float[Array, "B T H W 3"]) -> Float[Array, "B t h w E"]:
    c = self.config
    sizes = clips.shape[1] // c.tubelet, clips.shape[2] // c.patch, clips.shape[3] // c.patch
    if 0 in sizes:
      raise ValueError(
        f"vatt: clips of {clips.shape[1:4]} frames, rows and columns have no whole token of tubelet="
        f"{c.tubelet}, patch={c.patch}; use smaller ones."
      )
    t, h, w = sizes
    whole = clips[:, : t * c.tubelet, : h * c.patch, : w * c.patch]
    cut = whole.reshape(-1, t, c.tubelet, h, c.patch, w, c.patch, 3)
    return cut.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, t, h, w, c.tubelet * c.patch**2 * 3)


class _Shared(hk.Module):
  """The transformer; projections, positions and aggregating token are of each modality."""

  def __init__(self, config: Config, *, name: str):
    super().__init__(name=name)
    self.config = config
    sizes = {"num_heads": config.heads, "mlp_dim": 4 * config.dim}
    self.blocks = [SelfBlock(**sizes, name=f"block_{i}") for i in range(config.layers)]
    self.norm = LayerNorm(name="norm")

  def __call__(
    self, tokens: Float[Array, "B t h w E"], name: str, buckets: tuple[int, ...], drop: float
  ) -> Float[Array, "B D"]:
    """Returns the aggregating token."""
    dim, grid = self.config.dim, tokens.shape[1:4]
    if any(n > most for n, most in zip(grid, buckets, strict=True)):
      raise ValueError(f"vatt: a grid of {grid} {name} tokens; at most {buckets} have positions.")
    x = Linear(dim, name=f"{name}_tokens")(tokens)
    x = x + jnp.broadcast_to(self._positions(name, grid, buckets), x.shape)
    x = x.reshape(x.shape[0], -1, dim)
    if drop:
      order = draw_order(hk.next_rng_key(), x.shape[1])
      x = drop_tokens(x, order, max(kept_tokens(1 - drop, x.shape[1]), 1))
    first = hk.get_parameter(f"{name}_aggregate", (1, 1, dim), x.dtype, _TABLE)
    x = jnp.concatenate([jnp.broadcast_to(first, (x.shape[0], 1, dim)), x], axis=1)
    for block in self.blocks:
      x = block(x)
    return self.norm(x)[:, 0]

  @hk.name_like("__call__")
  def _positions(
    self, name: str, grid: tuple[int, ...], buckets: tuple[int, ...]
  ) -> Float[Array, "1 t h w D"]:
    total = jnp.zeros((1, *grid, self.config.dim))
    for axis, (n, most) in enumerate(zip(grid, buckets, strict=True)):
      table = hk.get_parameter(f"{name}_positions_{axis}", (most, self.config.dim), init=_TABLE)
      shape = [1, 1, 1, 1, self.config.dim]
      shape[axis + 1] = n
      total = total + jnp.broadcast_to(table[:n].reshape(shape), total.shape)
    return LayerNorm(name=f"{name}_positions_norm")(total)


_TABLE = hk.initializers.RandomNormal(0.02)
