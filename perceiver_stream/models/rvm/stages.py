"""RVM as a list of layers: patches, encoder blocks, recurrent core, questions, decoder blocks, pixels.

Parameters are those of the model itself, by name. Questions are made of the mask token, and of
the CLS token that went through the encoder without patches, beside the frame's own tokens.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.core import CoreInputs
from perceiver_stream.models.input_memory import remember_tick, remembering, tick_shapes
from perceiver_stream.models.rvm.config import Config
from perceiver_stream.models.rvm.model import modalities_of
from perceiver_stream.models.rvm.network import Rvm
from perceiver_stream.models.stages import Layer, Staged, Values, layer_chain, stateless_layer

Tokens = tuple[Float[Array, "B N D"], Float[Array, "B 1 D"]]  # of the frame, and of none


def staged(config: Config) -> Staged:
  """Returns the model that `config` describes as layers; its answer is the register `predictions`.

  Its inputs are pixels with their flag, and `is_first`. What the core knows goes to every block of
  the decoder, as a shortcut.

  Raises:
    ValueError: The frame is not a whole number of patches, or has not three channels.
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
    (tokens, alone), (is_first, valid) = inputs[encoded], inputs["flags"]
    now = CoreInputs(tokens, is_first=is_first, valid=valid)
    latents, _ = make().core(now, latents)
    return {"latents": latents, "alone": alone}, latents

  def ask(latents: Array, alone: Array, mask: Array) -> tuple[Array, Array]:
    """Returns the queries of all patches at all displacements, and what they read."""
    net, times = make(), len(displacements)
    rows, columns = config.grid()
    order = jnp.broadcast_to(
      jnp.arange(rows * columns)[None], (alone.shape[0] * times, rows * columns)
    )
    ahead = jnp.tile(jnp.asarray(displacements, jnp.int32), alone.shape[0])
    each = (jnp.repeat(x, times, axis=0) for x in (alone, mask))
    asked = net.questions(*each, order, ahead)
    return asked.reshape(-1, times, *asked.shape[1:]), net.embed(latents)

  def attend(i: int, asked: Array, sources: Array) -> Array:
    flat = asked.reshape(-1, *asked.shape[2:])
    sources = jnp.repeat(sources, asked.shape[1], axis=0)
    return make().decoder.blocks[i](flat, sources).reshape(asked.shape)

  def answer(asked: Float[Array, "B K M E"]) -> dict[str, Float[Array, "B K H W C"]]:
    net = make()
    pixels = net.pixels(net.decoder.norm(asked.reshape(-1, *asked.shape[2:])))
    return {"pixels": pixels.reshape(*asked.shape[:2], *pixels.shape[1:])}

  encoder = layer_chain("encoder", config.encoder.num_layers, "tokens", [], encode)
  encoded = encoder[-1].name if encoder else "tokens"
  decoder = layer_chain("decoder", config.decoder.num_layers, "asked", ["sources"], attend)
  last = decoder[-1].name if decoder else "asked"
  layers = (
    remembering(modalities, read),
    *encoder,
    Layer("core", (encoded, "flags"), recur, lambda rows: make().core.initial_state(rows)),
    stateless_layer("questions", ("latents", "alone", "mask"), ask, ("asked", "sources")),
    *decoder,
    stateless_layer("pixels", [last], answer, "predictions"),
  )
  return Staged(
    "rvm",
    layers,
    tick_shapes(modalities),
    ("predictions",),
    shortcuts=frozenset({"sources"}),
    observed=frozenset({"flags"}),
  )
