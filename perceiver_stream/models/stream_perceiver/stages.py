"""`stream_perceiver` as a list of layers: input, recurrent core, questions, decoder blocks, heads.

Parameters are those of the model itself, by name. The newest input goes to questions and heads as a
shortcut: when stages work at once, predictions start from a frame that is newer than the latents.
"""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from perceiver_stream import modalities as modality_room
from perceiver_stream.core import CoreInputs
from perceiver_stream.modalities import Memory, Queries
from perceiver_stream.models.input_memory import remembering, tick_shapes
from perceiver_stream.models.stages import Layer, Staged, Values, chained, piece
from perceiver_stream.models.stream_perceiver.config import Config
from perceiver_stream.models.stream_perceiver.network import State, StreamPerceiver

Asked = dict[str, Float[Array, "B Q E"]]


class Pieces(StreamPerceiver):
  """The network in pieces, each of which a layer calls."""

  def remembered(
    self, memory: dict[str, Memory], frame: Values
  ) -> tuple[CoreInputs, dict[str, Memory], PyTree]:
    """Returns what the core reads at this tick, the memory after it and what derives from it."""
    before = State(jnp.zeros((1, 1, 1)), memory, {})
    once = jax.tree.map(lambda x: x[None], frame)
    return jax.tree.map(lambda x: x[0], self._inputs(before, once))

  @hk.name_like("__call__")
  def asked(self, state: State) -> Asked:
    """Returns the questions about all outputs at all displacements."""
    return {name: self._asked(name, state, self.queries(name)) for name in self.outputs}

  def attended(self, i: int, asked: Asked, latents: Float[Array, "B L D"]) -> Asked:
    """Returns the questions after block i of the decoder has read the latents."""
    latents = self.config.precision.cast(latents)
    return {name: self.decoder[i](x, latents) for name, x in asked.items()}

  @hk.name_like("__call__")
  def answered(self, asked: Asked, state: State) -> dict[str, Array]:
    """Returns whole predictions, `[B, num_displacements, ...]`."""
    found, times = {}, len(self.config.displacements)
    for name, modality in self.outputs.items():
      for key, value in self._answered(name, asked[name], state, self.queries(name)).items():
        rows = value.shape[0]
        whole = modality.assemble(value.reshape(rows * times, -1, *value.shape[2:]))
        found[key] = whole.reshape(rows, times, *whole.shape[1:])
    return found

  def queries(self, name: str) -> Queries:
    """Returns the whole grid of a modality at every displacement."""
    grid = self.modalities[name].query_grid()
    ahead = self.config.displacements
    positions = jnp.asarray(np.tile(grid, (len(ahead), 1)), jnp.float32)
    return Queries(positions, jnp.asarray(np.repeat(np.asarray(ahead, np.float32), len(grid))))


def staged(config: Config) -> Staged:
  """Returns the model that `config` describes as layers; its answer is the register `predictions`.

  Its inputs are all modalities with their flags, and `is_first`. The core is one layer: what it
  knows after a tick is what it needs at the next.

  Raises:
    ValueError: The config contradicts itself.
  """
  config.validate()
  modalities = {n: modality_room.build(n, m) for n, m in config.modalities.items()}
  pieces = lambda: Pieces(config, modalities, name="stream_perceiver")  # noqa: E731

  def read(memory: PyTree, frame: Values) -> tuple[Values, PyTree]:
    inputs, memory, extra = pieces().remembered(memory, frame)
    return {"tokens": inputs, "seen": (memory, extra)}, memory

  def recur(latents: Array, inputs: Values) -> tuple[Values, PyTree]:
    latents, state = pieces().core(inputs["tokens"], latents)
    return {"latents": latents}, state

  def ask(latents: Array, seen: PyTree) -> Asked:
    return pieces().asked(State(latents, *seen))

  def attend(i: int, asked: Asked, latents: Array) -> Asked:
    return pieces().attended(i, asked, latents)

  decoder = chained("decoder", config.num_decoder_layers, "asked", ["latents"], attend)
  last = decoder[-1].name if decoder else "asked"

  def answer(asked: Asked, seen: PyTree) -> dict[str, Array]:
    return pieces().answered(asked, State(jnp.zeros((1, 1, 1)), *seen))

  layers = (
    remembering(modalities, read),
    Layer("core", ("tokens",), recur, lambda rows: pieces().core.initial_state(rows)),
    piece("queries", ("latents", "seen"), ask, "asked"),
    *decoder,
    piece("heads", (last, "seen"), answer, "predictions"),
  )
  seen = frozenset({"seen"})
  shapes = tick_shapes(modalities)
  return Staged("stream_perceiver", layers, shapes, ("predictions",), shortcuts=seen, observed=seen)
