"""Haiku modules of RVM: a vision transformer per frame, a gated core, a decoder of masked futures.

Source: Recurrent Video Masked Autoencoders 2025, 2512.13684; representations4d, the
`rvm_inference_demo` notebook. Differs: frames are encoded outside the recurrence.
"""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int

from perceiver_stream.core import CoreInputs, Gated, gate
from perceiver_stream.models.rvm.config import Config, LayersConfig
from perceiver_stream.nn import (
  MLP,
  Attention,
  LayerNorm,
  Linear,
  SelfBlock,
  patchify,
  repeat_rows,
  sincos_1d,
  unpatchify,
)

NUM_DELTAS = 64  # size of the one-hot encoding of a target's distance; zeros beyond it


class ReadBlock(hk.Module):
  """x += cross(norm(x), y); x += MLP(norm(x)); x += self(norm(x)). `y` is not normalised."""

  def __init__(self, config: LayersConfig, *, name: str):
    super().__init__(name=name)
    self.config = config

  def __call__(self, x: Float[Array, "B N D"], y: Float[Array, "B M D"]) -> Float[Array, "B N D"]:
    """Returns the updated tokens, which attend to `y`."""
    heads, dim = self.config.num_heads, x.shape[-1]
    sizes: dict[str, int] = {"qk_dim": self.config.qkv_dim or dim, "output_dim": dim}
    cross = Attention(heads, **sizes, name="cross_attention")
    x = x + cross(LayerNorm(name="cross_norm")(x), y)
    x = x + MLP(self.config.mlp_dim, name="mlp")(LayerNorm(name="mlp_norm")(x))
    normed = LayerNorm(name="self_norm")(x)
    return x + Attention(heads, **sizes, name="self_attention")(normed, normed)


class ReadStack(hk.Module):
  """`ReadBlock`s and a norm."""

  @hk.name_like("__call__")
  def __init__(self, config: LayersConfig, *, name: str):
    super().__init__(name=name)
    self.blocks = [ReadBlock(config, name=f"block_{i}") for i in range(config.num_layers)]
    self.norm = LayerNorm(name="norm")

  def __call__(self, x: Float[Array, "B N D"], y: Float[Array, "B M D"]) -> Float[Array, "B N D"]:
    """Returns the transformed tokens, which attend to `y`."""
    for block in self.blocks:
      x = block(x, y)
    return self.norm(x)


class Rvm(hk.Module):
  """The network: encodes frames, updates the state, predicts masked future frames."""

  @hk.name_like("__call__")
  def __init__(self, config: Config, *, name: str = "rvm"):
    super().__init__(name=name)
    self.config = config
    c, e, width = config, config.encoder, config.decoder.dim or config.dim
    self.patch_embedding = Linear(c.dim, name="patches")
    self.encoder = [
      SelfBlock(e.num_heads, mlp_dim=e.mlp_dim, name=f"encoder_{i}") for i in range(e.num_layers)
    ]
    self.encoder_norm = LayerNorm(name="encoder_norm")
    self.embed = Linear(width, name="decoder_input")
    self.ahead = Linear(width, name="delta")
    self.decoder = ReadStack(c.decoder, name="decoder")
    self.output = Linear(c.channels * c.patch**2, name="pixels")
    rows, columns = config.grid()
    self.core = Gated(
      (rows * columns + 1, config.dim),
      update=gate("update", config.dim),
      reset=gate("reset", config.dim),
      norm=LayerNorm(use_offset=False, eps=1e-4, name="state_norm"),
      propose=ReadStack(config.core, name="core"),
      name="recurrence",
    )

  # --- encoding -----------------------------------------------------------------------------------

  def encode(self, frames: Float[Array, "T B H W C"]) -> Float[Array, "T B N D"]:
    """Returns the tokens of all frames, CLS first, computed at once outside the scan."""
    tokens = self.vit(self.patches(frames.reshape(-1, *frames.shape[2:])))
    return tokens.reshape(*frames.shape[:2], *tokens.shape[1:])

  def patches(self, frames: Float[Array, "B H W C"]) -> Float[Array, "B P D"]:
    """Returns the patch tokens with positions."""
    c = self.config
    if frames.shape[1:] != (c.height, c.width, c.channels):
      raise ValueError(
        f"Rvm '{self.name}': frames {list(frames.shape)} are not [B, {c.height}, {c.width}, "
        f"{c.channels}]; resize them, or build the model for their size."
      )
    cut = patchify(frames, c.patch).reshape(frames.shape[0], -1, c.channels * c.patch**2)
    table = jnp.asarray(position_table(c.base_grid, c.grid(), c.dim), frames.dtype)
    return self.patch_embedding(cut) + repeat_rows(table, frames.shape[0])

  def vit(self, patches: Float[Array, "B P D"]) -> Float[Array, "B N D"]:
    """Returns the encoder's output for some patches, CLS first."""
    x = self.with_cls(patches)
    for i in range(self.config.encoder.num_layers + 1):
      x = self.encoded(i, x)
    return x

  def encoded(self, i: int, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
    """Returns tokens after encoder block i, from those before it; the last one normalises."""
    x = self.encoder[i - 1](x) if i else x
    return self.encoder_norm(x) if i == len(self.encoder) else x

  @hk.name_like("__call__")
  def with_cls(self, patches: Float[Array, "B P D"]) -> Float[Array, "B N D"]:
    """Returns patches with the CLS token in front."""
    cls = _vector("cls_token", patches.shape[-1]).astype(patches.dtype)
    return jnp.concatenate([repeat_rows(cls, patches.shape[0]), patches], axis=1)

  def unroll(
    self, inputs: CoreInputs, state: Float[Array, "B N D"]
  ) -> tuple[Float[Array, "T B N D"], Float[Array, "B N D"]]:
    """Returns the states after T frames, and the last; inputs have a leading T."""
    core = hk.remat(self.core) if self.config.remat else self.core
    unrolled: Any = hk.dynamic_unroll(core, inputs, state)
    return unrolled

  # --- predicting masked futures ------------------------------------------------------------------

  def predict_frames(
    self,
    memory: Float[Array, "T B N D"],
    target: Float[Array, "B H W C"],
    order: Int[Array, "B P"],
    delta: Int[Array, " B"] | None = None,
    num_visible: int | None = None,
  ) -> Float[Array, "B H W C"]:
    """Returns the target frame, predicted from a few of its patches and earlier states.

    Args:
      memory: States after the source frames; all are attended to.
      target: The frame to predict; only its visible patches are used.
      order: Order of its patches; the first `num_visible` are visible.
      delta: Frames between the last source frame and the target; None leaves it out.
      num_visible: Default: `config.num_visible()`; 0 predicts from memory only.
    """
    num_visible = self.config.num_visible() if num_visible is None else num_visible
    tokens, visible = self.patches(target), order[:, :num_visible]
    encoded = self.vit(jnp.take_along_axis(tokens, visible[..., None], axis=1))
    sources = self.embed(rearrange(memory, "t b n d -> b (t n) d"))
    queries = self.queries(encoded, self.mask(encoded.shape[0]), order, delta)
    return self.pixels(self.decoder(queries, sources))

  def queries(
    self,
    encoded: Float[Array, "B N D"],
    mask: Float[Array, "B 1 E"],
    order: Int[Array, "B P"],
    delta: Int[Array, " B"] | None,
  ) -> Float[Array, "B M E"]:
    """Returns the queries of the decoder: CLS, then every patch of the target.

    Args:
      encoded: The encoder's output for the visible patches, CLS first.
      mask: See `mask`.
      order: See `predict_frames`.
      delta: See `predict_frames`.
    """
    visible = self.embed(encoded)
    x = self._fill(visible, mask, order)
    if delta is not None:
      ahead = self.ahead(jax.nn.one_hot(delta, NUM_DELTAS, dtype=x.dtype))
      x = x + ahead[:, None]
    table = jnp.asarray(sincos_1d(order.shape[1], x.shape[-1]), x.dtype)
    return jnp.concatenate([visible[:, :1], x + repeat_rows(table, x.shape[0])], axis=1)

  def pixels(self, x: Float[Array, "B M E"]) -> Float[Array, "B H W C"]:
    """Returns the frame from the decoder's output; CLS is left out."""
    patches = self.output(x[:, 1:])
    return unpatchify(patches.reshape(x.shape[0], *self.config.grid(), -1), self.config.patch)

  @hk.name_like("__call__")
  def mask(self, batch_size: int) -> Float[Array, "B 1 E"]:
    """Returns the token of a hidden patch."""
    width = self.config.decoder.dim or self.config.dim
    return repeat_rows(_vector("mask_token", width), batch_size)

  def _fill(self, visible: Array, mask: Array, order: Array) -> Float[Array, "B P E"]:
    """Returns patches in row-major order, with the mask token for hidden ones."""
    hidden = (order.shape[0], order.shape[1] - visible.shape[1] + 1, visible.shape[-1])
    parts = [visible[:, 1:], jnp.broadcast_to(mask.astype(visible.dtype), hidden)]
    x = jnp.concatenate(parts, axis=1)
    return jnp.take_along_axis(x, jnp.argsort(order, axis=1)[..., None], axis=1)


def _vector(name: str, dim: int) -> Float[Array, "1 D"]:
  return hk.get_parameter(name, (1, dim), jnp.float32, hk.initializers.TruncatedNormal(0.02))


def position_table(
  base: tuple[int, int], grid: tuple[int, int], dim: int
) -> Float[np.ndarray | Array, "P D"]:
  """Returns the encoder's position table, interpolated if the grid is not its base grid."""
  table = sincos_1d(base[0] * base[1], dim)
  if grid == base:
    return table
  with jax.ensure_compile_time_eval():
    shaped = jnp.asarray(table.reshape(*base, dim), jnp.float32)
    resized = jax.image.resize(shaped, (*grid, dim), "bicubic", antialias=True)
  return np.asarray(resized).reshape(-1, dim)


def draw_orders(
  key: Array, batch_size: int, num_patches: int, *, shared: bool = False
) -> Int[Array, "B P"]:
  """Returns random orders of patches: one per row, or one for all as in the released code."""
  if shared:
    order = jax.random.permutation(key, num_patches)
    return jnp.broadcast_to(order[None], (batch_size, num_patches))
  keys = jax.random.split(key, batch_size)
  return jax.vmap(lambda k: jax.random.permutation(k, num_patches))(keys)


def mask_of(order: Int[Array, "B P"], num_visible: int) -> Float[Array, "B P"]:
  """Returns 1 for hidden patches and 0 for visible ones."""
  return (jnp.argsort(order, axis=1) >= num_visible).astype(jnp.float32)
