"""Baselines of sound and depth: means of earlier observations.

  past_mean    the mean of all ticks observed so far, over all recordings
  recent_mean  the mean of the last 8 observed ticks of this recording (sound alone)

Of sound that is one log-mel spectrum, the mean over frames of the ticks; of depth one number. Both
are prequential: a prediction of a tick uses nothing later than `displacement` ticks before it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from perceiver_stream.evaluation.past import Past
from perceiver_stream.modalities import audio, depth

RECENT_TICKS = 8

Read = Callable[[np.ndarray], np.ndarray]
Error = Callable[[np.ndarray, np.ndarray], float]


class PastMeans:
  """The means of one modality of one stream, fed tick by tick.

  >>> means = PastMeans((1,), (), np.asarray, np.mean, lambda mean, value: float(abs(mean - value)))
  >>> [means.score(np.array(x, np.float32), is_first=not i) for i, x in enumerate((2, 4, 9))]
  [{}, {1: {'past_mean': 2.0}}, {1: {'past_mean': 6.0}}]
  """

  def __init__(
    self,
    displacements: Sequence[int],
    shape: Sequence[int],
    read: Read,
    average: Read,
    error: Error,
    *,
    recent: int = 0,
  ):
    """Makes them.

    Args:
      displacements: Ticks, each 1 or more.
      shape: Of the results of `average`.
      read: Returns an observation in the space of the prediction.
      average: Maps the output of `read` to the values that are averaged over ticks.
      error: Function of a mean as prediction and of the result of `read` for the target.
      recent: Ticks in the mean of the last ones; 0 leaves it out.
    """
    self.displacements = tuple(displacements)
    self.names: tuple[str, ...] = ("past_mean", "recent_mean") if recent else ("past_mean",)
    self._read, self._average, self._error, self._recent = read, average, error, recent
    longest = max(self.displacements)
    self._past = Past(longest + max(1, recent), shape, np.float64)
    self._count = 0
    # The mean of all as it was 0, 1, ..., longest ticks ago; NaN before the first observation.
    self._means = np.full((longest + 1, *shape), np.nan)

  def score(
    self, value: Shaped[np.ndarray, "..."], *, is_first: bool = False, valid: bool = True
  ) -> dict[int, dict[str, float]]:
    """Adds the next tick and returns the errors of its predictions.

    Args:
      value: As the stream has it; anything where not valid.
      is_first: True if a new recording starts here.
      valid: True if it was observed.

    Returns:
      Errors by displacement and mean. What reaches back into another recording, or to before its
      first observation, is left out; all is when the tick is not valid.
    """
    self._means[1:] = self._means[:-1].copy()
    if not valid:
      self._past.add(None, is_first=is_first)
      return {}
    read = self._read(value)
    new = np.asarray(self._average(read), np.float64)
    self._past.add(new, is_first=is_first)
    self._count += 1
    before = self._means[0] if self._count > 1 else 0.0
    self._means[0] = before + (new - before) / self._count
    scores = {d: self._score(d, read) for d in self.displacements}
    return {d: by_name for d, by_name in scores.items() if by_name}

  def state(self) -> dict[str, Any]:
    """Returns all that is remembered, as arrays of fixed shapes."""
    return {
      "past": self._past.state(),
      "means": self._means.copy(),
      "count": np.array(self._count, np.int64),
    }

  def restore(self, state: Mapping[str, Any]) -> None:
    """Restores a result of `state`."""
    self._past.restore(state["past"])
    self._means[:], self._count = state["means"], int(state["count"])

  def _score(self, displacement: int, target: np.ndarray) -> dict[str, float]:
    source = self._past.newest(self._past.tick - displacement)
    if source is None:
      return {}
    scores = {"past_mean": self._error(self._means[displacement], target)}
    if self._recent:
      recent = self._past.last(self._recent, source).mean(axis=0)
      scores["recent_mean"] = self._error(recent, target)
    return scores


def sound_means(config: audio.Config, displacements: Sequence[int]) -> PastMeans:
  """Returns means of log-mel spectra `[num_mels]`; errors are log-spectral distances in dB."""

  def distance(mean: Float[np.ndarray, " M"], frames: Float[np.ndarray, "F M"]) -> float:
    return float(audio.DB * np.sqrt(np.mean(np.square(mean[None] - frames))))

  return PastMeans(
    displacements,
    (config.num_mels,),
    lambda samples: audio.log_mel(samples, config, np),
    lambda frames: frames.mean(axis=0),
    distance,
    recent=RECENT_TICKS,
  )


def depth_means(config: depth.Config, displacements: Sequence[int]) -> PastMeans:
  """Returns the mean depth in metres, everywhere the same; errors are AbsRel, mean |m - g| / g."""

  def metres(raw: Shaped[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    known = np.nan_to_num(raw.astype(np.float64), nan=config.farthest)
    return np.clip(known, config.nearest, config.farthest)

  relative = lambda mean, truth: float(np.mean(np.abs(mean - truth) / truth))  # noqa: E731
  return PastMeans(displacements, (), metres, np.mean, relative)
