"""Published models behind one call each, so that one `init` makes all their parameters."""

import haiku as hk
import jax.numpy as jnp

from perceiver_stream.core import CoreInputs
from perceiver_stream.models.moog.network import Moog
from perceiver_stream.models.rvm.network import Rvm


def whole(network, video, state, encoder_positions, decoder_positions):
  """Touches every parameter of a `Moog`."""
  tokens = network.encode(video, encoder_positions)
  shape = (*video.shape[:2], decoder_positions.shape[0])
  positions = jnp.broadcast_to(decoder_positions, (*shape, decoder_positions.shape[-1]))
  targets = video.reshape(*shape, video.shape[-1])
  ticks = CoreInputs(tokens, beside=(targets, positions))
  steps, last = network.unroll(ticks, state)
  decoded = decode_all(network, steps.predicted, positions)
  return tokens, steps, last, decoded, decode_all(network, before(state, steps), positions)


def before(state, steps):
  """Returns the state before each tick."""
  return jnp.concatenate([state[None], steps.corrected[:-1]])


def decode_all(network, states, positions):
  """Returns the decoded pixels of all ticks, `[T, B, Q, 3]`."""
  merge = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
  answers = network.decode(merge(states), merge(positions))
  return answers.reshape(*states.shape[:2], *answers.shape[1:])


class WholeMoog(hk.Module):
  """A `Moog` behind one call, so that one `init` makes all its parameters."""

  def __init__(self, config):
    super().__init__(name="whole")
    self.config = config

  @hk.transparent
  def __call__(self, *args):
    return whole(Moog(self.config), *args)


class WholeRvm(hk.Module):
  """An `Rvm` behind one call: sources through the core, one target predicted."""

  def __init__(self, config):
    super().__init__(name="whole")
    self.config = config

  @hk.transparent
  def __call__(self, frames, state, targets, orders, deltas):
    network = Rvm(self.config)
    encoded = network.encode(frames)
    states, last = network.unroll(CoreInputs(encoded), state)
    predicted = []
    for i in range(targets.shape[0]):
      delta = None if deltas is None else deltas[i]
      predicted.append(network.predict_frames(states, targets[i], orders[i], delta))
    return encoded, states, last, jnp.stack(predicted)
