"""A weighted mean of simple guesses whose weights are fitted online, by least squares.

At tick t the guesses for tick t + d are g_0 (copying), g_1, ..., g_K, and the prediction is

  g_0 + sum_k w_k (g_k - g_0).

The weights minimise, over all pairs (s, s + d) with s + d <= t, so whose target has come,

  sum_s FORGET^n_s |y_{s+d} - prediction|^2 / (|y_{s+d} - g_0|^2 + FLOOR) + RIDGE |w - w_prior|^2,

where n_s is how many later pairs there are and |.|^2 a mean over pixels of values in [0, 255].
Dividing by the error of copying lets still and lively ticks weigh alike, as dB do. Without any
pair the weights are the prior's. Only the normal equations are stored, (K + 1) K numbers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

FORGET = 0.98  # weight of a pair after one more has come: some 50 pairs count
RIDGE = (
  1.0  # the prior weighs as much as one pair whose changes are as large as the error of copying
)
FLOOR = 0.65  # 50 dB: the squared error of images that differ by little more than rounding


class FittedMix:
  """The weights for one displacement of one stream.

  Call `begin` at every tick, then `predict` with the predictions of it, then `learn` from it.
  """

  def __init__(self, displacement: int, num_changes: int):
    """Makes it for `num_changes` guesses other than copying, `displacement` ticks ahead (1 or more)."""
    # The state 0, 1, ..., displacement ticks ago: the matrix and, as last column, the vector.
    self._known = np.zeros((displacement + 1, num_changes, num_changes + 1))

  def begin(self) -> None:
    """Advances to the next tick."""
    self._known[1:] = self._known[:-1].copy()

  def predict(
    self, changes: Float[np.ndarray, "K N"], prior: Sequence[float]
  ) -> Float[np.ndarray, " N"]:
    """Returns the change to add to copying, by the weights of `displacement` ticks ago.

    Args:
      changes: Differences of the other guesses from copying, of values in [0, 255].
      prior: Weights of the changes before any training.
    """
    matrix, vector = self._known[-1, :, :-1], self._known[-1, :, -1]
    start = np.asarray(prior, np.float64)
    ridge = RIDGE * np.eye(len(start))
    weights = start + np.linalg.solve(matrix + ridge, vector - matrix @ start)
    return weights.astype(changes.dtype) @ changes

  def learn(self, changes: Float[np.ndarray, "K N"], error: Float[np.ndarray, " N"]) -> None:
    """Takes in a pair whose target is this tick; `error` is the target minus copying."""
    num = error.size
    moments = np.concatenate([changes @ changes.T, (changes @ error)[:, None]], axis=1) / num
    weight = 1 / (float(error @ error) / num + FLOOR)
    self._known[0] = FORGET * self._known[0] + weight * moments

  def state(self) -> dict[str, np.ndarray]:
    """Returns all that is remembered."""
    return {"known": self._known.copy()}

  def restore(self, state: Mapping[str, np.ndarray]) -> None:
    """Restores a result of `state`."""
    self._known[:] = state["known"]
