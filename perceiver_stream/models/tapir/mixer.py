"""The mixer over time: depthwise causal convolutions, and MLPs over channels."""

from typing import NamedTuple

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.core.causal import causal_taps
from perceiver_stream.models.tapir.config import Config
from perceiver_stream.models.tapir.features import EPS
from perceiver_stream.nn import MLP, LayerNorm, Linear, gelu
from perceiver_stream.nn.precision import broadcast

TAPS = 3  # ticks that a convolution covers
FACTOR = 4  # channels of the convolutions per channel of the mixer


class MixerState(NamedTuple):
  """The last two inputs of both convolutions of every block, of R tracks.

  Attributes:
    first: Of the first convolution.
    second: Of the second convolution.
  """

  first: Float[Array, "*n L R K E"]
  second: Float[Array, "*n L R K F"]


def initial_state(config: Config, rows: int) -> MixerState:
  """Returns zeros for so many tracks."""
  shape = (config.num_mixers, rows, TAPS - 1)
  wide = FACTOR * config.mixer_dim
  return MixerState(jnp.zeros((*shape, config.mixer_dim)), jnp.zeros((*shape, wide)))


class MixerBlock(hk.Module):
  """x += convolutions over time (norm(x)); x += MLP(norm(x)). Channels mix in the MLP only."""

  def __call__(
    self,
    x: Float[Array, "T R E"],
    is_first: Bool[Array, "T R"],
    past: tuple[Float[Array, "R K E"], Float[Array, "R K F"]],
  ) -> tuple[Float[Array, "T R E"], tuple[Float[Array, "R K E"], Float[Array, "R K F"]]]:
    """Returns the output and the last inputs of both convolutions."""
    dim = x.shape[-1]
    norm = lambda name: LayerNorm(use_offset=False, eps=EPS, name=name)  # noqa: E731
    taps = causal_taps(norm("time_norm")(x), past[0], is_first)
    hidden = gelu(self._depthwise("first", taps, FACTOR))
    wide = causal_taps(hidden, past[1], is_first)
    mixed = self._depthwise("second", wide, 1)
    x = x + jnp.sum(mixed.reshape(*x.shape, FACTOR), axis=-1)
    x = x + MLP(FACTOR * dim, name="mlp")(norm("mlp_norm")(x))
    return x, (taps[-1, :, 1:], wide[-1, :, 1:])

  @hk.name_like("__call__")
  def _depthwise(self, name: str, taps: Float[Array, "T R K E"], factor: int) -> Array:
    """Returns `factor` outputs of each channel, side by side."""
    shape = (TAPS, 1, factor * taps.shape[-1])
    init = hk.initializers.RandomNormal(TAPS**-0.5)
    w = hk.get_parameter(f"{name}_w", shape, jnp.float32, init)
    b = hk.get_parameter(f"{name}_b", shape[-1:], jnp.float32, jnp.zeros)
    y = jnp.einsum("trke,kef->tref", taps, w.reshape(TAPS, taps.shape[-1], factor))
    y = y.reshape(*taps.shape[:2], -1)
    return y + broadcast(b, y)


class Mixer(hk.Module):
  """Mixer of the features of tracks over time, causal."""

  def __init__(self, config: Config, *, name: str = "mixer"):
    super().__init__(name=name)
    self.config = config

  def __call__(
    self, x: Float[Array, "T R C"], is_first: Bool[Array, "T R"], state: MixerState
  ) -> tuple[Float[Array, "T R D"], MixerState]:
    """Returns the outputs at each of T ticks and the state after the last.

    Args:
      x: Inputs of R tracks.
      is_first: True where a track starts without a past.
      state: State before the first tick.
    """
    c, after = self.config, []
    x = Linear(c.mixer_dim, name="input")(x)
    for i in range(c.num_mixers):
      block = MixerBlock(name=f"block_{i}")
      x, last = block(x, is_first, (state.first[i], state.second[i]))
      after.append(last)
    x = LayerNorm(use_offset=False, eps=EPS, name="norm")(x)
    x = Linear(c.output_dim, name="output")(x)
    if not after:
      return x, state
    return x, MixerState(*(jnp.stack(each) for each in zip(*after, strict=True)))
