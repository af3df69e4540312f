"""Attention maps of a frozen model: `unroll` with its attention weights captured."""

import functools
from collections.abc import Callable

import haiku as hk
import jax
from jaxtyping import PyTree

from perceiver_stream.models.attention import Attended, Attentive
from perceiver_stream.models.base import Model, Network, ObservationCheck
from perceiver_stream.types import Observation


def attention_maps(
  model: Model,
  params: PyTree,
  state: PyTree,
  observations: Observation,
  grid: tuple[int, int] = (16, 16),
) -> tuple[Attended, PyTree]:
  """Returns the attention of the latents at each of T ticks, and the state after the last.

  Args:
    model: One whose latents may follow objects, such as `stream_perceiver` and `moog`, or `rvm`.
    params: Of the model.
    state: From `initial_state` or the last call.
    observations: Arrays `[T, B, ...]`.
    grid: Rows and columns of cells of the image, of `Attended.owns`.

  Raises:
    ValueError: The model's network is not `Attentive`, has no decoder of pixels, or would decode
      that many cells in more than one chunk; an observation does not fit.
  """
  kept = ObservationCheck(model.modalities)(observations, 2)
  return _compiled(model.network)(params, state, kept, tuple(grid))


@functools.lru_cache(maxsize=8)
def _compiled(make_network: Callable[[], Network]) -> Callable:
  def attention(state: PyTree, observations: Observation, grid: tuple[int, int]) -> tuple:
    network = make_network()
    if not isinstance(network, Attentive):
      raise ValueError(
        f"attention_maps: {type(network).__name__} has no attention to show: its latents stay at "
        f"their places or are computed anew at each tick; use a recurrent model whose latents may "
        f"follow objects (stream_perceiver, moog, rvm)."
      )
    return network.attention(state, observations, grid)

  apply = hk.transform(attention).apply
  return jax.jit(lambda params, *args: apply(params, None, *args), static_argnums=3)
