"""RVM as a model of the common contract, and its training objective."""

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from perceiver_stream.core import CoreInputs
from perceiver_stream.modalities import Modality
from perceiver_stream.modalities.base import cell_index
from perceiver_stream.models.attention import Attended
from perceiver_stream.models.base import Model, as_model
from perceiver_stream.models.input_memory import Remembered
from perceiver_stream.models.recurrent import RecurrentNetwork, State, check_rgb, pixel_modality
from perceiver_stream.models.rvm.config import Config
from perceiver_stream.models.rvm.network import Rvm
from perceiver_stream.nn import capture_attention, coordinates, mean_weights, patchify
from perceiver_stream.types import Observation


class RvmNetwork(RecurrentNetwork):
  """`Rvm` as a `models.base.Network`. Latents are CLS, then one per patch.

  Predictions use the newest state only; no patch of the target is visible. The
  released model was trained with 5 % of the patches visible and all source frames' states.
  """

  def __init__(self, config: Config, modalities: dict[str, Modality]):
    self.config = config
    self.modalities = modalities
    self.net = Rvm(config)
    self.core = self.net.core

  def encode(self, state: State, kept: Remembered) -> tuple[CoreInputs, tuple[()]]:
    """Returns the core's inputs at every tick, and no extra state."""
    del state
    tokens = self.net.encode(kept.memory["pixels"].last)
    return CoreInputs(tokens, is_first=kept.is_first, valid=kept.valid["pixels"]), ()

  def decode_at(
    self,
    name: str,
    state: State,
    cells: Int[Array, " Q"] | None,
    displacements: tuple[int, ...],
  ) -> dict[str, Float[Array, "B K Q p q 3"]]:
    """Returns patches; see `RecurrentNetwork`."""
    c, batch = self.config, state.latents.shape[0]
    rows, columns = c.grid()
    order = jnp.broadcast_to(jnp.arange(rows * columns)[None], (batch, rows * columns))
    blank = jnp.zeros((batch, c.height, c.width, 3), jnp.float32)

    def frame(displacement: int) -> Array:
      delta = jnp.full(batch, displacement, jnp.int32)
      return self.net.predict_frames(state.latents[None], blank, order, delta, num_visible=0)

    patches = patchify(jnp.stack([frame(d) for d in displacements], axis=1), c.patch)
    patches = patches.reshape(*patches.shape[:2], -1, c.patch, c.patch, 3)
    return {name: patches if cells is None else patches[:, :, cells]}

  def attention(
    self, state: State, observations: Observation, grid: tuple[int, int]
  ) -> tuple[Attended, State]:
    """Returns the attention at each of T ticks, and the state after the last.

    A latent belongs to a patch. Decoder attention is 1 for the patch that contains the centre of a
    cell. Encoder attention is the core's cross-attention from the frame's patches to those of the
    previous state. The first latent, CLS, has no cell, and attention to it is left out.
    """
    kept = self.remember(state.memory, observations)
    inputs, _ = self.encode(state, kept)
    shape, batch = self.config.grid(), state.latents.shape[0]
    place = cell_index(jnp.asarray(coordinates(grid), jnp.float32), shape)
    owner = jax.nn.one_hot(place + 1, state.latents.shape[1]).reshape(*grid, -1)
    owns = jax.lax.broadcast_in_dim(owner, (batch, *owner.shape), (1, 2, 3))

    def tick(latents: Array, now: CoreInputs) -> tuple[Array, Attended]:
      with capture_attention() as found:
        _, after = self.core(now, latents)
      reads = mean_weights(found, r"/core/.*cross_attention$")[..., 1:]
      return after, Attended(reads.reshape(*reads.shape[:2], *shape), owns, after)

    last, attended = hk.scan(tick, state.latents, inputs)
    return attended, State(last, jax.tree.map(lambda x: x[-1], kept.memory))


def build(config: Config) -> Model:
  """Returns the model that `config` describes.

  Raises:
    ValueError: The frame is not a whole number of patches.
  """
  modalities = modalities_of(config)
  return as_model(lambda: RvmNetwork(config, modalities), modalities, config.displacements, config)


def modalities_of(config: Config) -> dict[str, Modality]:
  """Returns the pixels modality of the model; raises ValueError for frames that are not RGB."""
  config.grid()
  check_rgb("rvm", config.channels)
  return pixel_modality(config, config.patch)
