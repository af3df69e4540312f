"""Gated cross-attention: tokens of a text read the latents of the media before them."""

import haiku as hk
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.models.flamingo.resampler import EPS, FeedForward
from perceiver_stream.nn.attention import attend
from perceiver_stream.nn.gated import TanhGate
from perceiver_stream.nn.layers import LayerNorm, Linear


class MediaAttention(hk.Module):
  """Attention of a text to media; see `GatedCrossAttention`."""

  def __init__(
    self, num_heads: int, head_dim: int, *, only_immediate: bool, as_released: bool, name: str
  ):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.head_dim = head_dim
    self.only_immediate = only_immediate
    self.as_released = as_released

  def __call__(
    self,
    text: Float[Array, "B L D"],
    media: Float[Array, "B T K C"],
    num_before: Int[Array, "B L"],
  ) -> Float[Array, "B L D"]:
    """Returns the update of the text."""
    per_medium = media.shape[2]
    width = self.num_heads * self.head_dim
    normed = LayerNorm(eps=EPS, name="norm")(text)
    queries = Linear(width, use_bias=False, name="query")(normed)
    flat = rearrange(media, "b t k c -> b (t k) c")
    keys, values = jnp.split(Linear(2 * width, use_bias=False, name="key_value")(flat), 2, axis=-1)
    heads = lambda x: rearrange(x, "b n (m f) -> b n m f", m=self.num_heads)  # noqa: E731
    number = repeat(jnp.arange(media.shape[1]) + 1, "t -> 1 1 (t k)", k=per_medium)
    counts = num_before[..., None]
    mask = counts == number if self.only_immediate else counts >= number
    gathered = attend(heads(queries), heads(keys), heads(values), mask)
    gathered = rearrange(gathered, "b n m f -> b n (m f)")
    if self.as_released:
      leaks = ~jnp.any(mask, axis=-1)
      if self.only_immediate:
        leaks &= num_before > 0
      gathered = jnp.where(leaks[..., None], jnp.mean(values, axis=1, keepdims=True), gathered)
    return Linear(text.shape[-1], use_bias=False, name="output")(gathered)


class GatedCrossAttention(hk.Module):
  """text += tanh(α) attention(text, media); text += tanh(β) MLP(text). α and β start at 0.

  A token may attend to media at or before it, so a text is causal as its language model is. Text
  before the first medium gets exactly nothing from attention.

  Args:
    num_heads: Attention heads.
    head_dim: Width of a head.
    mlp_factor: Hidden width of the MLP over that of the text.
    only_immediate: If True, a token attends to the latest medium only; otherwise to all before it.
    as_released: If True, tokens without any medium to attend to read the mean of all values, later
      media included, as the released code does where every logit is masked with the same finite
      number (with `only_immediate`, this concerns tokens after more media than were given).
    name: Haiku name.
  """

  def __init__(
    self,
    *,
    num_heads: int = 8,
    head_dim: int = 64,
    mlp_factor: int = 4,
    only_immediate: bool = True,
    as_released: bool = False,
    name: str = "gated_cross_attention",
  ):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.head_dim = head_dim
    self.mlp_factor = mlp_factor
    self.only_immediate = only_immediate
    self.as_released = as_released

  def __call__(
    self,
    text: Float[Array, "B L D"],
    media: Float[Array, "B T K C"],
    media_here: Bool[Array, "B L"],
    *,
    all_past: bool = False,
  ) -> Float[Array, "B L D"]:
    """Returns the updated tokens of the text.

    Args:
      text: `[B, L, D]`, tokens of a language model.
      media: `[B, T, K, C]`, latents of each medium, as `Resampler` gives.
      media_here: `[B, L]`, True at the token of each medium, which may attend to it.
      all_past: If True, the text comes after all media of `media_here`: generation goes on with
        media that are cached.
    """
    counts = jnp.cumsum(media_here, axis=1, dtype=jnp.int32)
    if all_past:
      counts = jnp.broadcast_to(counts[:, -1:], text.shape[:2])
    attention = MediaAttention(
      self.num_heads,
      self.head_dim,
      only_immediate=self.only_immediate,
      as_released=self.as_released,
      name="attention",
    )
    text = TanhGate(name="attention_gate")(text, attention(text, media, counts))
    update = FeedForward(self.mlp_factor * text.shape[-1], name="mlp")(text)
    return TanhGate(name="mlp_gate")(text, update)
