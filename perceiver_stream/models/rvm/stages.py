"""RVM as a list of layers: patches, encoder blocks, recurrent core, questions, decoder blocks, pixels.

Parameters are those of the model itself, by name. Questions are made of the mask token, and of
the CLS token that went through the encoder without patches, beside the frame's own tokens.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.core import CoreInputs
from perceiver_stream.models.input_memory import remember_tick, remembering, tick_shapes
from perceiver_stream.models.rvm.config import Config
from perceiver_stream.models.rvm.model import frames_of
from perceiver_stream.models.rvm.network import Rvm
from perceiver_stream.models.stages import Layer, Staged, Values, chained, piece

Tokens = tuple[Float[Array, "B N D"], Float[Array, "B 1 D"]]  # of the frame, and of none
Flags = tuple[Bool[Array, " B"], Bool[Array, " B"]]  # is first, is valid


class Pieces(Rvm):
  """The network in pieces, each of which a layer calls."""

  def begun(self, frame: Float[Array, "B H W C"]) -> Tokens:
    """Returns the tokens of a frame, and those of no patch."""
    patches = self.patches(frame)
    return self.both(0, (self.with_cls(patches), self.with_cls(patches[:, :0])))

  def both(self, i: int, tokens: Tokens) -> Tokens:
    """Returns the tokens after i blocks of the encoder, from those after one less."""
    return self.encoded(i, tokens[0]), self.encoded(i, tokens[1])

  def asked(
    self, alone: Float[Array, "B 1 D"], mask: Float[Array, "B 1 E"]
  ) -> Float[Array, "B K M E"]:
    """Returns the questions about all patches at all displacements."""
    rows, columns = self.config.grid()
    batch, times = alone.shape[0], len(self.config.displacements)
    order = jnp.broadcast_to(jnp.arange(rows * columns)[None], (batch * times, rows * columns))
    ahead = jnp.tile(jnp.asarray(self.config.displacements, jnp.int32), batch)
    alone, mask = (jnp.repeat(x, times, axis=0) for x in (alone, mask))
    asked = self.questions(alone, mask, order, ahead)
    return asked.reshape(batch, times, *asked.shape[1:])

  def attended(
    self, i: int, asked: Float[Array, "B K M E"], sources: Float[Array, "B N E"]
  ) -> Float[Array, "B K M E"]:
    """Returns the questions after block i of the decoder has read the sources."""
    flat = asked.reshape(-1, *asked.shape[2:])
    sources = jnp.repeat(sources, asked.shape[1], axis=0)
    return self.painter().block(i, flat, sources).reshape(asked.shape)

  def answered(self, asked: Float[Array, "B K M E"]) -> dict[str, Float[Array, "B K H W C"]]:
    """Returns whole frames."""
    flat = self.painter().normed(asked.reshape(-1, *asked.shape[2:]))
    pixels = self.pixels(flat)
    return {"pixels": pixels.reshape(*asked.shape[:2], *pixels.shape[1:])}


def staged(config: Config) -> Staged:
  """Returns the model that `config` describes as layers; its answer is the register `predictions`.

  Its inputs are pixels with their flag, and `is_first`. What the core knows goes to every block of
  the decoder, as a shortcut.

  Raises:
    ValueError: The frame is not a whole number of patches, or has not three channels.
  """
  modalities = {"pixels": frames_of(config)}
  pieces = lambda: Pieces(config, name="rvm")  # noqa: E731

  def read(memory: PyTree, frame: Values) -> tuple[Values, PyTree]:
    kept = remember_tick(modalities, memory, frame)
    one, pixels = pieces(), kept.memory["pixels"].last
    flags = (kept.is_first, kept.valid["pixels"])
    told = {"tokens": one.begun(pixels), "mask": one.mask(pixels.shape[0]), "flags": flags}
    return told, kept.memory

  def recur(latents: Array, inputs: Values) -> tuple[Values, Array]:
    tokens, alone = inputs[encoded]
    is_first, valid = inputs["flags"]
    now = CoreInputs(tokens, is_first=is_first, valid=valid)
    latents, _ = pieces().core(now, latents)
    return {"latents": latents, "alone": alone}, latents

  def ask(latents: Array, alone: Array, mask: Array) -> tuple[Array, Array]:
    one = pieces()
    return one.asked(alone, mask), one.embed(latents)

  encoder = chained(
    "encoder", config.encoder.num_layers, "tokens", [], lambda i, x: pieces().both(i + 1, x)
  )
  encoded = encoder[-1].name if encoder else "tokens"
  attend = lambda i, x, sources: pieces().attended(i, x, sources)  # noqa: E731
  decoder = chained("decoder", config.decoder.num_layers, "asked", ["sources"], attend)
  last = decoder[-1].name if decoder else "asked"
  layers = (
    remembering(modalities, read),
    *encoder,
    Layer("core", (encoded, "flags"), recur, lambda rows: pieces().core.initial_state(rows)),
    piece("questions", ("latents", "alone", "mask"), ask, ("asked", "sources")),
    *decoder,
    piece("pixels", [last], lambda x: pieces().answered(x), "predictions"),
  )
  return Staged(
    "rvm",
    layers,
    tick_shapes(modalities),
    ("predictions",),
    shortcuts=frozenset({"sources"}),
    observed=frozenset({"flags"}),
  )
