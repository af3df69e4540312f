"""ViViT: transformers over the tubelets of a clip, in four factorisations of space and time.

Source: google-research/scenic, scenic/projects/vivit/{model,model_utils}.py. Names of modules differ;
`weights.py` has the released ones.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.models.clips import (
  ClipEncoder,
  ClipOutputs,
  ClipSpec,
  TokenBlock,
  as_clip_encoder,
  outputs_of,
)
from perceiver_stream.models.vivit.config import Config
from perceiver_stream.nn.clip_attention import ClipAttention, Over
from perceiver_stream.nn.conv3d import central_frame, convolve
from perceiver_stream.nn.drop_path import drop_path, dropout
from perceiver_stream.nn.layers import LayerNorm, Linear, gelu, lecun_normal
from perceiver_stream.nn.precision import broadcast
from perceiver_stream.nn.timeline import Timeline

Tokens = Float[Array, "B T N D"]
XAVIER = hk.initializers.VarianceScaling(1.0, "fan_avg", "uniform")
_OVER: dict[str, Over] = {
  "spacetime": "both",
  "factorized_self_attention_block": "time",
  "factorized_dot_product_attention": "halves",
}
_ORDERS: dict[str, tuple[Over, Over]] = {
  "time_space": ("time", "space"),
  "space_time": ("space", "time"),
}
_POOL = {"gap": jnp.mean, "gmp": jnp.max, "gsp": jnp.sum}


class Tubelets(hk.Module):
  """Linear map of each tubelet; weight `[t, h, w, C, D]`."""

  def __init__(self, config: Config, *, name: str):
    super().__init__(name=name)
    self.config = config

  def __call__(
    self, clips: Float[Array, "B T H W C"], timeline: Timeline
  ) -> tuple[Float[Array, "B t h w D"], Timeline]:
    """Returns tokens; on a stream new ones with the last frame of each tubelet."""
    c = self.config
    shape = (c.patch_frames, c.patch_height, c.patch_width, clips.shape[-1], c.dim)
    start = _central if c.tubelet_init == "central_frame" else lecun_normal()
    w = hk.get_parameter("w", shape, jnp.float32, start).astype(clips.dtype)
    after = timeline.every(self.module_name, c.patch_frames, c.patch_frames - 1)
    if timeline.memory is not None:
      clips = timeline.window(f"{self.module_name}/past", clips, c.patch_frames)
    y = after.compute(lambda x: convolve(x, w, shape[:3], [(0, 0)] * 3), clips)
    return y + broadcast(hk.get_parameter("b", (c.dim,), jnp.float32, jnp.zeros), y), after


class Block(hk.Module):
  """Attention (of model 3: over time and over space) and an MLP, each after a layer norm."""

  def __init__(self, config: Config, over: Over, rate: float, *, name: str):
    super().__init__(name=name)
    self.config, self.rate = config, rate
    self.over: Over = over

  def __call__(self, x: Tokens, timeline: Timeline, is_training: bool) -> Tokens:
    """Returns the updated tokens."""
    c = self.config
    if c.kind == "factorized_self_attention_block":
      for over in _ORDERS[c.attention_order]:
        x = x + self._attended(x, timeline, is_training, over, over)
      return x + self._mlp(x, is_training)
    y = self._attended(x, timeline, is_training, self.over, "attention")
    x = x + drop_path(y, self.rate, is_training, rescale=False)
    return x + drop_path(self._mlp(x, is_training), self.rate, is_training, rescale=False)

  @hk.name_like("__call__")
  def _attended(
    self, x: Tokens, timeline: Timeline, is_training: bool, over: Over, name: str
  ) -> Tokens:
    c = self.config
    zero = jnp.zeros if over == "time" and c.zero_init_time else None
    y = LayerNorm(eps=c.norm_eps, name=f"{name}_norm")(x)
    memory = c.memory or c.grid[0]
    attention = ClipAttention(
      c.num_heads, over=over, memory=memory, w_init=XAVIER, output_init=zero, name=name
    )
    return dropout(attention(y, timeline), c.dropout, is_training)

  @hk.name_like("__call__")
  def _mlp(self, x: Tokens, is_training: bool) -> Tokens:
    c = self.config
    y = LayerNorm(eps=c.norm_eps, name="mlp_norm")(x)
    y = dropout(gelu(Linear(c.mlp_dim, w_init=XAVIER, name="hidden")(y)), c.dropout, is_training)
    return dropout(Linear(x.shape[-1], w_init=XAVIER, name="output")(y), c.dropout, is_training)


class Transformer(hk.Module):
  """Positions, blocks and a last layer norm."""

  def __init__(self, config: Config, over: Over, num_layers: int, *, name: str):
    super().__init__(name=name)
    self.config, self.num_layers = config, num_layers
    self.over: Over = over

  def __call__(
    self, x: Tokens, positions: tuple[int, int], timeline: Timeline, is_training: bool
  ) -> Tokens:
    """Returns the encoded tokens.

    Args:
      x: Tokens.
      positions: Times and places of the table of positions; on a causal timeline times repeat.
      timeline: Timeline of the tokens.
      is_training: If True, dropout is on.
    """
    x = dropout(self.with_positions(x, positions, timeline), self.config.dropout, is_training)
    for block in self.blocks(timeline, is_training):
      x = block(x)
    return x

  @hk.name_like("__call__")
  def blocks(self, timeline: Timeline, is_training: bool) -> list[Callable[[Tokens], Tokens]]:
    """Returns the layers as functions of tokens, the norm last."""
    c = self.config
    rates = [c.drop_path * i / max(self.num_layers - 1, 1) for i in range(self.num_layers)]
    layers = [Block(c, self.over, rate, name=f"block_{i}") for i, rate in enumerate(rates)]
    line = {"timeline": timeline, "is_training": is_training}
    norm = LayerNorm(eps=c.norm_eps, name="norm")
    return [*(functools.partial(layer, **line) for layer in layers), norm]

  @hk.name_like("__call__")
  def with_positions(self, x: Tokens, positions: tuple[int, int], timeline: Timeline) -> Tokens:
    """Returns tokens plus their positions; see `__call__`."""
    times, places = positions
    if x.shape[2] != places or not timeline.causal and x.shape[1] != times:
      raise ValueError(
        f"vivit: clips have {x.shape[1]} × {x.shape[2]} tokens (times × places), but there are "
        f"positions for {times} × {places}; resize the clips, or the table (`vivit.positions`)."
      )
    init = hk.initializers.RandomNormal(0.02)
    table = hk.get_parameter("positions", (times * places, x.shape[-1]), jnp.float32, init)
    table = table.reshape(times, places, -1).astype(x.dtype)
    if timeline.memory is not None:
      now = timeline.count(f"{self.module_name}/count")[None]
    else:
      now = jnp.arange(x.shape[1])
    return x + jnp.broadcast_to(table[now % times][None], x.shape)


class ViViT(hk.Module):
  """Tubelets, one or two transformers, pooling, linear classifier."""

  def __init__(self, config: Config, *, name: str = "vivit"):
    super().__init__(name=name)
    config.validate()
    self.config = config

  def __call__(
    self, clips: Float[Array, "B T H W C"], timeline: Timeline, is_training: bool
  ) -> tuple[ClipOutputs, Timeline]:
    """Returns the outputs; part `tokens` of models 1, 3, 4: `[B, L, D]`, the class token first."""
    c = self.config
    grid, timeline = Tubelets(c, name="tubelets")(clips, timeline)
    x = grid.reshape(*grid.shape[:2], -1, c.dim)
    encode = self._two_encoders if c.kind == "factorized_encoder" else self._one_encoder
    features, pooled, parts = encode(x, timeline, is_training)
    if features.shape[2] == x.shape[2]:
      features = features.reshape(grid.shape)
    else:
      features = features[:, :, :, None]
    return outputs_of(features, pooled, self._logits(pooled), parts), timeline

  @hk.name_like("__call__")
  def _one_encoder(
    self, x: Tokens, timeline: Timeline, is_training: bool
  ) -> tuple[Float[Array, "B T N D"], Float[Array, "B D"], dict[str, Array]]:
    c, shape = self.config, x.shape
    x, positions = self._one_set(x)
    transformer = Transformer(c, _OVER[c.kind], c.num_layers, name="transformer")
    x = transformer(x, positions, timeline, is_training)
    tokens = x.reshape(shape[0], -1, c.dim)
    pooled = self._pooled(tokens)
    grid = tokens[:, 1:] if c.classifier == "token" else tokens
    return grid.reshape(shape), pooled, {"tokens": tokens}

  @hk.name_like("__call__")
  def _one_set(self, x: Tokens) -> tuple[Float[Array, "B S M D"], tuple[int, int]]:
    """Returns tokens with the class token, if there is one, and their times and places."""
    c = self.config
    positions = (c.grid[0], c.grid[1] * c.grid[2])
    if c.classifier != "token":
      return x, positions
    x = self._with_class(x.reshape(x.shape[0], 1, -1, c.dim), "class_token")
    return x, (1, positions[0] * positions[1] + 1)

  @hk.name_like("__call__")
  def tokens_and_blocks(
    self, clips: Float[Array, "B T H W C"]
  ) -> tuple[Float[Array, "B N D"], list[TokenBlock]]:
    """Returns tokens and blocks without dropout; see `models.clips.TokenNetwork`."""
    c = self.config
    if c.kind != "spacetime" or c.causal:
      raise ValueError(
        f"vivit: blocks of kind={c.kind!r}, causal={c.causal} need the time of every token, and "
        f"prompts have none; use kind='spacetime', causal=False."
      )
    grid, _ = Tubelets(c, name="tubelets")(clips, Timeline())
    x, positions = self._one_set(grid.reshape(*grid.shape[:2], -1, c.dim))
    transformer = Transformer(c, "both", c.num_layers, name="transformer")
    x = transformer.with_positions(x, positions, Timeline())
    flat = lambda block: lambda y: block(y[:, None])[:, 0]  # noqa: E731
    blocks = [flat(block) for block in transformer.blocks(Timeline(), False)]
    return x.reshape(x.shape[0], -1, c.dim), blocks

  @hk.name_like("__call__")
  def _two_encoders(
    self, x: Tokens, timeline: Timeline, is_training: bool
  ) -> tuple[Float[Array, "B T 1 D"], Float[Array, "B D"], dict[str, Array]]:
    c, (batch, times) = self.config, x.shape[:2]
    has_class = c.classifier == "token"
    x = x.reshape(-1, 1, *x.shape[2:])
    x = self._with_class(x, "spatial_class_token") if has_class else x
    spatial = Transformer(c, "space", c.num_layers, name="spatial")
    x = spatial(x, (1, c.grid[1] * c.grid[2] + has_class), Timeline(), is_training)
    x = self._pooled(x[:, 0]).reshape(batch, times, 1, c.dim)
    if has_class:
      x = self._with_class(x.reshape(batch, 1, times, c.dim), "temporal_class_token")
      positions, over = (1, c.grid[0] + 1), "both"
    else:
      positions, over = (c.grid[0], 1), "time"
    temporal = Transformer(c, over, c.num_temporal_layers, name="temporal")
    x = temporal(x, positions, timeline, is_training).reshape(batch, -1, c.dim)
    return x[:, has_class:, None], self._pooled(x), {}

  @hk.name_like("__call__")
  def _with_class(self, x: Tokens, name: str) -> Float[Array, "B T M D"]:
    token = hk.get_parameter(name, (self.config.dim,), jnp.float32, jnp.zeros).astype(x.dtype)
    token = jnp.broadcast_to(token[None, None, None], (*x.shape[:2], 1, x.shape[-1]))
    return jnp.concatenate([token, x], axis=2)

  @hk.name_like("__call__")
  def _pooled(self, x: Float[Array, "B L D"]) -> Float[Array, "B D"]:
    kind = self.config.classifier
    return x[:, 0] if kind == "token" else _POOL[kind](x, axis=1)

  @hk.name_like("__call__")
  def _logits(self, pooled: Float[Array, "B D"]) -> Float[Array, "B K"] | None:
    size = self.config.num_classes
    return Linear(size, w_init=jnp.zeros, name="classifier")(pooled) if size else None


def _central(shape: Sequence[int], dtype: Any) -> Array:
  return central_frame(lecun_normal()(shape[1:], dtype), shape[0])


def build(config: Config) -> ClipEncoder:
  """Returns the encoder that `config` describes.

  Raises:
    ValueError: Fields do not fit together.
  """
  c = config
  c.validate()
  return as_clip_encoder(
    lambda: ViViT(c),
    c,
    ClipSpec.of(c),
    name=f"vivit ({c.kind})",
    causal=c.causal,
    reason="Its tokens attend to later ones; build it with causal=True and classifier='gap'.",
  )
