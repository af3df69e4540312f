"""MooG as a list of layers: convolutions, tokens, recurrent core, decoder blocks, pixels.

Parameters are those of the model itself, by name. Predictions of predictions are made by the core,
whose predictor they share.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.core import CoreInputs
from perceiver_stream.models.input_memory import remember_tick, remembering, tick_shapes
from perceiver_stream.models.moog.config import Config
from perceiver_stream.models.moog.model import frames_of, positions_of, sample
from perceiver_stream.models.moog.network import Moog
from perceiver_stream.models.stages import Layer, Staged, Values, chained, piece
from perceiver_stream.nn import repeat_rows


class Pieces(Moog):
  """The network in pieces, each of which a layer calls; K displacements."""

  def moved(self, tick: CoreInputs, latents: Float[Array, "B L D"]) -> tuple[Values, Array]:
    """Returns the latents of all displacements, what pixels ask of them, and the next latents."""
    _, latents = self.core(tick, latents)
    ahead = jnp.moveaxis(self.futures(latents, self.config.displacements), 0, 1)
    flat = ahead.reshape(-1, *ahead.shape[2:])
    asked = self.decoder().asked(flat, repeat_rows(positions_of(self.config), flat.shape[0]))
    return {"ahead": ahead, "asked": asked.reshape(*ahead.shape[:2], *asked.shape[1:])}, latents

  def attended(
    self, i: int, asked: Float[Array, "B K Q E"], ahead: Float[Array, "B K L D"]
  ) -> Float[Array, "B K Q E"]:
    """Returns the questions after block i of the decoder has read the latents."""
    flat = ahead.reshape(-1, *ahead.shape[2:])
    return self._each(lambda decoder, x: decoder.attended(i, x, flat), asked)

  def answered(self, asked: Float[Array, "B K Q E"]) -> dict[str, Float[Array, "B K H W C"]]:
    """Returns whole frames."""
    pixels = self._each(lambda decoder, x: decoder.answered(x), asked)
    shape = (self.config.height, self.config.width, self.config.channels)
    return {"pixels": pixels.reshape(*asked.shape[:2], *shape)}

  def _each(self, f: Callable[..., Array], asked: Array) -> Array:
    """Returns what the decoder makes of questions, of all displacements as if they were rows."""
    decoder = self.decoder()
    x = decoder.chunked(lambda x: f(decoder, x), asked.reshape(-1, *asked.shape[2:]))
    return x.reshape(*asked.shape[:2], *x.shape[1:])


def staged(config: Config) -> Staged:
  """Returns the model that `config` describes as layers; its answer is the register `predictions`.

  Its inputs are pixels with their flag, and `is_first`. What the core foresees goes to every block
  of the decoder, as a shortcut. With `use_loss_gradient` core and decoder share parameters and must
  be in one stage.

  Raises:
    ValueError: The model has no decoder, or frames that have not three channels.
  """
  if config.decoder is None:
    raise ValueError("moog: stages end in predictions, but config.decoder is None; give it one.")
  modalities = {"pixels": frames_of(config)}
  pieces = lambda: Pieces(config, name="moog")  # noqa: E731

  def read(memory: PyTree, frame: Values) -> tuple[Values, PyTree]:
    kept = remember_tick(modalities, memory, frame)
    pixels = kept.memory["pixels"].last
    seen = {"flags": (kept.is_first, kept.valid["pixels"])}
    seen |= {"frame": pixels} if config.use_loss_gradient else {}
    return {"features": pieces().encoder().filtered(0, pixels)} | seen, kept.memory

  def recur(state: PyTree, inputs: Values) -> tuple[Values, PyTree]:
    (latents, start), (is_first, valid) = state, inputs["flags"]
    tick = CoreInputs(inputs["tokens"], is_first=is_first, start=start, valid=valid)
    if config.use_loss_gradient:
      corner = jnp.zeros((1, is_first.shape[0], 2), jnp.int32)
      positions, targets = sample(config, inputs["frame"][None], corner)
      tick = tick._replace(beside=(targets[0], positions[0]))
    written, latents = pieces().moved(tick, latents)
    return written, (latents, start)

  def begin(rows: int) -> tuple[Array, Array]:
    start = pieces().initial_state(rows)
    return start, start

  filtered = lambda i, x: pieces().encoder().filtered(i + 1, x)  # noqa: E731
  convs = chained("conv", len(config.encoder.channels) - 1, "features", [], filtered)
  features = convs[-1].name if convs else "features"
  attend = lambda i, x, ahead: pieces().attended(i, x, ahead)  # noqa: E731
  decoder = chained("decoder", config.decoder.stack.num_layers, "asked", ["ahead"], attend)
  last = decoder[-1].name if decoder else "asked"
  observed = ("flags", "frame") if config.use_loss_gradient else ("flags",)
  layers = (
    remembering(modalities, read),
    *convs,
    piece("tokens", [features], lambda x: pieces().encoder().tokens(x)),
    Layer("core", ("tokens", *observed), recur, begin),
    *decoder,
    piece("pixels", [last], lambda x: pieces().answered(x), "predictions"),
  )
  return Staged(
    "moog",
    layers,
    tick_shapes(modalities),
    ("predictions",),
    shortcuts=frozenset({"ahead"}),
    observed=frozenset(observed),
  )
