import numpy as np
import pytest

from perceiver_stream.evaluation import fitted_mix
from perceiver_stream.evaluation.fitted_mix import FLOOR, FORGET, RIDGE, FittedMix

PRIOR = [0.5, 0.0]


def pairs(num, weights=(0.2, 0.7), noise=0.0, size=300, seed=0):
  """Yields what two guesses add to copying, and what would have been right."""
  rng = np.random.default_rng(seed)
  for scale in rng.uniform(1, 9, num):
    changes = rng.normal(0, scale, (2, size)).astype(np.float32)
    error = np.asarray(weights, np.float32) @ changes
    yield changes, error + rng.normal(0, noise, size).astype(np.float32) if noise else error


def run(displacement, made, prior=PRIOR):
  """Returns what was predicted at every tick."""
  fit, predicted = FittedMix(displacement, 2), []
  for changes, error in made:
    fit.begin()
    predicted.append(fit.predict(changes, prior))
    fit.learn(changes, error)
  return predicted


@pytest.mark.parametrize("displacement", [1, 3])
def test_until_a_target_has_come_weights_are_the_priors_and_then_they_are_the_rule_s(displacement):
  made = list(pairs(12))
  predicted = run(displacement, made)
  for tick, (changes, _) in enumerate(made):
    known = made[: max(0, tick - displacement + 1)]
    matrix, vector = RIDGE * np.eye(2), RIDGE * np.asarray(PRIOR)
    for age, (before, error) in enumerate(reversed(known)):
      weight = FORGET**age / (np.mean(error.astype(np.float64) ** 2) + FLOOR)
      matrix += weight * before.astype(np.float64) @ before.T / error.size
      vector += weight * before.astype(np.float64) @ error / error.size
    expected = np.linalg.solve(matrix, vector) @ changes
    np.testing.assert_allclose(predicted[tick], expected, rtol=1e-3, atol=1e-4)
    if not known:
      np.testing.assert_array_equal(predicted[tick], np.float32(PRIOR) @ changes)


def test_it_finds_the_weights_and_follows_when_they_change():
  made = [*pairs(60, (0.2, 0.7)), *pairs(200, (0.9, -0.3), seed=1)]
  predicted = run(1, made)
  for tick in (59, 259):
    error = np.mean((predicted[tick] - made[tick][1]) ** 2) / np.mean(made[tick][1] ** 2)
    assert error < 5e-3


def test_guesses_that_do_not_differ_from_copying_change_nothing():
  zeros = np.zeros((2, 50), np.float32)
  assert all((p == 0).all() for p in run(1, [(zeros, np.ones(50, np.float32))] * 3))


def test_lively_and_still_pairs_weigh_alike():
  """A thousand times the size of a pair changes what is learnt from it by little."""
  (one,) = pairs(1, noise=1.0)
  changes, error = one
  large = run(1, [(1000 * changes, 1000 * error), one])[1]
  np.testing.assert_allclose(large, run(1, [one, one])[1], rtol=0.1, atol=0.1)


def test_going_on_from_a_state_is_never_having_stopped():
  made = list(pairs(9, noise=0.5))
  fit, whole = FittedMix(2, 2), run(2, made)
  for changes, error in made[:5]:
    fit.begin()
    fit.learn(changes, error)
  again = FittedMix(2, 2)
  again.restore(fit.state())
  for (changes, error), expected in zip(made[5:], whole[5:], strict=True):
    again.begin()
    np.testing.assert_array_equal(again.predict(changes, PRIOR), expected)
    again.learn(changes, error)
  assert fitted_mix.FORGET < 1
