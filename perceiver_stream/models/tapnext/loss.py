"""The loss of TAPNext as its torch code has it: positions, bins and visibility of the last layer."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from perceiver_stream.models.tapnext.heads import Heads, by_axis

POSITION_WEIGHT = 0.1


def tracking_loss(
  heads: Heads,
  targets: Float[Array, "*T B Q 2"],
  visible: Bool[Array, "*T B Q"],
  counts: Bool[Array, "*T B Q"],
) -> Float[Array, ""]:
  """Returns 0.1 · Huber distance + cross entropy of the bins + cross entropy of visibility.

  The distance counts where the point is visible, the cross entropies at every counted tick: in the
  released code the mask of visibility does not reach that of the bins, which is a mean.

  Source: google-deepmind/tapnet, `tapnext/torch_losses.py`. Differs: ticks before a query do not
    count.

  Args:
    heads: Outputs of the model.
    targets: (row, column) in pixels of the table.
    visible: Where the point is visible.
    counts: Ticks of active slots.
  """
  bins = heads.logits.shape[-1] // 2
  squared = jnp.sum(jnp.square(heads.position - jnp.clip(targets, 0, bins - 1)), axis=-1)
  distance = jnp.sqrt(squared + 1e-12)
  huber = jnp.where(distance < 1, squared / 2, distance - 0.5)
  labels = jnp.round(jnp.clip(targets - 0.5, 0, bins - 1)).astype(jnp.int32)
  log = jax.nn.log_softmax(by_axis(heads.logits))
  entropy = -jnp.sum(jnp.take_along_axis(log, labels[..., None], axis=-1), axis=(-1, -2))
  shown = optax.sigmoid_binary_cross_entropy(heads.visible, visible.astype(jnp.float32))
  return (
    POSITION_WEIGHT * _mean(huber, visible & counts) + _mean(entropy, counts) + _mean(shown, counts)
  )


def _mean(values: Array, where: Array) -> Array:
  total = jnp.sum(where.astype(jnp.float32))
  return jnp.sum(jnp.where(where, values, 0.0)) / jnp.maximum(total, 1.0)
