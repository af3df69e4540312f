"""V-JEPA: an encoder of tubelets and a narrow predictor of the features of hidden ones.

Source: Bardes et al. 2024, 2404.08471 (V-JEPA); Assran et al. 2025, 2506.09985 (V-JEPA 2);
facebookresearch/jepa, whose code is CC BY-NC 4.0 and was not copied: this is written from its
description and compared by stored numbers; facebookresearch/vjepa2, MIT.
"""

import functools

import haiku as hk
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.models.clips import (
  ClipEncoder,
  ClipOutputs,
  ClipSpec,
  TokenBlock,
  as_clip_encoder,
  outputs_of,
)
from perceiver_stream.models.vjepa.blocks import Block, Rotation, linear, normal
from perceiver_stream.models.vjepa.config import Config, check
from perceiver_stream.models.vjepa.positions import resized_table, sincos_table
from perceiver_stream.nn.layers import LayerNorm, Linear
from perceiver_stream.nn.timeline import Timeline

Clips = Float[Array, "B T H W C"]
Places = Int[Array, "B K"]


def gathered(tokens: Float[Array, "B N D"], places: Places) -> Float[Array, "B K D"]:
  """Returns the tokens at some places of each row."""
  return jnp.take_along_axis(tokens, places[..., None], axis=1)


def all_places(rows: int, num: int) -> Places:
  """Returns 0 to num - 1 for each row."""
  return jnp.broadcast_to(jnp.arange(num)[None], (rows, num))


class Encoder(hk.Module):
  """Vision transformer of tubelets, with a norm at the end and no class token."""

  def __init__(self, config: Config, *, name: str = "vjepa"):
    super().__init__(name=name)
    check(config)
    self.config = config

  def __call__(
    self, clips: Clips, places: Places | None = None, visible: Bool[Array, "B N"] | None = None
  ) -> Float[Array, "B K D"]:
    """Returns the features of tubelets, row-major over time, rows and columns.

    Args:
      clips: Normalised. Other sizes than the config's are read too, in whole tubelets: the table is
        interpolated.
      places: Tubelets that are encoded, K; None: all. Their positions are added before.
      visible: Instead of `places`: tubelets that may be attended to. Features of the others are
        computed, and have no meaning; those of visible ones are as if only they were given.
    """
    c = self.config
    x, grid = self._tubelets(clips)
    kept = all_places(*x.shape[:2]) if places is None else places
    x = x if places is None else gathered(x, places)
    rotation = None
    if c.positions == "rotary":
      rotation = Rotation(kept, grid[1:], c.rotary_as_released)
    for block in self._blocks(rotation, visible):
      x = block(x)
    return x

  @hk.name_like("__call__")
  def tokens_and_blocks(self, clips: Clips) -> tuple[Float[Array, "B N D"], list[TokenBlock]]:
    """Returns tokens and blocks; see `models.clips.TokenNetwork`."""
    if self.config.positions == "rotary":
      raise ValueError(
        "vjepa: blocks with positions='rotary' need a place of every token, and prompts have none; "
        "use positions='table'."
      )
    return self._tubelets(clips)[0], self._blocks()

  @hk.name_like("__call__")
  def _blocks(
    self, rotation: Rotation | None = None, visible: Bool[Array, "B N"] | None = None
  ) -> list[TokenBlock]:
    c, args = self.config, {"rotation": rotation, "mask": visible}
    make = lambda i: Block(c.num_heads, c.mlp_dim or 4 * c.dim, name=f"block_{i}")  # noqa: E731
    blocks = [functools.partial(make(i), **args) for i in range(c.num_layers)]
    return [*blocks, LayerNorm(name="norm")]

  @hk.name_like("__call__")
  def _tubelets(self, clips: Clips) -> tuple[Float[Array, "B N D"], tuple[int, int, int]]:
    c = self.config
    cut = rearrange(
      clips,
      "b (t u) (h p) (w q) c -> b t h w (c u p q)",
      u=c.tubelet,
      p=c.patch,
      q=c.patch,
    )
    x = Linear(c.dim, w_init=normal, name="patches")(cut.reshape(cut.shape[0], -1, cut.shape[-1]))
    grid = (cut.shape[1], cut.shape[2], cut.shape[3])
    if c.positions == "table":
      x = x + jnp.broadcast_to(jnp.asarray(_table(c, grid, c.dim), x.dtype)[None], x.shape)
    return x, grid


class Predictor(hk.Module):
  """Narrow transformer over features of visible tubelets and mask tokens at hidden ones."""

  def __init__(self, config: Config, *, name: str = "predictor"):
    super().__init__(name=name)
    self.config = config

  def __call__(
    self,
    context: Float[Array, "B K D"],
    seen: Places,
    hidden: Int[Array, "B M"],
    mask_token: int = 0,
  ) -> Float[Array, "B M D"]:
    """Returns the predicted features of the hidden tubelets.

    Args:
      context: The encoder's features of the visible tubelets.
      seen: Their places in the config's grid. Rotations take its height for its width, too, as
        released.
      hidden: Places to predict.
      mask_token: Index of the learned token of the hidden ones. Version 1 has one for each set of
        masks; version 2 one for each length of clips, so that only the first is ever used.
    """
    x = linear(self.config.predictor.dim, "embed")(context)
    token = jnp.broadcast_to(self._token(mask_token), (*hidden.shape, x.shape[-1]))
    x = jnp.concatenate([x, token], axis=1)
    x = self._blocks(x, jnp.concatenate([seen, hidden], axis=1), None)
    return linear(self.config.dim, "project")(x[:, context.shape[1] :])

  @hk.name_like("__call__")
  def dense(
    self,
    features: Float[Array, "B N D"],
    seen: Bool[Array, "B N"],
    hidden: Bool[Array, "B N"],
    mask_token: int | Int[Array, " B"] = 0,
  ) -> Float[Array, "B N D"]:
    """Returns predictions at all places, of which those that are `hidden` have a meaning.

    The same numbers as a call with places, in arrays whose shapes do not depend on the masks. Rows
    may have different mask tokens.
    """
    x = linear(self.config.predictor.dim, "embed")(features)
    x = jnp.where(seen[..., None], x, jnp.broadcast_to(self._token(mask_token), x.shape))
    x = self._blocks(x, all_places(*x.shape[:2]), seen | hidden)
    return linear(self.config.dim, "project")(x)

  @hk.name_like("__call__")
  def _token(self, index: int | Int[Array, " B"]) -> Float[Array, "#B 1 C"]:
    c = self.config.predictor
    tokens = [
      hk.get_parameter(f"mask_token_{i}", (1, 1, c.dim), jnp.float32, jnp.zeros)
      for i in range(c.num_mask_tokens)
    ]
    if isinstance(index, int):
      return tokens[index % c.num_mask_tokens]
    return jnp.concatenate(tokens)[index % c.num_mask_tokens]

  @hk.name_like("__call__")
  def _blocks(
    self, x: Float[Array, "B N C"], places: Places, mask: Bool[Array, "B N"] | None
  ) -> Float[Array, "B N C"]:
    c, p = self.config, self.config.predictor
    rotation = None
    if c.positions == "table":
      table = jnp.asarray(_table(c, c.grid, p.dim), x.dtype)
      x = x + table[places]
    else:
      rotation = Rotation(places, (c.grid[1], c.grid[1]), c.rotary_as_released)
    for i in range(p.num_layers):
      x = Block(p.num_heads, p.mlp_dim or 4 * p.dim, name=f"block_{i}")(x, rotation, mask)
    return LayerNorm(name="norm")(x)


def _table(config: Config, grid: tuple[int, int, int], dim: int):
  table = sincos_table(config.grid, dim, uniform=config.uniform_power)
  return table if grid == config.grid else resized_table(table, config.grid, grid)


class ClipNetwork:
  """The encoder as a network of clips, made inside a Haiku transform."""

  def __init__(self, config: Config):
    self.config, self.encoder = config, Encoder(config)
    self.tokens_and_blocks = self.encoder.tokens_and_blocks

  def __call__(
    self, clips: Clips, timeline: Timeline, is_training: bool
  ) -> tuple[ClipOutputs, Timeline]:
    """Returns the features of all tubelets, and their mean."""
    del is_training
    c, tokens = self.config, self.encoder(clips)
    shape = (clips.shape[1] // c.tubelet, clips.shape[2] // c.patch, clips.shape[3] // c.patch)
    features = tokens.reshape(tokens.shape[0], *shape, tokens.shape[-1])
    return outputs_of(features, jnp.mean(tokens, axis=1), None), timeline


def build(config: Config) -> ClipEncoder:
  """Returns the encoder that `config` describes; the predictor is trained by the objective."""
  c = config
  check(c)
  return as_clip_encoder(
    lambda: ClipNetwork(config),
    config,
    ClipSpec.of(c, channels=c.channels),
    name="vjepa",
    reason="All tubelets attend to each other, later ones too; encode whole clips with `apply`.",
  )
