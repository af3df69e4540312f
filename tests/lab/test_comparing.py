"""Choices are fair, intervals are Student's, and verdicts can go both ways."""

import math

import numpy as np
import pytest

from perceiver_stream.lab import comparing, motion, pages
from perceiver_stream.lab.comparing import Effect, Interval
from perceiver_stream.lab.tables.base import Table
from perceiver_stream.lab.trials import SIZES, Trial

RATES = ("0.1", "0.2", "0.3")


def results(errors):
  """Returns results of one trial: a row of errors per seed, a column per rate."""
  curve = {"in_stream_curve": [2.0, 1.0], "out_of_stream_curve": [3.0, 1.0]}
  return [
    {
      "runs": {
        rate: {"in_stream": e, "out_of_stream": None if e is None else 2 * e} | curve
        for rate, e in zip(RATES, [None if x is None else float(x) for x in row], strict=True)
      },
      "baselines": {"copy": {"in_stream": 0.5, "out_of_stream": 0.6}},
      "parameters": 1234,
      "clips": 10,
      "seconds": 60.0,
    }
    for row in errors
  ]


def test_a_seed_has_no_say_in_its_own_tuning():
  found = comparing.choose(results([[1, 2, 3], [3, 1, 2], [3, 1, 2]]), "in_stream")
  assert found.rates == ["0.2", "0.2", "0.2"] and found.errors == [2, 1, 1]
  found = comparing.choose(results([[1, 9, 9], [1, 9, 9], [9, 9, 1]]), "in_stream")
  assert found.rates[2] == "0.1" and found.errors[2] == 9, "its own best would have been 1"


def test_a_run_that_was_not_finite_is_the_worst():
  found = comparing.choose(results([[None, 5, 7], [1, 5, 7]]), "out_of_stream")
  assert found.rates == ["0.1", "0.2"] and found.errors == [math.inf, 10]
  assert math.isnan(comparing.ratio(found.errors, found.errors).low)


def test_intervals_are_students():
  x = [1.0, 2.0, 4.0]
  mean, low, high = comparing.interval(x)
  half = 4.3027 * np.std(x, ddof=1) / np.sqrt(3)
  np.testing.assert_allclose([mean, low, high], [7 / 3, 7 / 3 - half, 7 / 3 + half], rtol=1e-3)
  assert math.isnan(comparing.interval([1.0]).low)


def test_ratios_are_paired_by_seed():
  measured = comparing.ratio([1.0, 10.0, 100.0], [2.0, 20.0, 200.0])
  np.testing.assert_allclose(measured, [0.5] * 3)


def moving(errors, epe):
  """Returns results of one trial, with the same `epe` for all scores of a rate's flow."""
  found = results(errors)
  for result, row in zip(found, epe, strict=True):
    for run, value in zip(result["runs"].values(), row, strict=True):
      run["motion"] = dict.fromkeys(motion.SCORES, value)
    result["rivals"] = {"no flow": dict.fromkeys(motion.SCORES, 4.0)}
  return found


def test_truth_of_motion_has_no_say_in_tuning():
  found = moving([[1, 2, 3], [1, 2, 3]], [[9.0, 1.0, 1.0], [8.0, 1.0, None]])
  chosen = comparing.choose(found, "epe")
  assert chosen.rates == ["0.1", "0.1"] and chosen.errors == [9, 8]
  assert comparing.given(found, "no flow", "lost@4") == [4, 4]
  assert comparing.given(found, "copy", "out_of_stream") == [0.6, 0.6]


def test_flow_has_a_table_of_its_own_and_is_compared_with_rivals():
  effect = Effect(about="better than none", first="a", second="no flow", where="epe", lower=True)
  found = {"a": moving([[1, 2, 3]] * 2, [[2.0, 9.0, 9.0]] * 2), "b": results([[1, 2, 3]] * 2)}
  measured = pages.measure(effect, found)
  np.testing.assert_allclose(measured.mean, 0.5)
  page = pages.flows(found)
  assert f"| a |{' 2 ± 0 |' * len(motion.SCORES)}" in page and "| b |" not in page
  assert f"| *no flow* |{' 4 ± 0 |' * len(motion.SCORES)}" in page
  assert pages.flows({"b": found["b"]}) == ""


@pytest.mark.parametrize(
  ("lower", "measured", "said"),
  [
    (True, Interval(0.8, 0.7, 0.9), "yes"),
    (False, Interval(0.8, 0.7, 0.9), "no: the opposite"),
    (False, Interval(1.2, 1.1, 1.3), "yes"),
    (True, Interval(0.9, 0.7, 1.1), "null"),
    (True, Interval(0.9, math.nan, math.nan), "null"),
  ],
)
def test_verdicts(lower, measured, said):
  effect = Effect(about="", first="a", second="b", where="in_stream", lower=lower)
  assert comparing.verdict(effect, measured).startswith(said)


def test_a_page_says_it_all(tmp_path):
  effect = Effect(
    about="a is better", first="a", second="b", where="out_of_stream", lower=True, published="0.6"
  )
  table = Table(
    title="A and B",
    about="Which?",
    trials={"a": Trial(), "b": Trial()},
    effects=[effect],
    remarks=["Mind."],
    note=lambda found: f"{len(found)} learners.",
  )
  found = {
    "a": results([[0.1, 0.3, 0.4], [0.1, 0.3, 0.4]]),
    "b": results([[0.4, 0.2, 0.4], [0.4, 0.2, 0.4]]),
  }
  pages.write(pages.Made("a_b"), SIZES["nano"], table, found, tmp_path)
  page = (tmp_path / "a_b.md").read_text()
  assert (tmp_path / "a_b.png").read_bytes()[:4] == b"\x89PNG"
  assert "`perceiver-stream lab a_b`" in page and "4 minutes" in page
  assert "| a | 0.1 ± 0 | 0.1* | 0.2 ± 0 | 0.1* | 1,234 | 10 |" in page
  assert "| b | 0.2 ± 0 | 0.2 | 0.4 ± 0 | 0.2 | 1,234 | 10 |" in page
  assert "| *copy* | 0.5 ± 0 | | 0.6 ± 0 | | 0 | |" in page
  assert "| a is better, out of the stream | 0.6 | 0.50 (0.50 to 0.50) | yes |" in page
  assert "Mind." in page and "2 learners." in page
