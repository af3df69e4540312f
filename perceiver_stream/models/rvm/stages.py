"""RVM as a list of layers: patches, encoder blocks, core, queries, decoder blocks, pixels.

Parameters are those of the model itself, by name. Queries are computed from the mask token and from
a CLS token that passes the encoder without patches, in parallel to the frame's tokens.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.core import CoreInputs
from perceiver_stream.models.input_memory import remember_tick, remembering, tick_shapes
from perceiver_stream.models.rvm.config import Config
from perceiver_stream.models.rvm.model import modalities_of
from perceiver_stream.models.rvm.network import Rvm
from perceiver_stream.models.stages import Layer, Staged, Values, layer_chain, stateless_layer

Tokens = tuple[Float[Array, "B N D"], Float[Array, "B 1 D"]]  # of the frame, and CLS only


def staged(config: Config) -> Staged:
  """Returns the model that `config` describes as layers; its output is the register `predictions`.

  Its inputs are pixels with their flag, and `is_first`. The core's latents are a shortcut to every
  block of the decoder.

  Raises:
    ValueError: The frame is not a whole number of patches, or does not have three channels.
  """
  modalities = modalities_of(config)
  displacements = config.displacements
  make = lambda: Rvm(config, name="rvm")  # noqa: E731

  def read(memory: PyTree, frame: Values) -> tuple[Values, PyTree]:
    kept = remember_tick(modalities, memory, frame)
    net, pixels = make(), kept.memory["pixels"].last
    patches = net.patches(pixels)
    tokens = tuple(net.encoded(0, net.with_cls(x)) for x in (patches, patches[:, :0]))
    flags = (kept.is_first, kept.valid["pixels"])
    return {"tokens": tokens, "mask": net.mask(pixels.shape[0]), "flags": flags}, kept.memory

  def encode(i: int, tokens: Tokens) -> Tokens:
    net = make()
    return net.encoded(i + 1, tokens[0]), net.encoded(i + 1, tokens[1])

  def recur(latents: Array, inputs: Values) -> tuple[Values, Array]:
    (tokens, cls_only), (is_first, valid) = inputs[encoded], inputs["flags"]
    now = CoreInputs(tokens, is_first=is_first, valid=valid)
    latents, _ = make().core(now, latents)
    return {"latents": latents, "alone": cls_only}, latents

  def make_queries(latents: Array, cls_only: Array, mask: Array) -> tuple[Array, Array]:
    """Returns the queries of all patches at all displacements, and the tokens they attend to."""
    net, times = make(), len(displacements)
    rows, columns = config.grid()
    order = jnp.broadcast_to(
      jnp.arange(rows * columns)[None], (cls_only.shape[0] * times, rows * columns)
    )
    ahead = jnp.tile(jnp.asarray(displacements, jnp.int32), cls_only.shape[0])
    each = (jnp.repeat(x, times, axis=0) for x in (cls_only, mask))
    queries = net.queries(*each, order, ahead)
    return queries.reshape(-1, times, *queries.shape[1:]), net.embed(latents)

  def attend(i: int, queries: Array, sources: Array) -> Array:
    flat = queries.reshape(-1, *queries.shape[2:])
    sources = jnp.repeat(sources, queries.shape[1], axis=0)
    return make().decoder.blocks[i](flat, sources).reshape(queries.shape)

  def decode(queries: Float[Array, "B K M E"]) -> dict[str, Float[Array, "B K H W C"]]:
    net = make()
    pixels = net.pixels(net.decoder.norm(queries.reshape(-1, *queries.shape[2:])))
    return {"pixels": pixels.reshape(*queries.shape[:2], *pixels.shape[1:])}

  encoder = layer_chain("encoder", config.encoder.num_layers, "tokens", [], encode)
  encoded = encoder[-1].name if encoder else "tokens"
  decoder = layer_chain("decoder", config.decoder.num_layers, "asked", ["sources"], attend)
  last = decoder[-1].name if decoder else "asked"
  layers = (
    remembering(modalities, read),
    *encoder,
    Layer("core", (encoded, "flags"), recur, lambda rows: make().core.initial_state(rows)),
    stateless_layer("queries", ("latents", "alone", "mask"), make_queries, ("asked", "sources")),
    *decoder,
    stateless_layer("pixels", [last], decode, "predictions"),
  )
  return Staged(
    "rvm",
    layers,
    tick_shapes(modalities),
    ("predictions",),
    shortcuts=frozenset({"sources"}),
    observed=frozenset({"flags"}),
  )
