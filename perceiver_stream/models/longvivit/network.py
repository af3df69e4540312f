"""LongViViT: a video transformer over a random part of the tubelets, and a tower of text.

Source: A Simple Recipe for Contrastively Pre-training Video-First Encoders Beyond 16 Frames
(2312.07395), sections 3 and 4; no code is released. Sizes of heads and norms are ViT's.
"""

import math
from collections.abc import Sequence
from typing import Any

import haiku as hk
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from perceiver_stream.models.clips import (
  ClipEncoder,
  ClipOutputs,
  ClipSpec,
  as_clip_encoder,
  outputs_of,
)
from perceiver_stream.models.longvivit.config import Config, TextConfig
from perceiver_stream.models.longvivit.masking import Kept, attend_kept, draw_kept
from perceiver_stream.nn.adapters import BottleneckAdapter, LoraLinear
from perceiver_stream.nn.blocks import SelfBlock
from perceiver_stream.nn.gated import TanhGate
from perceiver_stream.nn.layers import LayerNorm, Linear, gelu, lecun_normal
from perceiver_stream.nn.positions import sincos_1d
from perceiver_stream.nn.precision import broadcast
from perceiver_stream.nn.timeline import Timeline

Tokens = Float[Array, "B K D"]
NAME = "longvivit"
MOST_SCALE = 100.0  # of the similarities, as CLIP's
_POSITION = hk.initializers.RandomNormal(0.02)


class TubeletAttention(hk.Module):
  """Self-attention among kept tubelets; see `masking.attend_kept` for `over`."""

  def __init__(self, config: Config, over: str, *, name: str):
    super().__init__(name=name)
    self.config, self.over = config, over

  def __call__(self, x: Tokens, kept: Kept) -> Tokens:
    """Returns the output of every token."""
    c = self.config
    linear = lambda name, y: LoraLinear(c.dim, c.lora_rank, name=name)(y)  # noqa: E731
    q, k, v = (
      rearrange(linear(name, x), "b k (m f) -> b k m f", m=c.num_heads)
      for name in ("query", "key", "value")
    )
    gathered = attend_kept(q, k, v, kept, self.over)
    return linear("output", rearrange(gathered, "b k m f -> b k (m f)"))


class Block(hk.Module):
  """Attention, gated attention over time if factorised, and an MLP with its adapter."""

  def __init__(self, config: Config, *, name: str):
    super().__init__(name=name)
    self.config = config

  def __call__(self, x: Tokens, kept: Kept) -> Tokens:
    """Returns the updated tokens."""
    c = self.config
    over = "both" if c.attention == "joint" else "space"
    x = x + TubeletAttention(c, over, name="attention")(self._norm("attention_norm", x), kept)
    if c.attention == "factorised":
      update = TubeletAttention(c, "time", name="time")(self._norm("time_norm", x), kept)
      x = TanhGate(name="time_gate")(x, update)
    y = gelu(LoraLinear(c.mlp_dim, c.lora_rank, name="hidden")(self._norm("mlp_norm", x)))
    y = LoraLinear(c.dim, c.lora_rank, name="output")(y)
    return x + (BottleneckAdapter(c.adapter_dim)(y) if c.adapter_dim else y)

  @hk.name_like("__call__")
  def _norm(self, name: str, x: Tokens) -> Tokens:
    return LayerNorm(eps=self.config.norm_eps, name=name)(x)


class Patches(hk.Module):
  """Linear map of tubelets or patches; weight `[t, h, w, C, D]`."""

  def __init__(self, dim: int, *, name: str):
    super().__init__(name=name)
    self.dim = dim

  def __call__(self, cut: Float[Array, "B K t h w C"]) -> Tokens:
    """Returns the tokens of tubelets; a product and no convolution, which would map all of them."""
    w = hk.get_parameter("w", (*cut.shape[2:], self.dim), jnp.float32, _patch_normal)
    y = jnp.dot(cut.reshape(*cut.shape[:2], -1), w.astype(cut.dtype).reshape(-1, self.dim))
    return y + broadcast(hk.get_parameter("b", (self.dim,), jnp.float32, jnp.zeros), y)


def _patch_normal(shape: Sequence[int], dtype: Any) -> Array:
  return lecun_normal()((math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)


def _time_waves(shape: Sequence[int], dtype: Any) -> Array:
  """Returns small noise plus, over time, sines and cosines.

  The start is ours: from noise alone a small model needs many updates until order in time counts.
  """
  noise = _POSITION(shape, dtype)
  if shape[0] == 1 or shape[-1] % 2:
    return noise
  waves = jnp.asarray(sincos_1d(shape[0], shape[-1]), dtype)
  return noise + jnp.broadcast_to(waves[:, None, None], shape)


class LongViViT(hk.Module):
  """Both towers; clips of one frame are images, with patches and positions of their own."""

  def __init__(self, config: Config, *, name: str = NAME):
    super().__init__(name=name)
    config.validate()
    self.config = config

  def __call__(
    self, clips: Float[Array, "B T H W C"], timeline: Timeline, is_training: bool
  ) -> tuple[ClipOutputs, Timeline]:
    """Returns features (zeros where tubelets are left out) and their mean over the others.

    Parts: `embedding` `[B, E]`, in the common space, not of unit length; `kept` `[B, T', h', w']`.
    """
    c = self.config
    if hk.running_init():  # parameters of all inputs
      self.encode_words(jnp.zeros((1, c.text.num_words), jnp.int32))
      self.similarity_scale()
      self._tokens(clips[:, :1], Kept(1, c.grid[1] * c.grid[2]))
    is_image = clips.shape[1] == 1
    kept = self._kept(len(clips), is_training, is_image)
    x = self._tokens(clips, kept)
    for i in range(c.num_layers):
      x = Block(c, name=f"block_{i}")(x, kept)
    x = LayerNorm(eps=c.norm_eps, name="norm")(x)
    mean = jnp.mean(x, axis=1)
    grid = (len(x), kept.times, *c.grid[1:])
    parts = {"embedding": Linear(c.embed_dim, use_bias=False, name="projection")(mean)}
    parts["kept"] = kept.present(len(x)).reshape(grid)
    return outputs_of(kept.put(x).reshape(*grid, c.dim), mean, None, parts), timeline

  @hk.name_like("__call__")
  def encode_words(self, words: Int[Array, "B W"]) -> Float[Array, "B E"]:
    """Returns captions in the common space, not of unit length; -1 is no word."""
    return TextTower(self.config.text, self.config.embed_dim, name="text")(words)

  @hk.name_like("__call__")
  def similarity_scale(self) -> Float[Array, ""]:
    """Returns the learned factor of the similarities, at most `MOST_SCALE`."""
    start = hk.initializers.Constant(math.log(1 / 0.07))
    log_scale = hk.get_parameter("log_scale", (), jnp.float32, start)
    return jnp.minimum(jnp.exp(log_scale), MOST_SCALE)

  @hk.name_like("__call__")
  def _tokens(self, clips: Float[Array, "B T H W C"], kept: Kept) -> Tokens:
    c, is_image = self.config, clips.shape[1] == 1
    size = (1 if is_image else c.num_frames, c.height, c.width)
    if clips.shape[1:4] != size:
      raise ValueError(
        f"longvivit: clips of {clips.shape[1:4]} (frames, rows, columns), expected {size} or an image of "
        f"{size[1:]}; resize them, or the table of positions (`vivit.positions`)."
      )
    sizes = {"p": 1 if is_image else c.patch_frames, "q": c.patch_height, "r": c.patch_width}
    times, height, width = (kept.times, *c.grid[1:])
    whole = clips[:, : times * sizes["p"], : height * sizes["q"], : width * sizes["r"]]
    cut = rearrange(whole, "b (t p) (h q) (w r) c -> b (t h w) p q r c", **sizes)
    x = Patches(c.dim, name="image_patches" if is_image else "tubelets")(kept.take(cut))
    over_time = 1 if is_image or c.attention == "frames" else times
    name = "image_positions" if is_image else "positions"
    table = hk.get_parameter(name, (over_time, height, width, c.dim), jnp.float32, _time_waves)
    table = jnp.broadcast_to(table, (times, *table.shape[1:])).reshape(1, -1, c.dim)
    table = jnp.broadcast_to(table, (len(x), *table.shape[1:]))
    return x + kept.take(table).astype(x.dtype)

  @hk.name_like("__call__")
  def _kept(self, num_rows: int, is_training: bool, is_image: bool) -> Kept:
    times, height, width = self.config.grid
    if is_image:
      return Kept(1, height * width)
    num_kept = self.config.num_kept(is_training)
    if num_kept == times * height * width:
      return Kept(times, height * width)
    key = hk.maybe_next_rng_key()
    if key is None:
      raise ValueError(
        "longvivit: masking leaves out random tubelets; give `apply` a key as rng, or set masking and "
        "inference_masking to 0."
      )
    return draw_kept(key, num_rows, num_kept, times, height * width)


class TextTower(hk.Module):
  """Word vectors, learned positions, blocks, the mean over words, and a linear map."""

  def __init__(self, config: TextConfig, embed_dim: int, *, name: str):
    super().__init__(name=name)
    self.config, self.embed_dim = config, embed_dim

  def __call__(self, words: Int[Array, "B W"]) -> Float[Array, "B E"]:
    """Returns captions in the common space; -1 is no word."""
    c, number = self.config, words.shape[1]
    if number > c.num_words:
      raise ValueError(
        f"longvivit: captions of {number} words, but there are positions for text.num_words="
        f"{c.num_words}; cut them, or build the tower for more."
      )
    vectors = hk.get_parameter("words", (c.vocabulary, c.dim), jnp.float32, _POSITION)
    table = hk.get_parameter("positions", (c.num_words, c.dim), jnp.float32, _POSITION)
    valid = words >= 0
    x = vectors[jnp.maximum(words, 0)]
    x = x + jnp.broadcast_to(table[None, :number], x.shape)
    for i in range(c.num_layers):
      x = SelfBlock(c.num_heads, mlp_dim=c.mlp_dim, name=f"block_{i}")(x, valid)
    x = jnp.where(valid[..., None], LayerNorm(name="norm")(x), 0.0)
    count = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1)
    mean = jnp.sum(x, axis=1) / count.astype(x.dtype)
    return Linear(self.embed_dim, use_bias=False, name="projection")(mean)


def build(config: Config) -> ClipEncoder:
  """Returns the encoder of clips that `config` describes; its parameters are those of both towers.

  Raises:
    ValueError: Fields do not fit together.
  """
  c = config
  c.validate()
  return as_clip_encoder(
    lambda: LongViViT(c),
    c,
    ClipSpec.of(c),
    name=NAME,
    reason="It averages over a whole clip.",
  )
