"""CoCLR: a MoCo queue whose positives are mined by the similarity of another modality.

Source: Han et al. 2020, 2010.09709; TengdaHan/CoCLR, `model/pretrain.py`, `main_coclr.py`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.nn.losses.contrastive import Valid, known_rows, mean_rows, unit_length

NO_VIDEO = -1  # in places of the queue that were never filled


class Memory(NamedTuple):
  """A ring of the newest keys; a pytree of fixed shapes, part of the train state.

  Attributes:
    keys: Of the learning encoder's modality, unit length.
    others: Of the frozen encoder of the other modality, for the same clips.
    videos: Identity of each clip's video; -1 before a place is filled.
    place: Row that the next keys replace.
    filled: Rows that were filled, at most K.
  """

  keys: Float[Array, "K D"]
  others: Float[Array, "K D"]
  videos: Int[Array, " K"]
  place: Int[Array, ""]
  filled: Int[Array, ""]


def empty_memory(rng: Array, size: int, dim: int) -> Memory:
  """Returns a memory of random unit vectors, none of which is a positive."""
  keys, others = (unit_length(jax.random.normal(key, (size, dim))) for key in jax.random.split(rng))
  return Memory(keys, others, jnp.full(size, NO_VIDEO, jnp.int32), jnp.int32(0), jnp.int32(0))


def enqueue(
  memory: Memory,
  keys: Float[Array, "B D"],
  others: Float[Array, "B D"],
  videos: Int[Array, " B"],
  valid: Valid = None,
) -> Memory:
  """Returns the memory with the oldest rows replaced, by valid ones only; no gradient reaches it.

  Raises:
    ValueError: The size of the memory is no multiple of the batch.
  """
  size, batch = memory.keys.shape[0], keys.shape[0]
  if size % batch:
    raise ValueError(f"coclr.enqueue: {size} places are no multiple of the batch, {batch}.")

  valid = jnp.ones(batch, bool) if valid is None else valid
  places, count = ring_places(memory.place, size, valid)

  def put(ring: Array, new: Array) -> Array:
    return ring.at[places].set(jax.lax.stop_gradient(new).astype(ring.dtype), mode="drop")

  return Memory(
    put(memory.keys, keys),
    put(memory.others, others),
    put(memory.videos, videos),
    (memory.place + count) % size,
    jnp.minimum(memory.filled + count, size),
  )


def ring_places(
  place: Int[Array, ""], size: int, valid: Bool[Array, " B"]
) -> tuple[Int[Array, " B"], Int[Array, ""]]:
  """Returns the rows of a ring for a batch, from `place` on, and how many are used.

  Rows that are not valid have the index `size`, out of range, which scatters drop.
  """
  rank = jnp.cumsum(valid.astype(jnp.int32)) - 1
  return jnp.where(valid, (place + rank) % size, size), jnp.sum(valid.astype(jnp.int32))


def positives(
  memory: Memory, others: Float[Array, "B D"], videos: Int[Array, " B"], *, top_k: int = 5
) -> Bool[Array, "B J"]:
  """Returns True for the positives: the own key (column 0), and places of the memory.

  These are keys of the same video and, once the memory is full, the `top_k` keys of other videos
  whose features in the other modality are most similar.

  Args:
    memory: Before the batch is enqueued.
    others: Features of the batch by the frozen encoder of the other modality, unit length.
    videos: Identity of each sample's video, at least 0.
    top_k: Positives that are mined; 0 for none.
  """
  same = videos[:, None] == memory.videos[None]
  own = jnp.ones((videos.shape[0], 1), bool)
  if not top_k:
    return jnp.concatenate([own, same], axis=1)
  similar = jnp.where(same, -jnp.inf, others @ memory.others.T)
  _, chosen = jax.lax.top_k(similar, top_k)
  mined = jnp.any(jax.nn.one_hot(chosen, same.shape[1], dtype=bool), axis=1)
  full = memory.filled == memory.keys.shape[0]
  return jax.lax.stop_gradient(jnp.concatenate([own, same | (mined & full)], axis=1))


def without_self(mask: Bool[Array, "B K"]) -> Bool[Array, "B K"]:
  """Returns the positives without the own key, in rows that have others.

  The release does this with probability 0.9: the own key is easy. It stays in the denominator.
  """
  alone = jnp.sum(mask, axis=1) == 1
  return mask.at[:, 0].set(mask[:, 0] & alone)


def mined_loss(
  logits: Float[Array, "B K"], mask: Bool[Array, "B K"], valid: Valid = None
) -> Float[Array, ""]:
  """Returns the mean of -log of the probability of all positives together."""
  logits = known_rows(logits, valid)
  mask = mask if valid is None else mask | ~valid[:, None]
  chosen = jnp.where(mask, logits, -jnp.inf)
  loss = jax.nn.logsumexp(logits, axis=1) - jax.nn.logsumexp(chosen, axis=1)
  return mean_rows(loss, valid=valid)


def momentum_update(slow: PyTree, fast: PyTree, momentum: float | Array) -> PyTree:
  """Returns momentum · slow + (1 - momentum) · fast, of parameters; no gradient flows.

  Buffers of batch norms are not parameters: the slow encoder has those of its own passes.
  """
  return jax.tree.map(
    lambda s, f: momentum * s + (1 - momentum) * f, slow, jax.lax.stop_gradient(fast)
  )
