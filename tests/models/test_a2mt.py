"""The agent sees what it bought only, its rewards are the environment's, and its loss is A2C's."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import streams, training, zoo
from perceiver_stream.core import PositionedConfig
from perceiver_stream.models import a2mt
from perceiver_stream.models.a2mt import objective
from perceiver_stream.models.a2mt.actor_critic import actor_critic_loss, lambda_returns
from perceiver_stream.models.a2mt.objective import rewards_of
from perceiver_stream.models.a2mt.variants import FAMILY, fitted, nano
from perceiver_stream.nn.losses.contrastive import cross_entropy
from perceiver_stream.streams import countdown
from perceiver_stream.streams.acquisition import Acquisition, episodes
from perceiver_stream.training import objectives

TICKS, ROWS = 8, 3


@pytest.fixture(scope="module")
def made():
  """An agent with parameters, its rollout by a table of actions, and episodes."""
  agent = a2mt.build(nano())
  config = countdown.Config(ticks_per_recording=TICKS)
  source = episodes(iter(streams.open_rows(config)[0]), agent.names, TICKS)
  found = list(itertools.islice(source, ROWS))
  values = {n: np.stack([e.values[n] for e in found], axis=1) for n in agent.names}
  valid = jnp.ones((TICKS, ROWS, 2), bool)
  prices = jnp.tile(jnp.array([0.25, 0.5]), (ROWS, 1))
  params = agent.init(jax.random.key(0), values, valid, prices)
  params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), params)
  play = jax.jit(
    lambda values, valid, actions: agent.rollout(
      params, values, valid, prices, lambda t, key, heads: actions[t], jax.random.key(0)
    )
  )
  return agent, play, found, values, valid, prices


def test_rewards_are_those_of_the_environment(made):
  agent, play, found, values, valid, prices = made
  actions = np.random.default_rng(0).random((TICKS, ROWS, 2)) < 0.5
  done = play(values, valid, actions)
  labels = jnp.array([e.label for e in found])
  scores = done.heads.scores[-1]
  rewards = np.asarray(rewards_of(done, prices, cross_entropy(scores, labels)))
  for row, episode in enumerate(found):
    env = Acquisition(iter([episode]), dict(zip(agent.names, [0.25, 0.5], strict=True)), 4)
    env.reset()
    steps = [env.step(actions[t, row], np.asarray(scores[row])) for t in range(TICKS)]
    np.testing.assert_allclose(rewards[:, row], [s.reward for s in steps], rtol=1e-5)
  np.testing.assert_array_equal(done.acquired[1:], actions[:-1])
  assert not done.acquired[0].any()


def test_what_was_not_acquired_has_no_influence_and_the_rest_only_later(made):
  _, play, _, values, valid, _ = made
  actions = np.ones((TICKS, ROWS, 2), bool)
  actions[3, :, 1] = False  # pixels are not acquired at tick 4
  first = play(values, valid, actions)
  changed = {n: x.copy() for n, x in values.items()}
  changed["pixels"][4] = 255 - changed["pixels"][4]
  same = play(changed, valid, actions)
  jax.tree.map(np.testing.assert_array_equal, first, same)
  changed["pixels"][5] = 255 - changed["pixels"][5]
  other = play(changed, valid, actions).heads
  np.testing.assert_array_equal(other.scores[:5], first.heads.scores[:5])
  assert np.abs(other.scores[5:] - first.heads.scores[5:]).max() > 1e-4


def test_what_the_stream_lacks_may_be_nan(made):
  _, play, _, values, valid, _ = made
  lacking, broken = np.array(valid), {n: x.copy() for n, x in values.items()}
  lacking[2, 1, 0], broken["clock"][2, 1] = False, np.nan
  done = play(broken, lacking, np.ones((TICKS, ROWS, 2), bool))
  assert all(np.isfinite(x).all() for x in done.heads)
  assert not done.acquired[2, 1, 0] and done.acquired[2, 1, 1]


@pytest.mark.parametrize("decay", [0.0, 0.4, 1.0])
def test_returns_are_sums_of_one_step_errors(decay):
  """λ-returns are V + Σ λ^k δ_{t+k}."""
  rng = np.random.default_rng(0)
  rewards, values = rng.normal(size=(2, 5, 3)).astype(np.float32)
  following = np.concatenate([values[1:], np.zeros((1, 3))])
  errors = rewards + following - values
  expected = [values[t] + sum(decay**k * errors[t + k] for k in range(5 - t)) for t in range(5)]
  found = lambda_returns(jnp.asarray(rewards), jnp.asarray(values), decay)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_policy_gradient_is_that_of_the_expected_return():
  """Over all actions of one step, the expected gradient is that of the probability times reward."""
  logits = jnp.array([[[0.3, -0.7]], [[0.0, 0.0]]])  # those of the last step have no effect
  payoff = lambda a: 1.5 * a[0] - 0.5 * a[1] + a[0] * a[1]  # noqa: E731

  def expected(z):
    total = 0.0
    for a in itertools.product((0, 1), repeat=2):
      p = jnp.prod(jax.nn.sigmoid(jnp.where(jnp.array(a) == 1, z, -z)))
      total += p * payoff(a)
    return total

  wanted, mean = jax.grad(expected)(logits[0, 0]), 0.0
  rows = jnp.ones(1, bool)
  for a in itertools.product((0, 1), repeat=2):
    act, p = jnp.array([[a], [a]], bool), jax.nn.sigmoid(logits[0, 0])
    reward = jnp.array([[payoff(a)], [0.0]])
    weight = float(jnp.prod(jnp.where(jnp.array(a) == 1, p, 1 - p)))
    loss = lambda z, act=act, reward=reward: (  # noqa: E731
      actor_critic_loss(z, jnp.zeros((2, 1)), act, reward, rows, 1.0).policy
    )
    mean += weight * jax.grad(loss)(logits)[0, 0]
  np.testing.assert_allclose(-mean, wanted, atol=1e-6)


def test_the_last_step_and_rows_that_do_not_count_are_in_no_mean():
  logits = jnp.zeros((3, 2, 1)).at[2].set(30.0).at[:, 1].set(-30.0)
  ones, rows = jnp.ones((3, 2)), jnp.array([True, False])
  found = actor_critic_loss(logits, 0 * ones, jnp.zeros((3, 2, 1), bool), ones, rows, 1.0)
  np.testing.assert_allclose(found.entropy, np.log(2), rtol=1e-6)
  np.testing.assert_allclose(found.policy, 2.5 * np.log(2), rtol=1e-6)  # returns 3 and 2
  np.testing.assert_allclose(found.value, (9 + 4 + 1) / 6, rtol=1e-6)
  none = actor_critic_loss(logits, ones, jnp.zeros((3, 2, 1), bool), ones, rows & False, 1.0)
  assert all(x == 0 for x in none)


def test_masking_trains_the_prediction_only_and_its_windows_are_counted():
  config = training.load_config("active:nano")
  config.objective.masking_windows = 1
  found = objectives.make(zoo.build(config.model), config.objective)
  rows = streams.open_rows(config.stream, 4)
  window = next(iter(streams.windows(rows, TICKS, 0)))
  params = found.init_params(jax.random.key(0), {n: x[0] for n, x in window.items()})
  learn = jax.jit(found.loss_and_grad)
  (_, aux), grads = learn(params, found.initial_state(params), window, jax.random.key(1))
  assert (
    aux.next_state == 1 and not np.any(grads["policy"]["w"]) and not np.any(grads["value"]["w"])
  )
  assert np.any(grads["prediction"]["w"])
  (_, aux), grads = learn(params, aux.next_state, window, jax.random.key(1))
  assert aux.next_state == 2 and np.any(grads["policy"]["w"]) and np.any(grads["value"]["w"])
  score = aux.scores["cost@0"]
  np.testing.assert_allclose(score.baselines["equal_scores"], np.log(4), rtol=1e-6)
  assert score.valid.all()
  assert (score.model > 0).all()


def test_prices_rise_after_masking_and_the_report_gets_each_episode():
  config = training.load_config("active:nano")
  config.objective.masking_windows, config.objective.rising_windows = 1, 3
  config.objective.prices = {"clock": (0.5,), "pixels": (2.0,)}
  found = objectives.make(zoo.build(config.model), config.objective)
  window = next(iter(streams.windows(streams.open_rows(config.stream, 3), TICKS, 0)))
  params = found.init_params(jax.random.key(0), {n: x[0] for n, x in window.items()})
  loss = jax.jit(found.loss)
  prices, after = [], []
  for number in (0, 1, 2, 3, 4, 40):
    aux = loss(params, jnp.int32(number), window, jax.random.key(1))[1]
    prices.append(float(aux.predictions["price_pixels@0"][0, 0, 0]))
    after.append(int(aux.next_state))
  np.testing.assert_allclose(prices, [0, 0.5, 1, 1.5, 2, 2])
  assert after == [1, 2, 3, 4, 5, 41]
  shown = {name: np.asarray(x) for name, x in aux.predictions.items()}
  labels = np.asarray(window["label"])[-1]
  for row in range(3):  # its own episode first, then those of the rows after it
    np.testing.assert_array_equal(shown["episode_label@0"][0, row], np.roll(labels, -row))
  assert all(x.shape == (TICKS, 3, 3) for x in shown.values())
  bought = shown["bought_clock@0"][:, 0] * 0.5 + shown["bought_pixels@0"][:, 0] * 2.0
  assert not np.any(bought[0]) and np.any(bought)
  cost = aux.scores["cost@0"].model[0]  # what was paid, and -log p
  assert np.all(cost > np.sum(bought, axis=0) - 1e-5)


@pytest.mark.parametrize(
  "fields, text",
  [
    ({"rising_windows": -1}, "rising_windows=-1 0 or more"),
    ({"prices": {"clock": ()}}, "prices of 'clock' are"),
    ({"return_decay": 1.5}, "return_decay=1.5 must be 0 to 1"),
    ({"window": 0}, "window=0 ticks"),
  ],
)
def test_objectives_that_do_not_fit_are_refused(fields, text):
  with pytest.raises(ValueError, match=text):
    objective.Config(**fields).validate()


def test_agents_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match="use at least one modality"):
    a2mt.build(a2mt.Config())
  with pytest.raises(ValueError, match=r"the stream has no \['clock', 'pixels'\]"):
    fitted(nano(), {})
  specs = streams.specs(countdown.Config(num_classes=8))
  with pytest.raises(ValueError, match="labels of the stream go to 7, but num_classes=4"):
    fitted(nano(), specs)
  with pytest.raises(ValueError, match=r"core is a PositionedConfig; use one of \['Gated"):
    a2mt.build(dataclasses.replace(nano(), core=PositionedConfig()))
  with pytest.raises(ValueError, match="chooses what it observes"):
    FAMILY.build(nano()).step(None)
  with pytest.raises(ValueError, match=r"prices of \['clock'\] and window=8"):
    one_price = objective.Config(window=8, prices={"clock": (0.1,)})
    objectives.make(zoo.build(nano()), one_price)
  with pytest.raises(ValueError, match="variant 'none' is none of"):
    training.load_config("active:none")
