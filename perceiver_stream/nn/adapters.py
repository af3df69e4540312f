"""Small layers that adapt a trained network: bottleneck adapters and low-rank updates.

Both start as the identity: a network is the same function after they are inserted.
"""

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.layers import Linear, gelu


class BottleneckAdapter(hk.Module):
  """x + up(GELU(down(x))); the weight and the bias of `up` start at 0.

  Source: Houlsby et al. 2019, 1902.00751.

  Args:
    dim: Width between `down` and `up`.
    name: Haiku name.
  """

  def __init__(self, dim: int, *, name: str = "adapter"):
    super().__init__(name=name)
    self.dim = dim

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... C"]:
    """Returns the adapted features, in the dtype of `x`."""
    hidden = gelu(Linear(self.dim, name="down")(x))
    return x + Linear(x.shape[-1], w_init=jnp.zeros, name="up")(hidden)


class LoraLinear(Linear):
  """`Linear` with a low-rank update of its weight: x (w + down · up) + b; `up` starts at 0.

  Source: Hu et al. 2021, 2106.09685, with a scale of 1.

  Args:
    output_dim: K.
    rank: Width of the update; 0: none, and no parameters for it.
    name: Haiku name.
  """

  def __init__(self, output_dim: int, rank: int = 0, *, name: str):
    super().__init__(output_dim, name=name)
    self.rank = rank

  def __call__(self, x: Float[Array, "... C"]) -> Float[Array, "... K"]:
    """Returns the mapped array, in the dtype of `x`."""
    y = super().__call__(x)
    if self.rank:
      start = hk.initializers.RandomNormal(x.shape[-1] ** -0.5)
      down = hk.get_parameter("lora_down", (x.shape[-1], self.rank), jnp.float32, start)
      up = hk.get_parameter("lora_up", (self.rank, self.output_dim), jnp.float32, jnp.zeros)
      y = y + jnp.dot(jnp.dot(x, down.astype(x.dtype)), up.astype(x.dtype))
    return y
