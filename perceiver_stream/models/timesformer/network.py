"""TimeSformer: divided, joint and space-only attention over the patches of a clip.

Written from the description and from arrays that the released code (CC BY-NC 4.0,
facebookresearch/TimeSformer, timesformer/models/vit.py) gave; no code of it is used.
"""

from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perceiver_stream.models.clips import (
  ClipEncoder,
  ClipOutputs,
  ClipSpec,
  as_clip_encoder,
  outputs_of,
)
from perceiver_stream.models.timesformer.config import Config
from perceiver_stream.nn.clip_attention import ClipAttention
from perceiver_stream.nn.conv3d import convolve
from perceiver_stream.nn.drop_path import drop_path, dropout
from perceiver_stream.nn.layers import LayerNorm, Linear, exact_gelu
from perceiver_stream.nn.precision import broadcast
from perceiver_stream.nn.timeline import Timeline

NORMAL = hk.initializers.TruncatedNormal(0.02)


class Tokens(NamedTuple):
  """Tokens of a clip.

  Attributes:
    classes: Class tokens, `[B, S, 1, D]`: S is T if every frame has its own, else 1.
    patches: `[B, T, N, D]`.
  """

  classes: Float[Array, "B S 1 D"]
  patches: Float[Array, "B T N D"]

  def apply(self, layer: Callable[[Array], Array]) -> "Tokens":
    """Returns `layer` of both."""
    return Tokens(layer(self.classes), layer(self.patches))

  def plus(self, other: "Tokens") -> "Tokens":
    """Returns the sum."""
    return Tokens(self.classes + other.classes, self.patches + other.patches)


class Block(hk.Module):
  """Attention (divided: over time, then over space) and an MLP, each after a layer norm."""

  def __init__(self, config: Config, rate: float, *, name: str):
    super().__init__(name=name)
    self.config, self.rate = config, rate

  def __call__(self, x: Tokens, timeline: Timeline, is_training: bool) -> Tokens:
    """Returns the updated tokens."""
    c = self.config
    drop = lambda y: drop_path(y, self.rate, is_training)  # noqa: E731
    if c.kind == "divided_space_time":
      y = LayerNorm(eps=c.norm_eps, name="time_norm")(x.patches)
      y = drop(dropout(self._attention("time")(y, timeline), c.dropout, is_training))
      update = Linear(c.dim, w_init=jnp.zeros, name="time_output")(y)
      x = Tokens(x.classes, x.patches + update)
    x = x.plus(self._attended(x, timeline, is_training).apply(drop))
    norm = LayerNorm(eps=c.norm_eps, name="mlp_norm")
    hidden = Linear(c.mlp_dim, w_init=NORMAL, name="hidden")
    output = Linear(c.dim, w_init=NORMAL, name="output")
    hide = lambda y: dropout(exact_gelu(hidden(norm(y))), c.dropout, is_training)  # noqa: E731
    return x.plus(x.apply(lambda y: drop(dropout(output(hide(y)), c.dropout, is_training))))

  @hk.name_like("__call__")
  def _attention(self, over: str) -> ClipAttention:
    c = self.config
    memory, name = c.memory or c.num_frames, "time" if over == "time" else "attention"
    return ClipAttention(
      c.num_heads,
      over=over,  # pyright: ignore[reportArgumentType]
      memory=memory,
      fused=True,
      w_init=NORMAL,
      name=name,
    )

  @hk.name_like("__call__")
  def _attended(self, x: Tokens, timeline: Timeline, is_training: bool) -> Tokens:
    """Returns the residuals of attention over space, or of all tokens."""
    c, (batch, times, _, dim) = self.config, x.patches.shape
    norm = LayerNorm(eps=c.norm_eps, name="norm")
    joint = c.kind == "joint_space_time"
    attention = self._attention("both" if joint else "space")
    attend = lambda y, line: dropout(attention(norm(y), line), c.dropout, is_training)  # noqa: E731
    own = x.classes.shape[1] == times and (timeline.causal or c.kind == "space_only")
    if joint and not own:
      flat = jnp.concatenate([x.classes, x.patches.reshape(batch, 1, -1, dim)], axis=2)
      y = attend(flat, Timeline())
      return Tokens(y[:, :, :1], y[:, :, 1:].reshape(x.patches.shape))
    classes = jnp.broadcast_to(x.classes, (batch, times, 1, dim))
    y = attend(jnp.concatenate([classes, x.patches], axis=2), timeline)
    classes = y[:, :, :1] if own else jnp.mean(y[:, :, :1], axis=1, keepdims=True)
    return Tokens(classes, y[:, :, 1:])


class TimeSformer(hk.Module):
  """Patches with positions, blocks, layer norm, linear classifier on the class token."""

  def __init__(self, config: Config, *, name: str = "timesformer"):
    super().__init__(name=name)
    config.validate()
    self.config = config

  def __call__(
    self, clips: Float[Array, "B T H W C"], timeline: Timeline, is_training: bool
  ) -> tuple[ClipOutputs, Timeline]:
    """Returns the outputs.

    Parts `block_0` and so on are patches `[B, T, N, D]`, `class_0` class tokens `[B, S, 1, D]`.
    """
    c = self.config
    grid = self._patches(clips)
    x = self._with_positions(grid, timeline).apply(lambda y: dropout(y, c.dropout, is_training))
    x = self._with_times(x, timeline, is_training)
    parts = {}
    for i in range(c.num_layers):
      rate = c.drop_path * i / max(c.num_layers - 1, 1)
      x = Block(c, rate, name=f"block_{i}")(x, timeline, is_training)
      parts |= {f"block_{i}": x.patches, f"class_{i}": x.classes}
    norm = LayerNorm(eps=c.norm_eps, name="norm")
    pooled = norm(jnp.mean(x.classes, axis=1))[:, 0]
    features = norm(x.patches).reshape(grid.shape)
    return outputs_of(features, pooled, self._logits(pooled), parts), timeline

  @hk.name_like("__call__")
  def _patches(self, clips: Float[Array, "B T H W C"]) -> Float[Array, "B T h w D"]:
    c = self.config
    shape = (c.patch, c.patch, clips.shape[-1], c.dim)
    w = hk.get_parameter("patches_w", shape, jnp.float32, NORMAL).astype(clips.dtype)
    y = convolve(clips, w[None], (1, c.patch, c.patch), [(0, 0)] * 3)
    return y + broadcast(hk.get_parameter("patches_b", (c.dim,), jnp.float32, jnp.zeros), y)

  @hk.name_like("__call__")
  def _with_positions(self, grid: Float[Array, "B T h w D"], timeline: Timeline) -> Tokens:
    """Returns tokens with their positions in space; the class token has one, too."""
    c, (batch, times, rows, columns, dim) = self.config, grid.shape
    token = hk.get_parameter("class_token", (dim,), jnp.float32, NORMAL)
    number = c.grid[0] * c.grid[1]
    table = hk.get_parameter("positions", (1 + number, dim), jnp.float32, NORMAL)
    down, across = nearest(c.grid[0], rows), nearest(c.grid[1], columns)
    places = table[1:].reshape(*c.grid, dim)[down][:, across].reshape(1, 1, -1, dim)
    own = times if timeline.causal or c.kind == "space_only" else 1
    classes = jnp.broadcast_to((token + table[0])[None, None, None], (batch, own, 1, dim))
    patches = grid.reshape(batch, times, -1, dim)
    return Tokens(
      classes.astype(grid.dtype),
      patches + jnp.broadcast_to(places, patches.shape).astype(grid.dtype),
    )

  @hk.name_like("__call__")
  def _with_times(self, x: Tokens, timeline: Timeline, is_training: bool) -> Tokens:
    """Returns tokens with their positions in time, which class tokens have none of."""
    c, times = self.config, x.patches.shape[1]
    if c.kind == "space_only":
      return x
    table = hk.get_parameter("times", (c.num_frames, c.dim), jnp.float32, jnp.zeros)
    if timeline.memory is not None:
      now = timeline.count(f"{self.module_name}/count")[None] % c.num_frames
    elif timeline.causal:
      now = np.arange(times) % c.num_frames
    else:
      now = nearest(c.num_frames, times)
    added = table[now][None, :, None].astype(x.patches.dtype)
    patches = x.patches + jnp.broadcast_to(added, x.patches.shape)
    return Tokens(x.classes, dropout(patches, c.dropout, is_training))

  @hk.name_like("__call__")
  def _logits(self, pooled: Float[Array, "B D"]) -> Float[Array, "B K"] | None:
    size = self.config.num_classes
    return Linear(size, w_init=NORMAL, name="classifier")(pooled) if size else None


def nearest(old: int, new: int) -> Int[np.ndarray, " N"]:
  """Returns the rows of a table of `old` positions for `new` ones, as torch's `"nearest"` has them.

  >>> nearest(4, 6).tolist()
  [0, 0, 1, 2, 2, 3]
  """
  step = np.float32(old) / np.float32(new)
  return np.minimum(np.floor(np.arange(new, dtype=np.float32) * step), old - 1).astype(int)


def build(config: Config) -> ClipEncoder:
  """Returns the encoder that `config` describes.

  Raises:
    ValueError: Fields do not fit together.
  """
  c = config
  c.validate()
  return as_clip_encoder(
    lambda: TimeSformer(c),
    c,
    ClipSpec.of(c),
    name=f"timesformer ({c.kind})",
    causal=c.causal or c.kind == "space_only",
    reason="Its tokens attend to later ones, directly and through the class token; build it with "
    "causal=True.",
  )
