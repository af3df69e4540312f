"""Advantage actor-critic with independent binary actions.

Source: Mnih et al. 2016, 1602.01783 (A3C, of which A2C is the synchronous form); λ-returns as in
Sutton and Barto 2018, section 12.1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def lambda_returns(
  rewards: Float[Array, "T B"], values: Float[Array, "T B"], decay: float
) -> Float[Array, "T B"]:
  """Returns G_t = r_t + (1 - λ) V_{t+1} + λ G_{t+1}, without discount; nothing follows step T.

  Args:
    rewards: Reward of each step.
    values: Value before each step.
    decay: λ; 1 is the sum of the rewards to come, 0 one step.
  """
  following = jnp.concatenate([values[1:], jnp.zeros_like(values[:1])])

  def back(later: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
    reward, value = step
    found = reward + (1 - decay) * value + decay * later
    return found, found

  return jax.lax.scan(back, jnp.zeros_like(values[0]), (rewards, following), reverse=True)[1]


class ActorCriticLoss(NamedTuple):
  """Means over steps and rows: of the policy, of the value, and the entropy of the policy, nats."""

  policy: Float[Array, ""]
  value: Float[Array, ""]
  entropy: Float[Array, ""]


def actor_critic_loss(
  logits: Float[Array, "T B M"],
  values: Float[Array, "T B"],
  actions: Bool[Array, "T B M"],
  rewards: Float[Array, "T B"],
  rows: Bool[Array, " B"],
  decay: float,
) -> ActorCriticLoss:
  """Returns -A log π, ½ A² and the entropy, with A = λ-return - V, without a gradient through it in π.

  Args:
    logits: Of each binary action. Those of the last step have no effect and are in no mean.
    values: Value before each step.
    actions: Those taken.
    rewards: Reward of each step.
    rows: Rows that count.
    decay: λ of the returns.
  """
  target = jax.lax.stop_gradient(lambda_returns(rewards, values, decay))
  advantage = jax.lax.stop_gradient(target - values)
  chosen = jnp.sum(jax.nn.log_sigmoid(jnp.where(actions, logits, -logits)), axis=-1)
  share = jax.nn.sigmoid(logits)
  each = share * jax.nn.log_sigmoid(logits) + (1 - share) * jax.nn.log_sigmoid(-logits)
  count = jnp.maximum(jnp.sum(rows.astype(jnp.float32)), 1.0)
  mean = lambda x: jnp.sum(jnp.where(rows, jnp.mean(x, axis=0), 0.0)) / count  # noqa: E731
  value = 0.5 * mean(jnp.square(target - values))
  return ActorCriticLoss(
    mean((-advantage * chosen)[:-1]), value, mean(-jnp.sum(each, axis=-1)[:-1])
  )
