"""Attention maps, an optional capability of networks."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, PyTree

from perceiver_stream.types import Observation


class Attended(NamedTuple):
  """Attention between the latents and the image, at every tick.

  Attributes:
    reads: Encoder attention: for each latent, the weight of each cell of the model's own grid of
      the image (mean over heads and layers). Over the cells it sums to at most 1: the rest went to
      other tokens.
    owns: Decoder attention: for each cell of the requested grid, the weight of each latent (mean
      over heads and layers); sums to 1 over the latents.
    latents: Latents after the tick, as in `unroll`.
  """

  reads: Float[Array, "T B L h w"]
  owns: Float[Array, "T B y x L"]
  latents: Float[Array, "T B L D"]


@runtime_checkable
class Attentive(Protocol):
  """A network that returns its attention; each family defines the captured layers."""

  def attention(
    self, state: PyTree, observations: Observation, grid: tuple[int, int]
  ) -> tuple[Attended, PyTree]:
    """Returns the attention of the latents at each of T ticks, and the state after the last."""
    ...
