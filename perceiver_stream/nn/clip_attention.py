"""Self-attention over the tokens of clips: over time, over space, over both, or by halves of heads."""

from typing import Literal

import haiku as hk
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn.attention import attend
from perceiver_stream.nn.layers import Linear
from perceiver_stream.nn.timeline import Timeline

Over = Literal["time", "space", "both", "halves"]
Tokens = Float[Array, "B T N D"]
Heads = Float[Array, "B T N M F"]


class ClipAttention(hk.Module):
  """Self-attention of tokens `[B, T, N, D]`.

  On a causal timeline a token attends to tokens of its own time and of the `memory - 1` times before
  it; on a stream their keys and values are the layer's memory.

  Args:
    num_heads: Attention heads.
    over: Tokens that one attends to: `"time"`: of the same place; `"space"`: of the same time;
      `"both"`: all; `"halves"`: the first half of the heads over time, the second over space.
    memory: Times that a token attends to if the timeline is causal.
    fused: If True, queries, keys and values are one linear map, `qkv`, as in timm.
    w_init: Initialiser of the weights; None: the default.
    output_init: Initialiser of the output projection's weight; None: `w_init`.
    name: Haiku name.

  Raises:
    ValueError: The heads do not divide the width, or cannot be halved.
  """

  def __init__(
    self,
    num_heads: int,
    *,
    over: Over,
    memory: int = 1,
    fused: bool = False,
    w_init: hk.initializers.Initializer | None = None,
    output_init: hk.initializers.Initializer | None = None,
    name: str,
  ):
    super().__init__(name=name)
    if over == "halves" and num_heads % 2:
      raise ValueError(
        f"ClipAttention '{name}': {num_heads} heads have no halves; use an even number."
      )
    self.num_heads = num_heads
    self.over: Over = over
    self.memory, self.fused = memory, fused
    self.w_init, self.output_init = w_init, output_init or w_init

  def __call__(self, x: Tokens, timeline: Timeline) -> Tokens:
    """Returns the output of every token."""
    q, k, v = self._projected(x)
    name, half = self.module_name, self.num_heads // 2
    if self.over == "halves":
      (q, q2), (k, k2), (v, v2) = (jnp.split(x, [half], axis=3) for x in (q, k, v))
      time = over_time(name, q, k, v, timeline, self.memory)
      y = jnp.concatenate([time, over_space(q2, k2, v2)], axis=3)
    elif self.over == "space":
      y = over_space(q, k, v)
    else:
      along = over_time if self.over == "time" else over_both
      y = along(name, q, k, v, timeline, self.memory)
    y = rearrange(y, "b t n m f -> b t n (m f)")
    return Linear(x.shape[-1], w_init=self.output_init, name="output")(y)

  @hk.name_like("__call__")
  def _projected(self, x: Tokens) -> tuple[Heads, Heads, Heads]:
    dim = x.shape[-1]
    if dim % self.num_heads:
      raise ValueError(
        f"ClipAttention '{self.module_name}': width {dim} is not a multiple of {self.num_heads} heads."
      )
    if self.fused:
      parts = jnp.split(Linear(3 * dim, w_init=self.w_init, name="qkv")(x), 3, axis=-1)
    else:
      parts = [Linear(dim, w_init=self.w_init, name=name)(x) for name in ("query", "key", "value")]
    q, k, v = (rearrange(p, "b t n (m f) -> b t n m f", m=self.num_heads) for p in parts)
    return q, k, v


def over_space(q: Heads, k: Heads, v: Heads) -> Heads:
  """Returns attention among the tokens of each time."""
  times = q.shape[1]
  q, k, v = (rearrange(x, "b t n m f -> (b t) n m f") for x in (q, k, v))
  return rearrange(attend(q, k, v), "(b t) n m f -> b t n m f", t=times)


def over_time(name: str, q: Heads, k: Heads, v: Heads, timeline: Timeline, memory: int) -> Heads:
  """Returns attention among the tokens of each place; see `over_both`."""
  places = q.shape[2]
  q, k, v = (rearrange(x, "b t n m f -> (b n) t 1 m f") for x in (q, k, v))
  y = over_both(name, q, k, v, timeline, memory)
  return rearrange(y, "(b n) t 1 m f -> b t n m f", n=places)


def over_both(name: str, q: Heads, k: Heads, v: Heads, timeline: Timeline, memory: int) -> Heads:
  """Returns attention among all tokens; causal in time if the timeline is.

  Args:
    name: Name of the layer's memory.
    q: Queries.
    k: Keys.
    v: Values.
    timeline: Timeline of the tokens.
    memory: Times, the newest included, that a token attends to if causal.
  """
  number, mask = q.shape[1] * q.shape[2], None
  if timeline.memory is not None:
    past = timeline.count(f"{name}/count")
    k, v = (timeline.window(f"{name}/{n}", x, memory) for n, x in (("keys", k), ("values", v)))
    known = jnp.arange(memory)[::-1] <= past
    mask = jnp.broadcast_to(jnp.repeat(known, k.shape[2]), (k.shape[0], k.shape[2] * memory))
  elif timeline.causal:
    mask = causal_mask(q.shape[1], q.shape[2], memory)
    mask = jnp.broadcast_to(mask[None], (q.shape[0], number, number))
  times = q.shape[1]
  q, k, v = (rearrange(x, "b t n m f -> b (t n) m f") for x in (q, k, v))
  return rearrange(attend(q, k, v, mask), "b (t n) m f -> b t n m f", t=times)


def causal_mask(times: int, places: int, memory: int) -> Bool[Array, "L L"]:
  """Returns True where a token (row) may attend to another (column); tokens are (time, place)."""
  time = jnp.repeat(jnp.arange(times), places)
  ago = time[:, None] - time[None]
  return (ago >= 0) & (ago < memory)
