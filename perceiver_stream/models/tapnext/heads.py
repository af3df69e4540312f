"""Positions, visibility and certainty from the tokens of points."""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.models.tapnext.config import Config
from perceiver_stream.nn import LayerNorm, Linear, exact_gelu, gelu

TEMPERATURE = 0.5  # logits are multiplied by it
REACH = 20  # bins on either side of the best one that count


class Heads(NamedTuple):
  """Outputs of both heads.

  Attributes:
    position: (row, column) in pixels of the table; the first pixel has its centre at 0.5.
    logits: Of the bins: those of the rows, then those of the columns.
    visible: Logit that the point is visible.
  """

  position: Float[Array, "*B 2"]
  logits: Float[Array, "*B K"]
  visible: Float[Array, "*B"]


class PointHeads(hk.Module):
  """Two MLPs with norms, of the coordinates' bins and of visibility."""

  def __init__(self, config: Config, *, name: str = "heads"):
    super().__init__(name=name)
    self.config = config

  def __call__(self, tokens: Float[Array, "*B D"]) -> Heads:
    """Returns positions and logits of the tokens of points."""
    logits = self._mlp("coordinates", 2 * self.config.bins, tokens)
    return Heads(soft_position(logits), logits, self._mlp("visible", 1, tokens)[..., 0])

  @hk.name_like("__call__")
  def _mlp(self, name: str, output_dim: int, x: Array) -> Array:
    c = self.config
    activation = exact_gelu if c.exact else gelu
    for i in range(2):
      x = Linear(c.head_dim, name=f"{name}_{i}")(x)
      x = activation(LayerNorm(eps=c.eps, name=f"{name}_norm_{i}")(x))
    return Linear(output_dim, name=f"{name}_2")(x)


def by_axis(logits: Float[Array, "*B K"]) -> Float[Array, "*B 2 N"]:
  """Returns the logits of rows and of columns."""
  return logits.reshape(*logits.shape[:-1], 2, logits.shape[-1] // 2)


def soft_position(logits: Float[Array, "*B K"]) -> Float[Array, "*B 2"]:
  """Returns (row, column): the mean over the bins near the best one, weighted by a softmax."""
  each = by_axis(logits)
  bins = jnp.arange(each.shape[-1])
  near = jnp.abs(_like(bins, each) - jnp.argmax(each, axis=-1, keepdims=True)) <= REACH
  weights = jnp.where(near, jax.nn.softmax(each * TEMPERATURE, axis=-1), 0.0)
  places = _like(bins.astype(jnp.float32) + 0.5, each)
  return jnp.sum(weights * places, axis=-1) / jnp.sum(weights, axis=-1)


def _like(vector: Array, like: Array) -> Array:
  return jax.lax.broadcast_in_dim(vector, like.shape, (like.ndim - 1,))


def certainty(
  position: Float[Array, "*B 2"],
  logits: Float[Array, "*B K"],
  radius: int,
  *,
  swapped: bool = False,
) -> Float[Array, "*B"]:
  """Returns the probability that the position is within a radius of the predicted one.

  Args:
    position: (row, column) as predicted.
    logits: Logits of the bins.
    radius: In bins.
    swapped: Compare the distance of row i and column j with the radius as that of row j and column
      i of the window, as the released torch code does.
  """
  each = jax.nn.softmax(by_axis(logits), axis=-1)
  num = each.shape[-1]
  side = min(2 * radius + 1, num)
  start = jnp.floor(position - radius - 0.5).astype(jnp.int32)
  start = jnp.clip(start, 0, num - side)
  index = start[..., None] + _like(jnp.arange(side), jnp.zeros((*start.shape, side)))
  mass = jnp.take_along_axis(each, index, axis=-1)
  away = jnp.square(index.astype(jnp.float32) + 0.5 - position[..., None])
  first, second = (1, 0) if swapped else (0, 1)
  squared = away[..., first, :, None] + away[..., second, None, :]
  product = mass[..., 0, :, None] * mass[..., 1, None, :]
  return jnp.sum(jnp.where(squared <= radius**2 + 1e-8, product, 0.0), axis=(-1, -2))
