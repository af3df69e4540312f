"""`stream_perceiver` as a list of layers: input, recurrent core, queries, decoder blocks, heads.

Parameters are those of the model itself, by name. The newest input is a shortcut to queries and
heads: in a pipeline of stages, predictions start from a frame that is newer than the latents.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream import modalities as modality_room
from perceiver_stream.core import PositionedConfig
from perceiver_stream.models.input_memory import remembering, tick_shapes
from perceiver_stream.models.recurrent import State, assembled
from perceiver_stream.models.stages import Layer, Staged, Values, layer_chain, stateless_layer
from perceiver_stream.models.stream_perceiver.config import Config
from perceiver_stream.models.stream_perceiver.network import StreamPerceiver

QueryVectors = dict[str, Float[Array, "B Q E"]]


def staged(config: Config) -> Staged:
  """Returns the model that `config` describes as layers; its output is the register `predictions`.

  Its inputs are all modalities with their flags, and `is_first`. The core is one layer, because
  each of its ticks depends on its previous output.

  Raises:
    ValueError: The config contradicts itself.
  """
  config.validate()
  modalities = {n: modality_room.build(n, m) for n, m in config.modalities.items()}
  make = lambda: StreamPerceiver(config, modalities, name="stream_perceiver")  # noqa: E731
  displacements = tuple(config.displacements)

  def read(memory: PyTree, frame: Values) -> tuple[Values, PyTree]:
    before = State(jnp.zeros((1, 1, 1)), memory)
    net = make()
    kept = net.remember(memory, jax.tree.map(lambda x: x[None], frame))
    found = (*net.encode(before, kept), kept.memory)
    inputs, extra, memory = jax.tree.map(lambda x: x[0], found)
    return {"tokens": inputs, "seen": (memory, extra)}, memory

  def recur(latents: PyTree, inputs: Values) -> tuple[Values, PyTree]:
    core = make().core
    output, state = core(inputs["tokens"], latents)
    return {"latents": core.latents(output)}, state

  def make_queries(latents: Array, observed: PyTree) -> QueryVectors:
    net, state = make(), State(latents, *observed)
    return {
      n: net.query_vectors(n, state, net.queries(n, None, displacements)) for n in net.outputs
    }

  def attend(i: int, vectors: QueryVectors, latents: Array) -> QueryVectors:
    net = make()
    asked = {name: net.queries(name, None, displacements) for name in vectors}
    return {name: net.attend(i, x, latents, asked[name]) for name, x in vectors.items()}

  # Heads of images read the motion of latents with positions.
  moving = ("latents",) if isinstance(config.core, PositionedConfig) else ()
  decoder = layer_chain("decoder", config.num_decoder_layers, "asked", ["latents"], attend)
  last = decoder[-1].name if decoder else "asked"

  def apply_heads(
    vectors: QueryVectors, observed: PyTree, latents: Array | None = None
  ) -> dict[str, Array]:
    net, found, state = make(), {}, State(jnp.zeros((1, 1, 1)), *observed)
    for name, modality in net.outputs.items():
      queries = net.queries(name, None, displacements)
      for key, cells in net.apply_head(name, vectors[name], latents, state, queries).items():
        ahead = (cells.shape[0], len(displacements), -1)
        found[key] = assembled(modality, cells.reshape(*ahead, *cells.shape[2:]))
    return found

  layers = (
    remembering(modalities, read),
    Layer("core", ("tokens",), recur, lambda rows: make().core.initial_state(rows)),
    stateless_layer("queries", ("latents", "seen"), make_queries, "asked"),
    *decoder,
    stateless_layer("heads", (last, "seen", *moving), apply_heads, "predictions"),
  )
  observed = frozenset({"seen"})
  shapes = tick_shapes(modalities)
  return Staged(
    "stream_perceiver", layers, shapes, ("predictions",), shortcuts=observed, observed=observed
  )
