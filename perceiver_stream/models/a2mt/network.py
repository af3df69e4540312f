"""An agent that acquires modalities: tokens of what it bought, recurrent latents, three queries.

Tokens of the acquired modalities and one of the prices and the time are the inputs of a recurrent core;
one output query each reads the policy, the value and the prediction from the latents, as in Perceiver IO.
A modality's tokens are of the tick alone: the past is in the latents only.

Source: A2MT (2211.05039): a Perceiver IO agent; no code is released. The recurrence is ours: latents keep
what was acquired, so that a tick costs the same however long the episode is. The price is an input, so
one agent learns all prices of a list.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream import modalities as modality_room
from perceiver_stream.core import CORES, CoreInputs
from perceiver_stream.models.a2mt.config import Config
from perceiver_stream.nn import CrossBlock, LearnedPositions, Linear, Precision, where_rows


class Heads(NamedTuple):
  """Outputs at one tick, or at all of them with `T` first.

  Attributes:
    logits: Of acquiring each modality at the next tick.
    value: Expected sum of the rewards to come.
    scores: Log probabilities of the classes.
  """

  logits: Float[Array, "*T B M"]
  value: Float[Array, "*T B"]
  scores: Float[Array, "*T B K"]


class Rollout(NamedTuple):
  """An episode of every row.

  Attributes:
    heads: After each tick.
    actions: Modalities chosen after each tick for the next; those after the last have no effect.
    acquired: Modalities acquired at each tick: chosen, and in the stream.
  """

  heads: Heads
  actions: Bool[Array, "T B M"]
  acquired: Bool[Array, "T B M"]


Choose = Callable[[Array, Array, Heads], Bool[Array, "B M"]]
"""`(tick, key, heads) -> modalities to acquire at the next tick`."""


class Agent(NamedTuple):
  """An agent as pure functions.

  Observations are `{name: [T, B, ...]}`, `valid` is `[T, B, M]` bool, True where the stream has a
  modality, and prices are `[B, M]`, M in the order of `names`.

  Attributes:
    init: `(rng, observations, valid, prices) -> params`.
    rollout: `(params, observations, valid, prices, choose, rng) -> Rollout`.
    names: Modalities.
    config: Its config.
  """

  init: Callable[..., PyTree]
  rollout: Callable[..., Rollout]
  names: tuple[str, ...]
  config: Config


class _Network:
  """The modules."""

  def __init__(self, config: Config):
    self.config, core = config, config.core
    self.modalities = {n: modality_room.build(n, m) for n, m in config.modalities.items()}
    self.precision = Precision()
    self.core = CORES[type(core)](core, self.precision, name="core")
    self.context = Linear(config.token_dim, name="context")
    self.queries = LearnedPositions(3, core.latent_dim, name="output_queries")
    self.decoder = CrossBlock(core.num_heads, mlp_dim=2 * core.latent_dim, name="decoder")
    sizes = {"policy": len(config.modalities), "value": 1, "prediction": config.num_classes}
    self.outputs = [Linear(size, name=name) for name, size in sizes.items()]

  def rollout(
    self,
    observations: Mapping[str, Array],
    valid: Bool[Array, "T B M"],
    prices: Float[Array, "B M"],
    choose: Choose,
    rng: Array,
  ) -> Rollout:
    """Returns an episode in which `choose` decides."""
    tokens, sizes = self._tokens(observations, valid)
    times, rows = valid.shape[:2]

    def tick(carry: tuple, inputs: tuple) -> tuple[tuple, tuple]:
      state, chosen, key = carry
      number, of_tick, has = inputs
      acquired = chosen & has
      seen = jnp.repeat(acquired, jnp.asarray(sizes), axis=1, total_repeat_length=sum(sizes))
      context = self.context(_context(number.astype(jnp.float32) / times, prices))[:, None]
      visible = jnp.concatenate([jnp.ones((rows, 1), bool), seen], axis=1)
      made = CoreInputs(
        jnp.concatenate([context, of_tick], axis=1),
        visible,
        is_first=jnp.broadcast_to(number == 0, (rows,)),
        valid=jnp.ones(rows, bool),
      )
      _, state = self.core(made, state)
      heads = self._heads(self.core.latents(state))
      key, now = jax.random.split(key)
      action = jax.lax.stop_gradient(choose(number, now, heads))
      return (state, action, key), (heads, action, acquired)

    start = self.core.initial_state(rows), jnp.zeros(valid.shape[1:], bool), rng
    return Rollout(*hk.scan(tick, start, (jnp.arange(times), tokens, valid))[1])

  def _heads(self, latents: Float[Array, "B L D"]) -> Heads:
    decoded = self.decoder(self.queries(latents.shape[0]), latents)
    logits, value, scores = (f(decoded[:, i]) for i, f in enumerate(self.outputs))
    return Heads(logits, value[:, 0], jax.nn.log_softmax(scores))

  def _tokens(
    self, observations: Mapping[str, Array], valid: Bool[Array, "T B M"]
  ) -> tuple[Float[Array, "T B N C"], list[int]]:
    """Returns the tokens of all ticks, and their number by modality."""
    times, rows = valid.shape[:2]
    first, found = jnp.ones(times * rows, bool), []
    for number, (name, modality) in enumerate(self.modalities.items()):
      flat = jnp.asarray(observations[name]).reshape(times * rows, *observations[name].shape[2:])
      has = valid[..., number].reshape(-1)
      value = where_rows(~has, 0.0, modality.preprocess(flat))
      memory = modality.initial_memory(times * rows)
      memory = modality.remember(memory, value, first, first)
      made = modality.tokens(memory, modality.derive(memory), self.config.token_dim, self.precision)
      found.append(made.reshape(times, rows, *made.shape[1:]))
    return jnp.concatenate(found, axis=2), [x.shape[2] for x in found]


def _context(share: Array, prices: Float[Array, "B M"]) -> Float[Array, "B E"]:
  """Returns prices, their roots, and waves of the share of the episode that is over."""
  waves = share * jnp.asarray(np.pi * 2.0 ** np.arange(5), jnp.float32)
  waves = jnp.concatenate([jnp.sin(waves), jnp.cos(waves)])
  waves = jnp.broadcast_to(waves, (prices.shape[0], waves.size))
  return jnp.concatenate([prices, jnp.sqrt(prices), waves], axis=1)


def sampled(tick: Array, key: Array, heads: Heads) -> Bool[Array, "B M"]:
  """Returns actions drawn from the policy."""
  del tick
  return jax.random.bernoulli(key, jax.nn.sigmoid(heads.logits))


def preferred(tick: Array, key: Array, heads: Heads) -> Bool[Array, "B M"]:
  """Returns the more probable actions of the policy."""
  del tick, key
  return heads.logits > 0


def build(config: Config) -> Agent:
  """Returns an agent as pure functions.

  Raises:
    ValueError: A size does not fit another; see `Config.validate`.
  """
  config.validate()
  rollout = hk.without_apply_rng(
    hk.transform(lambda *arguments: _Network(config).rollout(*arguments))
  )

  @jax.jit
  def init(rng: Array, observations: Any, valid: Array, prices: Array) -> PyTree:
    return rollout.init(rng, observations, valid, prices, preferred, rng)

  return Agent(init, rollout.apply, tuple(config.modalities), config)
