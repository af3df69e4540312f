"""DropToken: training on a random part of the tokens."""

import jax
from jaxtyping import Array, Float, Int


def drop_tokens(
  tokens: Float[Array, "B N C"], order: Int[Array, " N"], num_kept: int
) -> Float[Array, "B K C"]:
  """Returns the tokens that come first in `order`, in that order, the same for all rows.

  Source: Akbari et al. 2021, 2104.11178 (VATT), `uvatt.py`. One order serves the whole batch there,
  which the paper does not say; positions are added before, and the count is a share of the *most*
  tokens that a model takes, not of those present (`kept_tokens`).

  Args:
    tokens: With their positions; without tokens that are never dropped.
    order: A permutation; see `draw_order`.
    num_kept: Tokens that stay, K.

  Raises:
    ValueError: There are fewer tokens than that, or none stays.
  """
  if not 0 < num_kept <= tokens.shape[1]:
    raise ValueError(f"drop_tokens: num_kept={num_kept} of {tokens.shape[1]} tokens.")
  return tokens[:, order[:num_kept]]


def draw_order(rng: Array, num_tokens: int) -> Int[Array, " N"]:
  """Returns a random permutation of the tokens."""
  return jax.random.permutation(rng, num_tokens)


def kept_tokens(share: float, most_tokens: int) -> int:
  """Returns the number of tokens that stay: the share of the most tokens, rounded down."""
  return int(share * most_tokens)
