"""The capability of networks whose latents may follow objects: to show what they attend to."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float, PyTree

from perceiver_stream.types import Observation


class Attended(NamedTuple):
  """Attention between the latents and the image, at every tick.

  Attributes:
    reads: Encoder attention: for each latent, the weight of each cell of the model's own grid of the
      image (mean over heads and layers). Over the cells it sums to at most 1: the rest went to other
      tokens.
    owns: Decoder attention: for each cell of the requested grid, the weight of each latent (mean
      over heads and layers); sums to 1 over the latents.
    latents: After the tick, as `unroll` has them.
  """

  reads: Float[Array, "T B L h w"]
  owns: Float[Array, "T B y x L"]
  latents: Float[Array, "T B L D"]


@runtime_checkable
class Attentive(Protocol):
  """A network that can show its attention; what is captured differs by family."""

  def attention(
    self, state: PyTree, observations: Observation, grid: tuple[int, int]
  ) -> tuple[Attended, PyTree]:
    """Returns what latents attend to at each of T ticks, and the state after the last."""
    ...
