"""Statistics of results: the choice of a learning rate, intervals, and effects with signs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

WHERE = ("in_stream", "out_of_stream")
LEAST = 1e-12  # smaller errors are replaced by it, because ratios have logarithms
# 97.5 % quantiles of Student's t by degrees of freedom.
_T = (math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


class Chosen(NamedTuple):
  """A trial at the learning rates chosen for it, one value per seed.

  Attributes:
    errors: At the rate that was best for the other seeds.
    rates: Those.
  """

  errors: list[float]
  rates: list[str]


class Interval(NamedTuple):
  """A mean and its 95 % interval."""

  mean: float
  low: float
  high: float


@dataclass(frozen=True, kw_only=True)
class Effect:
  """A published comparison of two learners.

  Attributes:
    about: The claim and its source.
    first: Name of a trial.
    second: Name of the trial, baseline or reference flow that it is compared with.
    where: "in_stream", "out_of_stream", or one of `motion.SCORES`.
    lower: True if the published error of the first is lower than that of the second.
    published: Size of the published effect, in words; empty where unknown.
  """

  about: str
  first: str
  second: str
  where: str
  lower: bool
  published: str = ""


def choose(results: Sequence[dict[str, Any]], where: str) -> Chosen:
  """Returns the errors of a trial, each seed at the learning rate best for the *other* seeds.

  So no seed affects its own tuning. Runs that were not finite count as the worst. Scores of motion
  are not used for tuning: the rate is that best out of the stream.
  """
  rates = list(results[0]["runs"])
  by = where if where in WHERE else "out_of_stream"
  logs = np.log([[_error(r["runs"][rate][by]) for rate in rates] for r in results])
  found = Chosen([], [])
  for seed, result in enumerate(results):
    others = np.delete(logs, seed, axis=0) if len(results) > 1 else logs
    rate = rates[int(np.argmin(others.mean(0)))]
    run = result["runs"][rate]
    found.errors.append(_error(run[where] if where in WHERE else run["motion"][where]))
    found.rates.append(rate)
  return found


def given(results: Sequence[dict[str, Any]], name: str, where: str) -> list[float]:
  """Returns the errors of a baseline or of a reference flow, in the form of a trial's results."""
  kind = "baselines" if where in WHERE else "rivals"
  return [_error(r[kind][name][where]) for r in results]


def interval(values: Sequence[float]) -> Interval:
  """Returns the mean with Student's interval; of one value, or if some are not finite, no bounds."""
  x = np.asarray(values, float)
  mean = float(np.mean(x))
  if len(x) < 2 or not np.all(np.isfinite(x)):
    return Interval(mean, math.nan, math.nan)
  half = _T[min(len(x) - 1, len(_T) - 1)] * float(np.std(x, ddof=1)) / math.sqrt(len(x))
  return Interval(mean, mean - half, mean + half)


def ratio(first: Sequence[float], second: Sequence[float]) -> Interval:
  """Returns the ratio of errors, seed by seed in pairs: the geometric mean and its interval."""
  logs = interval([math.log(a / b) for a, b in zip(first, second, strict=True)])
  return Interval(*(math.exp(x) for x in logs))


def verdict(effect: Effect, measured: Interval) -> str:
  """Returns the result of an effect in words."""
  if not (measured.high < 1 or measured.low > 1):
    return "null: the interval holds 1"
  return "yes" if (measured.high < 1) == effect.lower else "no: the opposite"


def at_edge(rates: Sequence[str], tried: Sequence[str]) -> bool:
  """Returns True if the chosen learning rate is the least or largest tried, so may not be the best."""
  return len(tried) > 1 and any(rate in (tried[0], tried[-1]) for rate in rates)


def _error(value: float | None) -> float:
  return math.inf if value is None else max(value, LEAST)
