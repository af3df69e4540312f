"""Convolutional LSTM: states are feature maps, linear maps are convolutions."""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn import where_rows
from perceiver_stream.nn.conv import Conv2D, extract_patches
from perceiver_stream.nn.layers import lecun_normal


class ConvLstmState(NamedTuple):
  """State of a `ConvLstm`.

  Attributes:
    hidden: Hidden state, the output.
    cell: Cell state.
  """

  hidden: Float[Array, "*T B h w D"]
  cell: Float[Array, "*T B h w D"]


class ConvLstm(hk.RNNCore):
  """c ← σ(f) ⊙ c + σ(i) ⊙ tanh(g), h ← σ(o) ⊙ tanh(c); i, f, g, o = W ∗ x + R ∗ h + b.

  `unroll` convolves the inputs of all ticks at once; only R ∗ h stays in the loop,
  computed as patches times a matrix. One call per tick gives the same result.

  Source: Shi et al. 2015, 1506.04214, without peepholes, as in the spatio-temporal video
  autoencoder (1511.06309). Differs: forget gates start open (bias 1); the first tick is processed
  like the others, from a state of zeros.

  Args:
    grid: Rows and columns of the feature maps.
    output_dim: Channels of the state.
    kernel: Kernel size of both convolutions; odd.
    name: Haiku name.
  """

  def __init__(self, grid: tuple[int, int], output_dim: int, *, kernel: int = 3, name: str):
    super().__init__(name=name)
    self.grid = grid
    self.output_dim = output_dim
    self.kernel = kernel

  def initial_state(self, batch_size: int) -> ConvLstmState:
    """Returns zeros."""
    zeros = jnp.zeros((batch_size, *self.grid, self.output_dim))
    return ConvLstmState(zeros, zeros)

  def __call__(
    self, inputs: tuple[Float[Array, "B h w C"], Bool[Array, " B"]], prev_state: ConvLstmState
  ) -> tuple[Float[Array, "B h w D"], ConvLstmState]:
    """Returns the output of a tick and the next state; inputs are features and `is_first`."""
    x, is_first = inputs
    states = self.unroll(x[None], is_first[None], prev_state)
    state = ConvLstmState(states.hidden[0], states.cell[0])
    return state.hidden, state

  @hk.name_like("__call__")
  def unroll(
    self, x: Float[Array, "T B h w C"], is_first: Bool[Array, "T B"], state: ConvLstmState
  ) -> ConvLstmState:
    """Returns the states after each of T ticks."""
    width = 4 * self.output_dim
    read = Conv2D(width, kernel=self.kernel, name="input")(x.reshape(-1, *x.shape[2:]))
    read = read.reshape(*x.shape[:-1], width)
    shape = (self.kernel**2 * self.output_dim, width)
    recurrent = hk.get_parameter("recurrent_w", shape, jnp.float32, lecun_normal())

    def tick(before: ConvLstmState, now: tuple) -> tuple[ConvLstmState, ConvLstmState]:
      read, first = now
      before = jax.tree.map(lambda s: where_rows(first, 0.0, s), before)
      gates = read + extract_patches(before.hidden, self.kernel) @ recurrent
      input_gate, forget_gate, new, output_gate = jnp.split(gates, 4, axis=-1)
      cell = jax.nn.sigmoid(forget_gate + 1) * before.cell + jax.nn.sigmoid(input_gate) * jnp.tanh(
        new
      )
      after = ConvLstmState(jax.nn.sigmoid(output_gate) * jnp.tanh(cell), cell)
      return after, after

    return jax.lax.scan(tick, state, (read, is_first))[1]
