"""What models of one stream of frames share: remembering them, and picking cells of a picture."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.modalities import Memory, Modality
from perceiver_stream.types import IS_FIRST, Observation, valid_key


def remember_ticks(
  modality: Modality, memory: Memory, observations: Observation
) -> tuple[Memory, Bool[Array, "T B"], Bool[Array, "T B"]]:
  """Returns the memory after every tick, where there was an observation, and where one starts.

  Args:
    modality: What is remembered.
    memory: Before the first tick.
    observations: Arrays `[T, B, ...]`; see `types.Observation`.
  """
  name = modality.name
  leading = observations[name].shape[:2]
  flag = lambda key, default: jnp.asarray(  # noqa: E731
    observations.get(key, jnp.full(leading, default)), bool
  )
  valid, is_first = flag(valid_key(name), True), flag(IS_FIRST, False)

  def tick(memory: Memory, now: tuple[Array, Array, Array]) -> tuple[Memory, Memory]:
    value, valid, is_first = now
    memory = modality.remember(memory, modality.canonical(value), valid, is_first)
    return memory, memory

  _, memories = jax.lax.scan(tick, memory, (observations[name], valid, is_first))
  return memories, valid, is_first


def nearest(
  answers: Float[Array, "K B Q ..."], displacements: tuple[int, ...], asked: Float[Array, " Q"]
) -> Float[Array, "B Q ..."]:
  """Returns, for every query, the answer at the displacement nearest to the one asked for."""
  table = jnp.asarray(displacements, jnp.float32)
  chosen = jnp.argmin(jnp.abs(asked[None] - table[:, None]), axis=0)  # [Q]
  return jax.vmap(lambda a, k: a[k], in_axes=(2, 0), out_axes=1)(answers, chosen)
