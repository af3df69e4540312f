"""Prequential scores on the host: per window for the log, running means for the display."""

import math
from collections.abc import Mapping

import numpy as np

from perceiver_stream.reporting.score_keys import COUNT, MODEL, PSNR, VALID, ScoreKey, reference

# Below this mean squared error two images are the same to 8 bits; PSNR ends at 60 dB.
MSE_FLOOR = 1e-6
OF_PEAK_1 = ("pixels", "audio")  # modalities whose squared errors are reported as PSNR
DECAY = 0.98  # of the running means, per window
NOT_FINITE_DB = 100.0  # by how much a window that is not finite is worse than the reference

Scores = dict[str, dict[str, float | int | None]]
Errors = dict[str, dict[str, np.ndarray]]  # `[K, B]` by `"<modality>@<displacement>"`, predictor


def psnr(mse: np.ndarray) -> np.ndarray:
  """Returns the peak signal-to-noise ratio in dB of errors of values in [0, 1].

  >>> psnr(np.array([0.01, 0.0]))
  array([20., 60.])
  """
  return -10.0 * np.log10(np.maximum(np.asarray(mse, np.float64), MSE_FLOOR))


def joined(
  errors: Mapping[str, np.ndarray], more: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Returns an objective's errors `[K, B]` with those of the host's baselines for the last K ticks.

  >>> joined({"valid": np.ones((1, 1))}, {"mix": np.array([[2.0], [3.0]])})["mix"]
  array([[3.]])
  """
  num = len(errors[VALID])
  return {**errors, **{name: error[-num:] for name, error in more.items()}}


def window_scores(
  errors: Mapping[str, Mapping[str, np.ndarray]], metric_names: Mapping[str, str]
) -> Scores:
  """Returns for each `"<modality>@<displacement>"` the mean over valid targets of each predictor.

  Args:
    errors: Arrays `[K, B]` by key and predictor (`model`, `copy`, …), and `valid`.
    metric_names: Of each modality; an `mse` of pixels or a waveform is reported with its `psnr`.

  Returns:
    By key: `count`, then `<predictor>` in the metric's unit and, for images,
    `<predictor>_psnr`, the mean over frames or ticks. None is a mean that is not finite.
  """
  scores: Scores = {}
  for key, by_predictor in errors.items():
    valid = np.asarray(by_predictor[VALID], bool)
    row: dict[str, float | int | None] = {COUNT: int(valid.sum())}
    for name, error in by_predictor.items():
      if name == VALID:
        continue
      row[name] = _mean(np.asarray(error, np.float64)[valid])
      modality = ScoreKey.parse(key).output
      if modality in OF_PEAK_1 and metric_names.get(modality) == "mse":
        row[name + PSNR] = _mean(psnr(np.asarray(error)[valid]))
    scores[key] = row
  return scores


class RunningScores:
  """Exponential moving averages of all scores; stored in the checkpoint."""

  def __init__(
    self, means: Mapping[str, Mapping[str, float]] | None = None, not_finite: float = 0.0
  ):
    """Starts from means and the share of windows that were not finite."""
    self.means: dict[str, dict[str, float]] = {k: dict(v) for k, v in (means or {}).items()}
    self.not_finite = not_finite

  def add(self, scores: Scores, *, finite: bool = True) -> None:
    """Adds the scores of one window; outputs without a valid target are ignored.

    Args:
      scores: From `window_scores`.
      finite: Whether loss, gradient, parameters and state of the window were.
    """
    finite = finite and not any(r[COUNT] and r.get(MODEL, 0.0) is None for r in scores.values())
    self.not_finite = DECAY * self.not_finite + (1 - DECAY) * (not finite)
    for key, row in scores.items():
      mine = self.means.setdefault(key, {})
      for name, value in row.items():
        if name != COUNT and isinstance(value, float):
          mine[name] = DECAY * mine[name] + (1 - DECAY) * value if name in mine else value

  def gain(self, key: str) -> float | None:
    """Returns the gain over the reference's error in dB; above 0 is better.

    For images it is the difference of the mean PSNRs, for all else the ratio of the errors; see
    `reference` for the baseline.
    """
    row = self.means.get(key, {})
    other = reference(row)
    if MODEL not in row or other is None:
      return None
    if MODEL + PSNR in row and other + PSNR in row:
      return row[MODEL + PSNR] - row[other + PSNR]
    return 10 * math.log10(max(row[other], 1e-9) / max(row[MODEL], 1e-9))

  def total(self) -> float:
    """Returns the mean gain over all keys, in dB; the best checkpoint is chosen by it.

    Windows that were not finite have no gain; each counts as `NOT_FINITE_DB` worse.
    """
    gains = [g for g in map(self.gain, self.means) if g is not None]
    mean = sum(gains) / len(gains) if gains else -1e9
    return mean - NOT_FINITE_DB * self.not_finite


def _mean(values: np.ndarray) -> float | None:
  if not values.size:
    return None
  mean = float(np.mean(values))
  return mean if math.isfinite(mean) else None
