"""Strategies of buying, their outcomes, the page of purchases, and Gymnasium."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from extras import need

from perceiver_stream import streams
from perceiver_stream.inference import acquisition, gymnasium_env
from perceiver_stream.models import a2mt
from perceiver_stream.models.a2mt.variants import nano
from perceiver_stream.reporting import purchases
from perceiver_stream.streams import acquisition as environment
from perceiver_stream.streams import countdown, synthetic

TICKS, ROWS = 8, 6
PRICES = {"pixels": 0.5, "clock": 0.25}  # another order than the agent's


@pytest.fixture(scope="module")
def made():
  """Strategies of a random agent, and episodes."""
  agent = a2mt.build(nano())
  config = countdown.Config(ticks_per_recording=TICKS)
  source = environment.episodes(iter(streams.open_rows(config)[0]), agent.names, TICKS)
  found = acquisition.stacked(list(itertools.islice(source, ROWS)), agent.names)
  params = agent.init(jax.random.key(0), found.values, found.valid, jnp.zeros((ROWS, 2)))
  return acquisition.Strategies(agent, params, PRICES), found


def test_outcomes_are_log_probabilities_minus_prices(made):
  strategies, found = made
  bought = np.random.default_rng(0).random(found.valid.shape) < 0.5
  outcome = strategies.table(found, bought)
  np.testing.assert_array_equal(outcome.bought[1:], bought[1:])
  assert not outcome.bought[0].any(), "nothing is acquired at the first tick"
  paid = (outcome.bought * [0.25, 0.5]).sum(axis=(0, 2))
  chosen = outcome.scores[np.arange(ROWS), found.labels]
  np.testing.assert_allclose(outcome.returns, chosen - paid, rtol=1e-5)
  np.testing.assert_array_equal(outcome.correct, outcome.scores.argmax(axis=1) == found.labels)


def test_strategies_buy_what_their_names_say(made):
  strategies, found = made
  results = acquisition.compare(strategies, found, found, np.zeros_like(found.valid))
  assert not results["never"].bought.any() and results["always"].bought[1:].all()
  np.testing.assert_array_equal(results["oracle"].returns, results["never"].returns)
  own, moved = results["agent"].bought, results["shuffled"].bought
  np.testing.assert_array_equal(moved[:, 1:], own[:, :-1])
  assert (results["fixed"].bought == results["fixed"].bought[:, :1]).all()
  best = results["fixed"].returns.mean()
  assert best >= max(results[name].returns.mean() for name in ("never", "always")) - 1e-5
  asked = strategies.entropy(found, 1e9).bought, strategies.entropy(found, -1.0).bought
  assert not asked[0].any() and asked[1][1:].all()
  assert 0.3 < strategies.at_random(found, np.array([0.0, 1.0])).bought.mean() < 0.5


def test_prices_of_other_modalities_are_refused(made):
  strategies, _ = made
  with pytest.raises(
    ValueError, match=r"prices of \['sound'\]; the agent has \('clock', 'pixels'\)"
  ):
    acquisition.Strategies(strategies.agent, strategies.params, {"sound": 1.0})


def test_the_page_shows_purchases_and_marks(tmp_path):
  bought = np.zeros((3, 2, 1), bool)
  bought[1, 0, 0] = bought[2, 1, 0] = True
  marks = np.zeros((3, 2), bool)
  marks[1, 1] = True
  labels, predicted = np.array([0, 1]), np.array([0, 3])
  text = purchases.table(bought, ["<sound>"], labels, predicted, marks)
  assert text.count(purchases.COLOURS[0]) == 2 and text.count("•") == 1
  assert "&lt;sound&gt;" in text and "<td class='good'>0</td>" in text
  assert "<td class='bad'>3</td>" in text
  purchases.write(tmp_path / "new" / "page.html", "A & B", [("one", text)])
  assert "A &amp; B" in (tmp_path / "new" / "page.html").read_text()


def test_gymnasium_finds_nothing_wrong():
  need("gymnasium")
  from gymnasium.utils.env_checker import check_env

  env = gymnasium_env.make(countdown.Config(), {"clock": 0.25, "pixels": 0.5})
  check_env(env, skip_render_check=True)
  first, again = env.reset(seed=3)[0], env.reset(seed=3)[0]
  assert env.observation_space.contains(first) and first.keys() == again.keys()
  action = {"acquire": np.array([1, 1], np.int8), "scores": np.zeros(4, np.float32)}
  results = [env.step(action) for _ in range(16)]
  assert [ended for _, _, ended, _, _ in results] == [False] * 15 + [True]
  assert results[0][1] == -0.75 and results[-1][1] == pytest.approx(np.log(0.25))
  assert results[-1][4]["label"] in range(4) and "label" not in results[0][4]
  with pytest.raises(RuntimeError, match="call reset first"):
    env.step(action)


def test_gymnasium_over_a_stream_that_ends_or_has_no_label():
  need("gymnasium")
  env = gymnasium_env.make(countdown.Config(max_ticks=20), {"clock": 0.1})
  env.reset()
  with pytest.raises(RuntimeError, match="no further episode; call reset with a seed"):
    env.reset()
  env.reset(seed=1)
  with pytest.raises(ValueError, match=r"has no \['label'\]"):
    gymnasium_env.make(synthetic.Config(), {"pixels": 0.1})
