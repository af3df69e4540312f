"""Random subsets of the tubelets of each clip, and attention among their tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.nn.attention import attend

Heads = Float[Array, "B K M F"]


class Kept(NamedTuple):
  """The tubelets that are encoded.

  Attributes:
    times: Tubelets over time.
    places: Tubelets over space.
    ids: Their numbers in each row, rising, time after time; None: all.
  """

  times: int
  places: int
  ids: Int[Array, "B K"] | None = None

  def take(self, tokens: Float[Array, "B N ..."]) -> Float[Array, "B K ..."]:
    """Returns the tokens of the kept tubelets among those of all."""
    if self.ids is None:
      return tokens
    return jax.vmap(lambda x, i: x[i])(tokens, self.ids)

  def put(self, tokens: Float[Array, "B K ..."]) -> Float[Array, "B N ..."]:
    """Returns the tokens at their tubelets, and zeros at the others."""
    if self.ids is None:
      return tokens
    blank = jnp.zeros((self.times * self.places, *tokens.shape[2:]), tokens.dtype)
    return jax.vmap(lambda x, i: blank.at[i].set(x, unique_indices=True))(tokens, self.ids)

  def present(self, num_rows: int) -> Bool[Array, "B N"]:
    """Returns True at kept tubelets."""
    if self.ids is None:
      return jnp.ones((num_rows, self.times * self.places), bool)
    return self.put(jnp.ones(self.ids.shape, jnp.float32)) > 0


def draw_kept(rng: Array, num_rows: int, num_kept: int, times: int, places: int) -> Kept:
  """Returns `num_kept` random tubelets for each row, uniform over all subsets of that size."""
  noise = jax.random.uniform(rng, (num_rows, times * places))
  return Kept(times, places, jnp.sort(jnp.argsort(noise, axis=1)[:, :num_kept], axis=1))


def attend_kept(q: Heads, k: Heads, v: Heads, kept: Kept, over: str) -> Heads:
  """Returns attention among the kept tubelets.

  Args:
    q: Queries.
    k: Keys.
    v: Values.
    kept: Tubelets of the tokens.
    over: `"both"`: all; `"space"`: those of the same time; `"time"`: those of the same place. The
      latter two are computed on the whole grid, where tubelets that are left out are no keys.
  """
  if over == "both":
    return attend(q, k, v)
  sizes = {"t": kept.times, "n": kept.places}
  rows = "(b t) n" if over == "space" else "(b n) t"
  q, k, v = (rearrange(kept.put(x), f"b (t n) m f -> {rows} m f", **sizes) for x in (q, k, v))
  mask = None
  if kept.ids is not None:
    mask = rearrange(kept.present(len(kept.ids)), f"b (t n) -> {rows}", **sizes)
  found = rearrange(attend(q, k, v, mask), f"{rows} m f -> b (t n) m f", **sizes)
  return kept.take(found)
