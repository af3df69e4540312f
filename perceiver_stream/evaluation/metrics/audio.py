"""Sound: the log-spectral distance.

Source: Gray and Markel 1976; here over mel bands.
"""

import numpy as np
from jaxtyping import Float, Num

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, same_shapes

DB = 10 / np.log(10)  # decibels in one natural logarithm of energy


def log_spectral_distance(
  pred: Num[np.ndarray, "*n frames mels"], target: Num[np.ndarray, "*n frames mels"]
) -> Float[np.ndarray, "*n"]:
  """Returns the root mean square difference over frames and bands, dB.

  Args:
    pred: Natural logarithms of mel energies.
    target: As `pred`.
  """
  same_shapes("log_spectral_distance", pred=pred, target=target)
  difference = DB * (np.asarray(pred, np.float64) - target)
  return np.asarray(np.sqrt(np.mean(np.square(difference), axis=(-2, -1))))


def _score(pred: np.ndarray, target: np.ndarray) -> dict[str, float]:
  return {"lsd": float(log_spectral_distance(pred, target).mean())}


def _example(rng: np.random.Generator) -> Arrays:
  target = rng.uniform(-10, 0, (3, 4, 32))
  return {"pred": target + rng.normal(0, 1, target.shape), "target": target}


METRIC = Metric(
  name="audio",
  score=_score,
  best={"lsd": 0.0},
  example=_example,
  perfect=lambda arrays: arrays | {"pred": arrays["target"]},
)
