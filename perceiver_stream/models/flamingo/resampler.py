"""The Perceiver resampler: a fixed number of latents from any number of tokens."""

import haiku as hk
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from perceiver_stream.nn.attention import attend
from perceiver_stream.nn.layers import LayerNorm, Linear

EPS = 1e-5  # of all norms, as released


class FeedForward(hk.Module):
  """Norm, dense, exact GELU, dense; without biases, as released."""

  def __init__(self, hidden_dim: int, *, name: str):
    super().__init__(name=name)
    self.hidden_dim = hidden_dim

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
    """Returns an array of the shape of `x`."""
    y = LayerNorm(eps=EPS, name="norm")(x)
    y = Linear(self.hidden_dim, use_bias=False, name="hidden")(y)
    y = jax.nn.gelu(y, approximate=False)
    return Linear(x.shape[-1], use_bias=False, name="output")(y)


class LatentAttention(hk.Module):
  """Attention of latents to tokens and to themselves, both normalised, without biases."""

  def __init__(self, num_heads: int, head_dim: int, *, name: str):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.head_dim = head_dim

  def __call__(
    self, latents: Float[Array, "B K C"], tokens: Float[Array, "B N C"]
  ) -> Float[Array, "B K C"]:
    """Returns the update of the latents."""
    tokens = LayerNorm(eps=EPS, name="tokens_norm")(tokens)
    normed = LayerNorm(eps=EPS, name="latents_norm")(latents)
    width = self.num_heads * self.head_dim
    queries = Linear(width, use_bias=False, name="query")(normed)
    keys_values = Linear(2 * width, use_bias=False, name="key_value")
    keys, values = jnp.split(keys_values(jnp.concatenate([tokens, normed], axis=1)), 2, axis=-1)
    heads = lambda x: rearrange(x, "b n (m f) -> b n m f", m=self.num_heads)  # noqa: E731
    gathered = attend(heads(queries), heads(keys), heads(values))
    output = Linear(latents.shape[-1], use_bias=False, name="output")
    return output(rearrange(gathered, "b n m f -> b n (m f)"))


class Resampler(hk.Module):
  """Perceiver resampler of Flamingo: learned latents read the tokens of each medium in turn.

  A medium is an image or a short clip. In a stream each tick is a medium of one frame: its latents
  depend on that tick only, so `[B, T, 1, N, C]` at once and tick by tick give the same (without
  `max_media`, whose embeddings depend on the index). Published: 6 layers, 64 latents, 8 heads of 64,
  `mlp_factor` 4, no embeddings in OpenFlamingo; the paper has learned ones for up to 8 frames.

  Args:
    num_latents: K, latents of each medium.
    num_layers: Layers of attention and MLP.
    num_heads: Attention heads.
    head_dim: Width of a head.
    mlp_factor: Hidden width of the MLPs over the width of the tokens.
    max_frames: Largest number of frames with an embedding of their index; 0: none are learned.
    max_media: The same for the media of a row.
    name: Haiku name.
  """

  def __init__(
    self,
    num_latents: int = 64,
    *,
    num_layers: int = 6,
    num_heads: int = 8,
    head_dim: int = 64,
    mlp_factor: int = 4,
    max_frames: int = 0,
    max_media: int = 0,
    name: str = "resampler",
  ):
    super().__init__(name=name)
    self.num_latents = num_latents
    self.num_layers = num_layers
    self.num_heads = num_heads
    self.head_dim = head_dim
    self.mlp_factor = mlp_factor
    self.max_frames = max_frames
    self.max_media = max_media

  def __call__(self, tokens: Float[Array, "B T F N C"]) -> Float[Array, "B T K C"]:
    """Returns the latents of each medium.

    Args:
      tokens: `[B, T, F, N, C]`: T media of F frames with N tokens each.

    Raises:
      ValueError: There are more frames or media than have an embedding.
    """
    batch, dim = len(tokens), tokens.shape[-1]
    tokens = _add_index(tokens, 2, self.max_frames, "frame")
    tokens = _add_index(tokens, 1, self.max_media, "medium")
    tokens = rearrange(tokens, "b t f n c -> (b t) (f n) c")
    start = hk.initializers.RandomNormal(stddev=1.0)
    latents = hk.get_parameter("latents", (self.num_latents, dim), jnp.float32, start)
    latents = jnp.broadcast_to(latents.astype(tokens.dtype)[None], (len(tokens), *latents.shape))
    for i in range(self.num_layers):
      attention = LatentAttention(self.num_heads, self.head_dim, name=f"attention_{i}")
      latents = latents + attention(latents, tokens)
      latents = latents + FeedForward(self.mlp_factor * dim, name=f"mlp_{i}")(latents)
    latents = LayerNorm(eps=EPS, name="norm")(latents)
    return rearrange(latents, "(b t) k c -> b t k c", b=batch)


def _add_index(tokens: Array, axis: int, most: int, name: str) -> Array:
  """Returns the tokens plus a learned embedding of their index along an axis, if there are any."""
  if not most:
    return tokens
  number = tokens.shape[axis]
  if number > most:
    raise ValueError(
      f"Resampler: tokens {tokens.shape} have {number} along the axis of the {name}, but there are "
      f"embeddings of {most} only; give fewer, or use a resampler with more."
    )
  start = hk.initializers.RandomNormal(stddev=1.0)
  table = hk.get_parameter(f"{name}_embeddings", (most, tokens.shape[-1]), jnp.float32, start)
  shape = [1] * (tokens.ndim - 1) + [tokens.shape[-1]]
  shape[axis] = number
  return tokens + jnp.reshape(table[:number], shape).astype(tokens.dtype)
