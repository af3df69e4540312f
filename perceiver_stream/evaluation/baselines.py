"""Baselines of frame prediction: copying, flow extrapolation, and mixes of such guesses.

  copy        the last frame
  extrap      the last frame, moved on by the flow between the last two, times the displacement
  extrap_d    the same by the flow between the last frame and the one `displacement` ticks before it
  mix         the mean of `copy`, `extrap` and, beyond displacement 1, `extrap_d`
  fitted_mix  a weighted mean of `copy`, `extrap`, `extrap_d`, the last frame blurred and the mean
              of the last 16 frames; weights are fitted online to what came (`fitted_mix`), and
              start as those of `mix`

The baselines are prequential as the model is: a prediction of a tick uses nothing later than
`displacement` ticks before it. Ticks without a frame are bridged: the last two observed frames
count. While a recording has no flow yet (its first frame) extrapolating is copying. A recording
starts without frames of the one before; fitted weights stay.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from perceiver_stream.evaluation.fitted_mix import FittedMix
from perceiver_stream.evaluation.optical_flow import blurred, dis_flow, extrapolate
from perceiver_stream.evaluation.past import Past

NAMES = ("copy", "extrap", "extrap_d", "mix", "fitted_mix")
SLOW_FRAMES = 16  # as many as the slow average of a model's memory has by default
BLUR_PX = 2.0  # standard deviation
_CHANGES = 4  # guesses of the fitted mix other than copying


class FrameBaselines:
  """The baselines of one stream, fed frame by frame; remembers 2 * longest displacement frames.

  >>> baselines = FrameBaselines((1,), 16, 16)
  >>> grey, light = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 151, np.uint8)
  >>> baselines.score(grey, is_first=True)
  {}
  >>> round(baselines.score(light)[1]["copy"], 6)  # (51 / 255)²
  0.04
  """

  names: tuple[str, ...] = NAMES

  def __init__(self, displacements: Sequence[int], height: int, width: int):
    """Makes them for frames `[height, width, 3]`.

    Args:
      displacements: Ticks, each 1 or more.
      height: Of a frame.
      width: Of a frame.

    Raises:
      ValueError: There is no displacement, or one below 1.
    """
    self.displacements = tuple(displacements)
    if not self.displacements or min(self.displacements) < 1:
      raise ValueError(
        f"FrameBaselines: displacements {self.displacements}; give at least one, each 1 or more."
      )
    longest = max(self.displacements)
    self._shape = (height, width, 3)
    self._past = Past(longest + max(longest + 1, SLOW_FRAMES), self._shape, np.uint8)
    self._fits = {d: FittedMix(d, _CHANGES) for d in self.displacements}
    self._flows: dict[int, np.ndarray] = {}  # from the frame of a tick to the one before

  def score(
    self, frame: UInt8[np.ndarray, "H W 3"], *, is_first: bool = False, valid: bool = True
  ) -> dict[int, dict[str, float]]:
    """Adds the next tick and returns the errors of its predictions.

    Args:
      frame: RGB; anything where not valid.
      is_first: True if a new recording starts here.
      valid: True if the frame was observed.

    Returns:
      Mean squared errors, of values in [0, 1], by displacement and baseline. Displacements that
      reach back into another recording, or to before its first frame, are left out; all are when
      the frame is not valid.

    Raises:
      ValueError: The frame has another size or is not uint8.
    """
    if frame.shape != self._shape or frame.dtype != np.uint8:
      raise ValueError(
        f"FrameBaselines: the frame is {frame.dtype} {list(frame.shape)}, expected uint8 "
        f"{list(self._shape)}; make the baselines for the size of the stream."
      )
    self._past.add(frame if valid else None, is_first=is_first)
    for fit in self._fits.values():
      fit.begin()
    if not valid:
      return {}
    errors = {d: self._score(d, frame) for d in self.displacements}
    oldest = self._past.tick + 1 - max(self.displacements)
    self._flows = {tick: flow for tick, flow in self._flows.items() if tick >= oldest}
    return {d: by_name for d, by_name in errors.items() if by_name}

  def state(self) -> dict[str, Any]:
    """Returns all that is remembered, as arrays of fixed shapes."""
    fits = {str(d): fit.state() for d, fit in self._fits.items()}
    return {"past": self._past.state(), "fits": fits}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Restores a result of `state`."""
    self._past.restore(state["past"])
    for d, fit in self._fits.items():
      fit.restore(state["fits"][str(d)])
    self._flows = {}

  def _score(self, displacement: int, frame: np.ndarray) -> dict[str, float]:
    """Returns the errors of the predictions made `displacement` ticks ago; then learns from them."""
    source = self._past.newest(self._past.tick - displacement)
    if source is None:
      return {}
    predictions = self._guess(source, displacement)
    errors = {name: _mse(predictions[name], frame) for name in NAMES if name in predictions}
    copy, prior = predictions["copy"], _weights_of_mix(predictions)
    predictions.setdefault("extrap", copy)
    others = [predictions.get(n, copy) for n in ("extrap", "extrap_d", "blurred", "slow")]
    changes = np.stack(others).reshape(_CHANGES, -1) - copy.reshape(1, -1)
    fit = self._fits[displacement]
    fitted = copy + fit.predict(changes, prior).reshape(copy.shape)
    fit.learn(changes, (frame - copy).ravel())
    errors.setdefault("extrap", errors["copy"])
    errors.setdefault("extrap_d", errors["extrap"])
    return errors | {"fitted_mix": _mse(fitted, frame)}

  def _guess(self, source: int, displacement: int) -> dict[str, np.ndarray]:
    """Returns the simple predictions by the frame of tick `source`, those that can be made."""
    frame = self._past[source]
    guesses = {"copy": frame.astype(np.float32)}
    before, far = self._past.newest(source - 1), self._past.newest(source - displacement)
    ahead = self._past.tick - source
    if before is not None:
      if source not in self._flows:
        self._flows[source] = dis_flow(frame, self._past[before])
      guesses["extrap"] = extrapolate(frame, self._flows[source], ahead / (source - before))
    if displacement > 1 and far is not None:
      flow = dis_flow(frame, self._past[far])
      guesses["extrap_d"] = extrapolate(frame, flow, ahead / (source - far))
    guesses["mix"] = np.mean(list(guesses.values()), axis=0)
    guesses["blurred"] = blurred(guesses["copy"], BLUR_PX)
    slow = self._past.last(SLOW_FRAMES, source)
    guesses["slow"] = np.add.reduce(slow, axis=0, dtype=np.float32) / np.float32(len(slow))
    return guesses


def _mse(prediction: np.ndarray, target: np.ndarray) -> float:
  return float(np.mean(np.square(prediction - target.astype(np.float32)))) / 255**2


def _weights_of_mix(guesses: Mapping[str, np.ndarray]) -> list[float]:
  """Returns the weights that reproduce `mix` in the fitted mix."""
  moved = ("extrap", "extrap_d")
  share = 1 / (1 + sum(name in guesses for name in moved))
  return [share if name in guesses else 0.0 for name in moved] + [0.0, 0.0]
