"""RVM as a list of layers: patches, encoder blocks, recurrent core, questions, decoder blocks, pixels.

Parameters are those of the model itself, by name. Questions are made of the CLS token that went
through the encoder without patches; it goes there beside the frame's own tokens.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models.frames import remember_tick, remembering, tick_shapes
from perceiver_stream.models.rvm import Config, Rvm, Tick
from perceiver_stream.models.rvm_model import frames_of
from perceiver_stream.models.staged import Layer, Staged, Values, chained, piece

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

  def asked(self, alone: Float[Array, "B 1 D"]) -> Float[Array, "B K M E"]:
    """Returns the questions about all patches at all displacements."""
    rows, columns = self.config.grid()
    batch, times = alone.shape[0], len(self.config.displacements)
    order = jnp.broadcast_to(jnp.arange(rows * columns)[None], (batch * times, rows * columns))
    ahead = jnp.tile(jnp.asarray(self.config.displacements, jnp.int32), batch)
    asked = self.questions(jnp.repeat(alone, times, axis=0), order, ahead)
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
  depth = config.encoder.num_layers

  def read(memory: PyTree, frame: Values) -> tuple[Values, PyTree]:
    kept = remember_tick(modalities, memory, frame)
    tokens = pieces().begun(kept.memory["pixels"].last)
    return {"tokens": tokens, "flags": (kept.is_first, kept.valid["pixels"])}, kept.memory

  def recur(latents: Array, inputs: Values) -> tuple[Values, Array]:
    (tokens, alone), flags = inputs[encoder[-1].name if encoder else "tokens"], inputs["flags"]
    latents, _ = pieces().tick(Tick(tokens, *flags), latents)
    return {"latents": latents, "alone": alone}, latents

  def ask(state: PyTree, inputs: Values) -> tuple[Values, PyTree]:
    one = pieces()
    return {"asked": one.asked(inputs["alone"]), "sources": one.embed(inputs["latents"])}, state

  encoder = chained("encoder", depth, "tokens", [], lambda i, x: pieces().both(i + 1, x))
  decoder = chained(
    "decoder",
    config.decoder.num_layers,
    "asked",
    ["sources"],
    lambda i, asked, sources: pieces().attended(i, asked, sources),
  )
  layers = (
    remembering(modalities, read),
    *encoder,
    Layer(
      "core",
      (encoder[-1].name if encoder else "tokens", "flags"),
      recur,
      lambda rows: pieces().initial_state(rows),
    ),
    Layer("questions", ("latents", "alone"), ask),
    *decoder,
    piece(
      "pixels",
      [decoder[-1].name if decoder else "asked"],
      lambda asked: pieces().answered(asked),
      "predictions",
    ),
  )
  return Staged(
    "rvm",
    layers,
    tick_shapes(modalities),
    ("predictions",),
    shortcuts=frozenset({"sources"}),
    observed=frozenset({"flags"}),
  )
