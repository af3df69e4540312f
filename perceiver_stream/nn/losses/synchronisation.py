"""Synchronisation and correspondence of sound and video.

Source: Korbar et al. 2018, 1807.00230 (AVTS); Arandjelović and Zisserman 2017, 1705.08168 (L3). The
training codes are not released; written from the papers.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from perceiver_stream.nn.losses.contrastive import Valid, known_rows, mean_rows

Label = Bool[Array, " B"] | Num[Array, " B"]


def margin_loss(
  video: Float[Array, "B D"],
  audio: Float[Array, "B D"],
  in_sync: Label,
  *,
  margin: float = 0.99,
  valid: Valid = None,
) -> Float[Array, ""]:
  """Returns the mean of d² for pairs in sync and of max(margin - d, 0)² for others, AVTS.

  d is the Euclidean distance of the features as given. Negatives are first sounds of other videos,
  later a quarter of them of the same video at least half a second apart.
  """
  video, audio = known_rows(video, valid), known_rows(audio, valid)
  squared = jnp.sum(jnp.square(video - audio), axis=-1)
  apart = squared > 0  # the root has no finite gradient at zero
  distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)
  label = jnp.asarray(in_sync, squared.dtype)
  push = jnp.square(jnp.maximum(margin - distance, 0.0))
  return mean_rows(label * squared + (1 - label) * push, valid=valid)


def correspondence_loss(
  logits: Float[Array, "B 2"], together: Label, valid: Valid = None
) -> Float[Array, ""]:
  """Returns the mean cross-entropy of two logits per pair, (apart, together), L3."""
  chosen = jax.nn.log_softmax(known_rows(logits, valid), axis=-1)
  label = jnp.asarray(together, logits.dtype)
  return -mean_rows(label * chosen[:, 1] + (1 - label) * chosen[:, 0], valid=valid)


def offset_accuracy(scores: Float[Array, "B K"], offsets: Num[Array, " B"]) -> Float[Array, ""]:
  """Returns the share of clips whose best of K candidate offsets is the true one, an index."""
  best = jnp.argmax(scores, axis=-1)
  return jnp.mean((best == jnp.asarray(offsets, best.dtype)).astype(jnp.float32))
