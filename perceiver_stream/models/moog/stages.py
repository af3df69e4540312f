"""MooG as a list of layers: convolutions, tokens, recurrent core, decoder blocks, pixels.

Parameters are those of the model itself, by name. Iterated predictions are computed by the core,
whose predictor they share.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.core import CoreInputs
from perceiver_stream.models.input_memory import remember_tick, remembering, tick_shapes
from perceiver_stream.models.moog.config import Config
from perceiver_stream.models.moog.model import modalities_of, positions_of, sample
from perceiver_stream.models.moog.network import DenseDecoder, Moog
from perceiver_stream.models.stages import Layer, Staged, Values, layer_chain, stateless_layer
from perceiver_stream.nn import repeat_rows


def staged(config: Config) -> Staged:
  """Returns the model that `config` describes as layers; its output is the register `predictions`.

  Its inputs are pixels with their flag, and `is_first`. Predicted states are shortcuts to every
  block of the decoder. With `use_loss_gradient`, core and decoder share parameters and must be in
  one stage.

  Raises:
    ValueError: The model has no decoder, or frames do not have three channels.
  """
  if config.decoder is None:
    raise ValueError("moog: stages end in predictions, but config.decoder is None; give it one.")
  modalities = modalities_of(config)
  make = lambda: Moog(config, name="moog")  # noqa: E731

  def read(memory: PyTree, frame: Values) -> tuple[Values, PyTree]:
    kept = remember_tick(modalities, memory, frame)
    pixels = kept.memory["pixels"].last
    observed_inputs = {"flags": (kept.is_first, kept.valid["pixels"])}
    observed_inputs |= {"frame": pixels} if config.use_loss_gradient else {}
    return {"features": make().encoder.convs.layer(0, pixels)} | observed_inputs, kept.memory

  def recur(state: PyTree, inputs: Values) -> tuple[Values, PyTree]:
    (latents, start), (is_first, valid) = state, inputs["flags"]
    tick = CoreInputs(inputs["tokens"], is_first=is_first, start=start, valid=valid)
    if config.use_loss_gradient:
      corner = jnp.zeros((1, is_first.shape[0], 2), jnp.int32)
      positions, targets = sample(config, inputs["frame"][None], corner)
      tick = tick._replace(beside=(targets[0], positions[0]))
    net = make()
    _, latents = net.core(tick, latents)
    ahead = jnp.moveaxis(net.futures(latents, config.displacements), 0, 1)
    flat = ahead.reshape(-1, *ahead.shape[2:])
    queries = decoder_of(net).queries(flat, repeat_rows(positions_of(config), flat.shape[0]))
    queries = queries.reshape(*ahead.shape[:2], *queries.shape[1:])
    return {"ahead": ahead, "asked": queries}, (latents, start)

  def begin(rows: int) -> tuple[Array, Array]:
    start = make().initial_state(rows)
    return start, start

  def attend(i: int, queries: Array, ahead: Array) -> Array:
    flat = ahead.reshape(-1, *ahead.shape[2:])
    return of_rows(make(), lambda decoder, x: decoder.stack.blocks[i](x, flat), queries)

  def decode(queries: Array) -> dict[str, Float[Array, "B K H W C"]]:
    finish = lambda decoder, x: decoder.output(decoder.stack.norm(x))  # noqa: E731
    pixels = of_rows(make(), finish, queries)
    shape = (config.height, config.width, config.channels)
    return {"pixels": pixels.reshape(*queries.shape[:2], *shape)}

  next_features = lambda i, x: make().encoder.convs.layer(i + 1, x)  # noqa: E731
  convs = layer_chain("conv", len(config.encoder.channels) - 1, "features", [], next_features)
  features = convs[-1].name if convs else "features"
  decoder = layer_chain("decoder", config.decoder.stack.num_layers, "asked", ["ahead"], attend)
  last = decoder[-1].name if decoder else "asked"
  observed = ("flags", "frame") if config.use_loss_gradient else ("flags",)
  layers = (
    remembering(modalities, read),
    *convs,
    stateless_layer("tokens", [features], lambda x: make().encoder.tokens(x)),
    Layer("core", ("tokens", *observed), recur, begin),
    *decoder,
    stateless_layer("pixels", [last], decode, "predictions"),
  )
  return Staged(
    "moog",
    layers,
    tick_shapes(modalities),
    ("predictions",),
    shortcuts=frozenset({"ahead"}),
    observed=frozenset(observed),
  )


def decoder_of(net: Moog) -> DenseDecoder:
  """Returns the decoder of a network with a decoder."""
  assert net.decoder is not None  # `staged` checks the config
  return net.decoder


def of_rows(
  net: Moog, f: Callable[[DenseDecoder, Array], Array], queries: Float[Array, "B K Q E"]
) -> Float[Array, "B K Q F"]:
  """Returns `f` of the queries, with displacements folded into rows."""
  decoder = decoder_of(net)
  x = decoder.chunked(lambda x: f(decoder, x), queries.reshape(-1, *queries.shape[2:]))
  return x.reshape(*queries.shape[:2], *x.shape[1:])
