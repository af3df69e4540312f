"""Rings of the newest rows of a stream of batches: pytrees of fixed shapes, part of the train state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.nn.losses.coclr import ring_places
from perceiver_stream.nn.losses.contrastive import unit_length


class Ring(NamedTuple):
  """The newest rows.

  Attributes:
    rows: In no order of time.
    place: Row that is replaced next.
    filled: Rows that were put so far, at most N.
  """

  rows: Float[Array, "N ..."]
  place: Int[Array, ""]
  filled: Int[Array, ""]

  @property
  def known(self) -> Bool[Array, " N"]:
    """True for rows that were put."""
    return jnp.arange(self.rows.shape[0]) < self.filled


def empty_ring(size: int, *shape: int) -> Ring:
  """Returns a ring of zeros, none of which is known."""
  return Ring(jnp.zeros((size, *shape)), jnp.int32(0), jnp.int32(0))


def random_ring(rng: Array, size: int, dim: int) -> Ring:
  """Returns a ring of random unit vectors."""
  return empty_ring(size, dim)._replace(rows=unit_length(jax.random.normal(rng, (size, dim))))


def put(ring: Ring, new: Float[Array, "B ..."], valid: Bool[Array, " B"]) -> Ring:
  """Returns the ring with valid rows in place of the oldest; no gradient flows.

  Raises:
    ValueError: The batch is larger than the ring.
  """
  size, batch = ring.rows.shape[0], new.shape[0]
  if batch > size:
    raise ValueError(
      f"self_supervised: {batch} rows do not fit into a memory of {size}; enlarge it."
    )
  places, count = ring_places(ring.place, size, valid)
  rows = ring.rows.at[places].set(jax.lax.stop_gradient(new), mode="drop")
  return Ring(rows, (ring.place + count) % size, jnp.minimum(ring.filled + count, size))
