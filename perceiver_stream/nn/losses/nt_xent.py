"""SimCLR's contrastive loss of two views."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.losses.contrastive import (
  Valid,
  known_columns,
  known_rows,
  mean_rows,
  unit_length,
)

_MASKED = 1e9  # taken off the similarity of a vector with itself, before the temperature


def nt_xent(
  one: Float[Array, "B D"],
  other: Float[Array, "B D"],
  *,
  temperature: float = 0.1,
  normalize: bool = True,
  as_released: bool = True,
  valid: Valid = None,
) -> tuple[Float[Array, ""], Float[Array, "B B"]]:
  """Returns the loss, and the logits between both views.

  Each vector has to find its partner among the 2B - 1 other vectors.

  Args:
    one: Embeddings of the first views.
    other: Embeddings of the second views, in the same order.
    temperature: Of the similarities.
    normalize: If True, similarities are cosines; otherwise scalar products.
    as_released: If True, both directions are summed, as in the released code; otherwise averaged, as
      in the paper (1 / 2N).
    valid: See the package.

  Source: google-research/simclr, tf2/objective.py.
  """
  one, other = known_rows(one, valid), known_rows(other, valid)
  if normalize:
    one, other = unit_length(one), unit_length(other)
  itself = _MASKED * jnp.eye(len(one), dtype=one.dtype)
  across = one @ other.T / temperature
  within = [(x @ x.T - itself) / temperature for x in (one, other)]
  count = lambda z: known_columns(z, valid)  # noqa: E731
  pairs = zip((count(across), count(across.T)), map(count, within), strict=True)
  logits = [jnp.concatenate(pair, axis=1) for pair in pairs]
  entropy = lambda z: mean_rows(jax.nn.logsumexp(z, axis=1) - jnp.diagonal(z), valid=valid)  # noqa: E731
  loss = entropy(logits[0]) + entropy(logits[1])
  return loss if as_released else 0.5 * loss, across
