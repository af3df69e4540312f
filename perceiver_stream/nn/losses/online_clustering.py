"""Clusters of the newest features, on the device: steps of k-means, and balanced labels.

In JAX, inside a training step, with fixed shapes; `nn.losses.clustering` has the same rules in numpy for
the features of a whole data set.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.nn.losses.contrastive import unit_length


def centred(features: Float[Array, "N D"], mean: Float[Array, " D"]) -> Float[Array, "N D"]:
  """Returns features without their mean, of unit length."""
  return unit_length(features - mean[None])


def assigned(features: Float[Array, "N D"], centres: Float[Array, "K D"]) -> Int[Array, " N"]:
  """Returns the nearest centre of each sample; ties go to the lower index."""
  squares = jnp.sum(jnp.square(centres), axis=1)[None] - 2 * features @ centres.T
  return jnp.argmin(squares, axis=1).astype(jnp.int32)


def moved_centres(
  features: Float[Array, "N D"],
  centres: Float[Array, "K D"],
  valid: Bool[Array, " N"],
  steps: int,
) -> Float[Array, "K D"]:
  """Returns the centres after steps of k-means on valid samples; one without samples stays."""

  def step(_: Array, centres: Array) -> Array:
    labels = assigned(features, centres)
    share = jax.nn.one_hot(labels, len(centres), dtype=features.dtype)
    share = jnp.where(valid[:, None], share, 0.0)
    number = jnp.sum(share, axis=0)[:, None]
    known = jnp.where(valid[:, None], features, 0.0)
    return jnp.where(number > 0, share.T @ known / jnp.maximum(number, 1.0), centres)

  return jax.lax.fori_loop(0, steps, step, centres)


def balanced_assignment(
  memory: Float[Array, "N K"], own: Float[Array, "B K"], mass: Float[Array, " N"], steps: int
) -> Int[Array, " B"]:
  """Returns labels of samples by the transport of a memory's samples to equally large clusters.

  The scales of clusters are found by the memory (Sinkhorn, in logarithms); the label of a sample is the
  best column under them, which does not depend on its own scale.

  Args:
    memory: Logarithms of weights of the memory's samples.
    own: Of the samples to label, which the memory should hold.
    mass: Logarithms of the memory's samples' masses, up to a constant; -inf leaves one out.
    steps: Steps of the scaling.
  """

  def step(_: Array, columns: Array) -> Array:
    rows = mass - jax.nn.logsumexp(memory + columns[None], axis=1)
    return -jax.nn.logsumexp(memory + rows[:, None], axis=0)

  columns = jax.lax.fori_loop(0, steps, step, jnp.zeros(memory.shape[1]))
  return jnp.argmax(own + columns[None], axis=1).astype(jnp.int32)
