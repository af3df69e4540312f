"""Matching of the clusters of two heads, by swaps of pairs (SeLaVi).

Source: Asano et al. 2020, 2006.13662; written from the description of the released code, which is
CC BY-NC 4.0.
"""

import numpy as np
from jaxtyping import Float, Int


def match_heads(
  reference: Float[np.ndarray, "N K"],
  probabilities: Float[np.ndarray, "N K"],
  *,
  seed: int = 0,
  steps: int = 50_000,
  patience: int = 1000,
  restarts: int = 2,
) -> Int[np.ndarray, " K"]:
  """Returns the order of columns for which `probabilities[:, order]` is nearest to `reference`.

  Random pairs of columns are swapped if that lowers the sum of absolute differences. It stops after
  `steps` pairs, or `patience` without a gain, and is repeated; the best result counts.

  Args:
    reference: Probabilities of the head that stays, by sample.
    probabilities: Of the head whose last layer is reordered: rows of weight and bias by the result.
    seed: Of the pairs.
    steps: Most pairs of one try.
    patience: Pairs without a gain that end a try.
    restarts: Tries.
  """
  cost = np.abs(reference[:, :, None] - probabilities[:, None, :]).sum(axis=0)  # [K, K]
  num, rng = len(cost), np.random.default_rng(seed)
  total = lambda order: cost[np.arange(num), order].sum()  # noqa: E731
  best = np.arange(num)
  for _ in range(restarts if num > 1 else 0):
    order = _swapped(cost, rng, steps, patience)
    best = order if total(order) < total(best) else best
  return best


def _swapped(
  cost: Float[np.ndarray, "K K"], rng: np.random.Generator, steps: int, patience: int
) -> Int[np.ndarray, " K"]:
  """Returns the order that one try finds."""
  num = len(cost)
  order, last = np.arange(num), 0
  for step in range(steps):
    i, j = rng.choice(num, 2, replace=False)
    if cost[i, order[i]] + cost[j, order[j]] > cost[i, order[j]] + cost[j, order[i]]:
      order[i], order[j] = order[j], order[i]
      last = step
    if step - last > patience:
      break
  return order
