"""Inputs, sizes and base class common to all recurrent cores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import haiku as hk
import jax
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.nn import FramePair, MovingPoints, where_rows
from perceiver_stream.types import Size


class CoreInputs(NamedTuple):
  """Inputs of a core at one tick; fields that are None are left out of the program.

  Attributes:
    tokens: `[B, N, C]` of all modalities; at least one token is visible in every row.
    visible: `[B, N]` bool, or `[B, L, N]` by latent; tokens of missing observations are masked.
      None: all are visible.
    is_first: `[B]` bool; True resets that row's state before the tick.
    start: `[B, L, D]`, the state of a reset row; None: the core's initial state.
    detach: `[B]` bool; True stops the gradient into the past.
    valid: `[B]` bool; False if nothing was observed: the prediction is kept, or without one the
      previous state.
    beside: Further inputs of the corrector.
    positions: `[B, N, 2]`, centres of the tokens, (y, x) in [-1, 1]; NaN for tokens without one.
      Only for cores with `uses_positions`.
    frames: The images of the tick and the motion between them. Only for cores with
      `uses_positions`.
  """

  tokens: Float[Array, "B N C"]
  visible: Bool[Array, "B N"] | Bool[Array, "B L N"] | None = None
  is_first: Bool[Array, " B"] | None = None
  start: Float[Array, "B L D"] | None = None
  detach: Bool[Array, " B"] | None = None
  valid: Bool[Array, " B"] | None = None
  beside: PyTree = None
  positions: Float[Array, "B N 2"] | None = None
  frames: FramePair | None = None


@dataclass(kw_only=True)
class CoreConfig:
  """Sizes common to all cores.

  Attributes:
    num_latents: Latents in the array, L.
    latent_dim: Width of a latent, D.
    num_heads: Attention heads.
    mlp_factor: MLP width over `latent_dim`.
  """

  num_latents: Size = 64
  latent_dim: Size = 128
  num_heads: Size = 4
  mlp_factor: Size = 2

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.latent_dim % self.num_heads:
      raise ValueError(
        f"{type(self).__name__}: latent_dim={self.latent_dim} is not a multiple of "
        f"num_heads={self.num_heads}; change one of them."
      )


class Core(hk.RNNCore):
  """A recurrence over `CoreInputs`; its output is its next state.

  A state is an array `[B, L, D]`, or a pytree that `latents` converts to one.

  Attributes:
    uses_positions: True if the core reads `CoreInputs.positions` and `.frames`.
  """

  uses_positions = False

  def latents(self, state: Any) -> Float[Array, "*T B L D"]:
    """Returns the latent array of a state; by default, the state itself."""
    return state

  def points(self, latents: Float[Array, "B L D"]) -> MovingPoints | None:
    """Returns positions and velocities of a latent array of `latents`; None if it has none."""
    del latents
    return None


def reset_rows(inputs: CoreInputs, state: PyTree, first: Callable[[], PyTree]) -> PyTree:
  """Returns a state before a tick: `inputs.start`, or the first state, in rows of `is_first`."""
  if inputs.is_first is None:
    return state
  reset, start = inputs.is_first, first() if inputs.start is None else inputs.start
  return jax.tree.map(lambda new, old: where_rows(reset, new, old), start, state)


def detach_rows(inputs: CoreInputs, state: PyTree) -> PyTree:
  """Returns a state without a gradient into the past, in rows of `detach`."""
  if inputs.detach is None:
    return state
  cut = inputs.detach
  return jax.tree.map(lambda x: where_rows(cut, jax.lax.stop_gradient(x), x), state)
