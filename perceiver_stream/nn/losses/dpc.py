"""Dense predictive coding: each place of each future step against all places of all clips.

Source: Han et al. 2019, 1909.04656; TengdaHan/DPC, `dpc/model_3d.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perceiver_stream.nn.losses.contrastive import (
  Valid,
  cross_entropy,
  known_columns,
  known_rows,
  mean_rows,
)

# Kinds of pairs, as numbered by the released code.
POSITIVE, EASY, TEMPORAL, SPATIAL = 1, 0, -1, -3


def dpc_scores(
  predicted: Float[Array, "B P S D"], target: Float[Array, "B P S D"], valid: Valid = None
) -> Float[Array, "B P S B P S"]:
  """Returns the products of all predictions with all targets.

  Args:
    predicted: Features of P future steps at S places.
    target: Features of the same steps, before their ReLU. Gradients reach them.
    valid: See the package; pass it to `dpc_loss` too.
  """
  predicted, target = known_rows(predicted, valid), known_rows(target, valid)
  return jnp.einsum("bpsd,ctud->bpsctu", predicted, target)


def dpc_loss(scores: Float[Array, "B P S B P S"], valid: Valid = None) -> Float[Array, ""]:
  """Returns the mean cross-entropy of each prediction's own target among all targets."""
  num, places = scores[..., 0, 0, 0].size, scores.shape[1] * scores.shape[2]
  each = None if valid is None else jnp.repeat(valid, places)
  logits = known_columns(scores.reshape(num, num), each)
  return mean_rows(cross_entropy(logits, jnp.arange(num)), valid=each)


def pair_kinds(batch: int, steps: int, places: int) -> Int[np.ndarray, "B P S B P S"]:
  """Returns the kind of each pair: 1 positive, -1 same place at another time, -3 same clip at
  another place, 0 another clip."""
  shape = (batch, steps, places)
  clip, step, place = np.indices(shape).reshape(3, -1)
  same_clip, same_step, same_place = (x[:, None] == x[None] for x in (clip, step, place))
  kinds = np.where(same_clip, np.where(same_place, TEMPORAL, SPATIAL), EASY)
  kinds = np.where(same_clip & same_place & same_step, POSITIVE, kinds)
  return kinds.reshape(*shape, *shape).astype(np.int8)


def top_accuracy(scores: Float[Array, "B P S B P S"], k: int = 1) -> Float[Array, ""]:
  """Returns the share of predictions whose own target is among the k best."""
  num = scores.shape[0] * scores.shape[1] * scores.shape[2]
  flat = scores.reshape(num, num)
  better = jnp.sum(flat > jnp.diagonal(flat)[:, None], axis=1)
  return jnp.mean((better < k).astype(jnp.float32))


def predicted_steps(
  seen: Float[Array, "B N S D"], cell, predict, steps: int
) -> Float[Array, "B P S D"]:
  """Returns the predictions of the next steps, each from the state that the last one gives.

  Args:
    seen: Features of N windows after their ReLU.
    cell: `(input [B, S, D], state [B, S, D]) -> state`; a GRU with 1 × 1 kernels in the release.
    predict: `state -> [B, S, D]`.
    steps: Windows to predict, P.
  """
  state = jnp.zeros_like(seen[:, 0])
  for i in range(seen.shape[1]):
    state = cell(seen[:, i], state)
  found = []
  for _ in range(steps):
    found.append(predict(state))
    state = cell(jax.nn.relu(found[-1]), state)
  return jnp.stack(found, axis=1)
