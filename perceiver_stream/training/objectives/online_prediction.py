"""Online prediction: future prediction from states that were kept as the ticks came.

`future_prediction` starts each window at its oldest source and observes all ticks from there on again:
with a window of 2 and a longest displacement of 16, 18 ticks for 2 new ones. Here the state after each
of the last ticks is kept. Only the ticks that gradients reach are observed again, as rows of one batch:
for each displacement its `window` sources and `context` ticks before them. So the cost of a window does
not grow with the longest displacement.

Pairs, loss and scores are those of `future_prediction`. Two things differ: a gradient reaches at most
`context` + `window` ticks back, and the state from which these ticks start was computed with the
parameters of its time, as in a model that watches the stream while it learns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from perceiver_stream.models.base import Model
from perceiver_stream.training.objectives import future_prediction
from perceiver_stream.types import Observation


@dataclass(kw_only=True)
class Config(future_prediction.Config):
  """`future_prediction.Config`, with the number of ticks that gradients reach back.

  Attributes:
    context: Ticks before the sources of a displacement that are observed again, with gradients.
      Displacements up to it cost nothing extra: their sources are among the ticks of displacement 0.
  """

  context: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.context < 0:
      raise ValueError(f"objective: context={self.context} ticks; use 0 or more.")


class OnlinePrediction(future_prediction.FuturePrediction):
  """Loss and scores of predicting the future; its state is the model's after each of the last ticks.

  State arrays are `[B, K, ...]`, K = longest displacement + 1 ticks, oldest first.
  """

  name, config_type = "online_prediction", Config
  config: Config

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    self.longest = max(self.displacements)
    self.look_ahead = self.longest + config.context
    self.pieces = pieces(self.displacements, config.context)

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> PyTree:
    """Returns the initial state of the model at each of the last ticks."""
    state = self.model.initial_state(params, batch_size, rng)
    return jax.tree.map(lambda x: jnp.repeat(x[:, None], self.longest + 1, axis=1), state)

  def sources(
    self, params: PyTree, state: PyTree, window: Observation
  ) -> tuple[dict[int, PyTree], PyTree]:
    """Returns the states `[window, B, ...]` after the sources of each displacement, and the next state."""
    num, length = self.config.window, self.config.window + self.config.context
    lags, rows = [piece.lag for piece in self.pieces], next(iter(window.values())).shape[1]
    starts = np.asarray(
      [self.longest - lag for lag in lags]
    )  # of the kept states, and of the ticks

    def cut(x: Array) -> Array:
      parts = jnp.stack([x[start : start + length] for start in starts], axis=2)
      return parts.reshape(length, rows * len(lags), *x.shape[2:])

    def apart(x: Array) -> Array:
      return x.reshape(length, rows, len(lags), *x.shape[2:])

    before = jax.tree.map(lambda x: x[:, starts].reshape(-1, *x.shape[2:]), state)
    observed = jax.tree.map(cut, jax.tree.map(jnp.asarray, dict(window)))
    states, _ = self.model.observe(params, jax.lax.stop_gradient(before), observed)
    states = jax.tree.map(apart, states)
    found = {}
    for row, piece in enumerate(self.pieces):
      for d in piece.displacements:
        stop = length - d + piece.lag
        found[d] = jax.tree.map(lambda x, r=row, s=stop: x[s - num : s, :, r], states)
    new = jax.tree.map(lambda x: jnp.moveaxis(x[:num, :, 0], 0, 1), states)
    kept = jax.tree.map(lambda old, new: jnp.concatenate([old, new], axis=1)[:, num:], state, new)
    return found, kept


class Piece(NamedTuple):
  """Ticks of a window that are observed again.

  Attributes:
    lag: Ticks from its last one to the newest one.
    displacements: Whose sources it holds, as its last ticks or before them.
  """

  lag: int
  displacements: tuple[int, ...]


def pieces(displacements: Sequence[int], context: int) -> tuple[Piece, ...]:
  """Returns the pieces of a window; the first one ends with the newest ticks, whose states are kept.

  That piece serves all displacements up to `context` too.

  >>> pieces((1, 4), 0)
  (Piece(lag=0, displacements=()), Piece(lag=1, displacements=(1,)), Piece(lag=4, displacements=(4,)))
  >>> pieces((1, 4), 2)
  (Piece(lag=0, displacements=(1,)), Piece(lag=4, displacements=(4,)))
  """
  near = tuple(sorted(d for d in displacements if d <= context))
  return (Piece(0, near), *(Piece(d, (d,)) for d in sorted(displacements) if d not in near))
