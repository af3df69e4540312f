"""A2MT's objective: each window of every row is an episode in which an agent pays for what it observes.

For the first `masking_windows` windows modalities are acquired at random, each row at its own uniform rate
and for nothing: pretraining by masking, so that the prediction bears sparse inputs. After it, actor-critic
learning of the policy. The prediction is always trained, on what was acquired.

The label of an episode is that of its last tick. Rows that start another recording later than at their
first tick do not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.models.a2mt.actor_critic import ActorCriticLoss, actor_critic_loss
from perceiver_stream.models.a2mt.config import Config as AgentConfig
from perceiver_stream.models.a2mt.network import Heads, Rollout, build, sampled
from perceiver_stream.models.base import Model
from perceiver_stream.nn.losses.contrastive import cross_entropy
from perceiver_stream.reporting.purchases import BOUGHT, GUESSES, LABELS, PRICE
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.streams.acquisition import LABEL
from perceiver_stream.training.objectives.base import (
  Aux,
  Objective,
  Score,
  check_window,
  flag,
  mean_where,
  whole_rows,
)
from perceiver_stream.types import Observation

SHOWN = 8  # episodes of a strip


@dataclass(kw_only=True)
class Config:
  """Prices and weights.

  Attributes:
    window: Ticks of an episode.
    prices: Prices of a tick of each modality, nats; each row draws one of its list.
    masking_windows: Windows of pretraining by masking.
    rising_windows: Windows after those in which prices rise from 0 to the listed ones. With full prices
      at once, a policy that is still random pays so much that it soon buys nothing, and stays there.
    entropy_weight: Of the policy's entropy.
    value_weight: Of the value's loss.
    return_decay: λ of the returns.
  """

  window: int = 16
  prices: dict[str, tuple[float, ...]] = field(default_factory=dict)
  masking_windows: int = 245
  rising_windows: int = 100
  entropy_weight: float = 0.01
  value_weight: float = 0.5
  return_decay: float = 0.95

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("a2mt", self.window)
    for name, prices in self.prices.items():
      if not prices or not all(0 <= price < np.inf for price in prices):
        raise ValueError(f"a2mt: prices of '{name}' are {prices}; list one or more of 0 or more.")
    if not 0 <= self.return_decay <= 1 or min(self.masking_windows, self.rising_windows) < 0:
      raise ValueError(
        f"a2mt: return_decay={self.return_decay} must be 0 to 1, masking_windows="
        f"{self.masking_windows} and rising_windows={self.rising_windows} 0 or more."
      )


class PaidAcquisition(Objective):
  """Loss of an agent, and `cost@0`, minus its mean return in nats, beside that of equal scores."""

  name, config_type = "a2mt", Config
  labels = {LABEL: ("cost", "nats")}

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    self.agent = build(model.config)
    names = self.agent.names
    self.needs = (*names, LABEL)
    if set(config.prices) != set(names) or config.window != model.config.num_ticks:
      raise ValueError(
        f"a2mt: prices of {sorted(config.prices)} and window={config.window}; the agent has "
        f"{sorted(names)} and num_ticks={model.config.num_ticks}. Make them equal."
      )

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model is no agent, a sentence; None if it is one."""
    return None if isinstance(model.config, AgentConfig) else "It is no A2MT agent."

  def init_params(self, rng: Array, observation: Observation) -> PyTree:
    """Returns the agent's parameters."""
    names, ticks = self.agent.names, self.config.window
    seen = {n: jnp.repeat(jnp.asarray(observation[n])[None], ticks, axis=0) for n in names}
    rows, number = seen[names[0]].shape[1], len(names)
    valid = jnp.ones((ticks, rows, number), bool)
    return self.agent.init(rng, seen, valid, jnp.zeros((rows, number)))

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> PyTree:
    """Returns the number of windows so far."""
    del params, batch_size, rng
    return jnp.zeros((), jnp.int32)

  def loss(
    self,
    params: PyTree,
    state: Int[Array, ""],
    window: Observation,
    rng: Array | None = None,
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the sum of all terms, with its other results."""
    if rng is None:
      raise ValueError("a2mt: actions are random; give a key as rng.")
    c, (price_key, act_key, mask_key) = self.config, jax.random.split(rng, 3)
    counted, label = whole_rows(window, (LABEL,)), jnp.asarray(window[LABEL])[-1]
    valid = jnp.stack([flag(window, n) for n in self.agent.names], axis=-1)
    masked = state < c.masking_windows
    risen = (state - c.masking_windows + 1) / (c.rising_windows + 1)
    prices = jnp.clip(risen, 0.0, 1.0) * self._draw_prices(price_key, label.shape[0])
    rates = jax.random.uniform(mask_key, label.shape)

    def choose(tick: Array, key: Array, heads: Heads) -> Array:
      at_random = jax.random.bernoulli(key, rates[:, None], heads.logits.shape)
      return jnp.where(masked, at_random, sampled(tick, key, heads))

    seen = {name: window[name] for name in self.agent.names}
    done = self.agent.rollout(params, seen, valid, prices, choose, act_key)
    error = label_errors(done, label)
    rewards, acting = rewards_of(done, prices, error), counted & ~masked
    shown = shown_episodes(done, self.agent.names, prices, label)
    parts = self._actor_critic(done, rewards, acting)
    loss = mean_where(error, counted) + parts.policy + c.value_weight * parts.value
    loss -= c.entropy_weight * parts.entropy
    return loss, self._aux(state + 1, rewards, acting, shown)

  def _actor_critic(
    self, done: Rollout, rewards: Float[Array, "T B"], rows: Bool[Array, " B"]
  ) -> ActorCriticLoss:
    heads, decay = done.heads, self.config.return_decay
    return actor_critic_loss(heads.logits, heads.value, done.actions, rewards, rows, decay)

  def _draw_prices(self, rng: Array, rows: int) -> Float[Array, "B M"]:
    keys = jax.random.split(rng, len(self.agent.names))
    lists = [jnp.asarray(self.config.prices[name]) for name in self.agent.names]
    drawn = [jax.random.choice(k, x, (rows,)) for k, x in zip(keys, lists, strict=True)]
    return jnp.stack(drawn, axis=1)

  def _aux(
    self,
    after: Int[Array, ""],
    rewards: Float[Array, "T B"],
    acting: Bool[Array, " B"],
    shown: dict[str, Array],
  ) -> Aux:
    cost = -jnp.sum(rewards, axis=0)[None]
    nothing = {"equal_scores": jnp.full(cost.shape, np.log(self.model.config.num_classes))}
    scores = {str(ScoreKey("cost", 0)): Score(cost, nothing, acting[None])}
    return Aux(*jax.lax.stop_gradient((after, scores, shown)))


def shown_episodes(
  done: Rollout, names: Sequence[str], prices: Float[Array, "B M"], labels: Int[Array, " B"]
) -> dict[str, Array]:
  """Returns, for the report, the episodes of each row and of those that follow it, `[T, B, N]`.

  The keys are those of `reporting.purchases`.
  """
  ticks, rows = done.acquired.shape[:2]
  following = lambda x: jnp.stack(  # noqa: E731
    [jnp.roll(x, -i, axis=-1) for i in range(min(SHOWN, rows))], axis=-1
  )
  constant = lambda x: jnp.broadcast_to(following(x), (ticks, rows, min(SHOWN, rows)))  # noqa: E731
  found = {LABELS: constant(labels), GUESSES: constant(jnp.argmax(done.heads.scores[-1], axis=-1))}
  for m, name in enumerate(names):
    found |= {BOUGHT + name: following(done.acquired[..., m]), PRICE + name: constant(prices[:, m])}
  return {str(ScoreKey(name, 0)): x for name, x in found.items()}


def label_errors(done: Rollout, labels: Int[Array, " B"]) -> Float[Array, " B"]:
  """Returns -log p(label) after the last tick."""
  return cross_entropy(done.heads.scores[-1], labels)


def rewards_of(
  done: Rollout, prices: Float[Array, "B M"], error: Float[Array, " B"]
) -> Float[Array, "T B"]:
  """Returns the reward of each step: minus the prices of the next tick's, and log p(label) at last."""
  paid = jnp.sum(jnp.where(done.acquired[1:], prices, 0.0), axis=-1)
  return jax.lax.stop_gradient(jnp.concatenate([-paid, -error[None]]))
