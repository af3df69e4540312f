"""What frame prediction is judged beside: copying, flow extrapolation, and their mean.

  copy      the last frame
  extrap    the last frame, moved on by the flow between the last two, times the displacement
  extrap_d  the same by the flow between the last frame and the one `displacement` ticks before it
  mix       the mean of `copy`, `extrap` and, beyond displacement 1, `extrap_d`

The baselines are prequential as the model is: what they say of a tick uses nothing later than
`displacement` ticks before it. Ticks without a frame are bridged: the last two frames seen count.
While a recording has no flow yet (its first frame) extrapolating is copying.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from perceiver_stream.evaluation.optical_flow import dis_flow, extrapolate

NAMES = ("copy", "extrap", "extrap_d", "mix")
_NEVER = -(2**60)


class FrameBaselines:
  """The baselines of one stream, fed frame by frame; remembers 2 * longest displacement frames.

  >>> baselines = FrameBaselines((1,), 16, 16)
  >>> grey, light = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 151, np.uint8)
  >>> baselines.score(grey, is_first=True)
  {}
  >>> round(baselines.score(light)[1]["copy"], 6)  # (51 / 255)²
  0.04
  """

  def __init__(self, displacements: Sequence[int], height: int, width: int):
    """Makes them for frames `[height, width, 3]`.

    Args:
      displacements: Ticks, each 1 or more.
      height: Of a frame.
      width: Of a frame.
    """
    self.displacements = tuple(displacements)
    if not self.displacements or min(self.displacements) < 1:
      raise ValueError(
        f"FrameBaselines: displacements {self.displacements}; give at least one, each 1 or more."
      )
    slots = 2 * max(self.displacements) + 1
    self._frames = np.zeros((slots, height, width, 3), np.uint8)
    self._ticks = np.full(slots, _NEVER)  # when the frame in each slot was seen
    self._tick = -1
    self._start = 0  # when the recording began
    self._flows: dict[int, np.ndarray] = {}  # from the frame of a tick to the one before

  def score(
    self, frame: UInt8[np.ndarray, "H W 3"], *, is_first: bool = False, valid: bool = True
  ) -> dict[int, dict[str, float]]:
    """Takes in the next tick, and returns how well it had been predicted.

    Args:
      frame: RGB; anything where not valid.
      is_first: Whether a new recording starts here.
      valid: Whether the frame was observed.

    Returns:
      Mean squared errors, of values in [0, 1], by displacement and baseline. Displacements that
      reach back into another recording, or to before its first frame, are left out; all are when
      the frame is not valid.

    Raises:
      ValueError: The frame has another size or is not uint8.
    """
    if frame.shape != self._frames.shape[1:] or frame.dtype != np.uint8:
      raise ValueError(
        f"FrameBaselines: the frame is {frame.dtype} {list(frame.shape)}, expected uint8 "
        f"{list(self._frames.shape[1:])}; make the baselines for the size of the stream."
      )
    self._tick += 1
    self._start = self._tick if is_first else self._start
    if not valid:
      return {}
    slot = int(np.argmin(self._ticks))
    self._frames[slot], self._ticks[slot] = frame, self._tick
    errors = {}
    for displacement in self.displacements:
      predictions = self._predict(displacement)
      if predictions:
        errors[displacement] = {n: _mse(p, frame) for n, p in predictions.items()}
    oldest = self._tick + 1 - max(self.displacements)
    self._flows = {tick: flow for tick, flow in self._flows.items() if tick >= oldest}
    return errors

  def state(self) -> dict[str, np.ndarray]:
    """Returns all that is remembered, as arrays of fixed shapes."""
    counters = np.asarray([self._tick, self._start])
    return {"frames": self._frames.copy(), "ticks": self._ticks.copy(), "counters": counters}

  def restore(self, state: Mapping[str, np.ndarray]) -> None:
    """Goes on from what `state` returned, exactly."""
    self._frames[:], self._ticks[:] = state["frames"], state["ticks"]
    self._tick, self._start = map(int, state["counters"])
    self._flows = {}

  def _predict(self, displacement: int) -> dict[str, np.ndarray]:
    """Returns what was to be said of this tick `displacement` ticks ago."""
    last = self._seen(self._tick - displacement)
    if last is None:
      return {}
    frame = self._frame(last)
    predictions = {"copy": frame.astype(np.float32)}
    before, far = self._seen(last - 1), self._seen(last - displacement)
    if before is not None:
      if last not in self._flows:
        self._flows[last] = dis_flow(frame, self._frame(before))
      steps = (self._tick - last) / (last - before)
      predictions["extrap"] = extrapolate(frame, self._flows[last], steps)
    if displacement > 1 and far is not None:
      flow = dis_flow(frame, self._frame(far))
      predictions["extrap_d"] = extrapolate(frame, flow, (self._tick - last) / (last - far))
    predictions["mix"] = np.mean(list(predictions.values()), axis=0)
    predictions.setdefault("extrap", predictions["copy"])
    predictions.setdefault("extrap_d", predictions["extrap"])
    return predictions

  def _seen(self, tick: int) -> int | None:
    """Returns when the last frame was seen, at `tick` or before, in this recording."""
    known = self._ticks[(self._ticks >= self._start) & (self._ticks <= tick)]
    return int(known.max()) if known.size else None

  def _frame(self, tick: int) -> np.ndarray:
    return self._frames[int(np.argmax(self._ticks == tick))]


def window_baselines(
  frames: UInt8[np.ndarray, "W B H V 3"],
  displacements: Sequence[int],
  is_first: Bool[np.ndarray, "W B"] | None = None,
  valid: Bool[np.ndarray, "W B"] | None = None,
) -> dict[int, dict[str, Float[np.ndarray, "W B"]]]:
  """Returns the mean squared errors of the baselines for every tick of a clip that stands alone.

  Args:
    frames: RGB.
    displacements: Ticks.
    is_first: Where a recording starts; None is only at the first tick.
    valid: Where a frame was observed; None is everywhere.

  Returns:
    By displacement and baseline; NaN for what cannot be predicted.
  """
  flags = np.zeros(frames.shape[:2], bool)
  is_first = flags if is_first is None else is_first
  valid = ~flags if valid is None else valid
  errors = {d: {name: np.full(flags.shape, np.nan) for name in NAMES} for d in displacements}
  for row in range(frames.shape[1]):
    mine = FrameBaselines(displacements, *frames.shape[2:4])
    for tick, frame in enumerate(frames[:, row]):
      is_start, was_seen = bool(is_first[tick, row]), bool(valid[tick, row])
      for displacement, by_name in mine.score(frame, is_first=is_start, valid=was_seen).items():
        for name, value in by_name.items():
          errors[displacement][name][tick, row] = value
  return errors


def _mse(prediction: np.ndarray, target: np.ndarray) -> float:
  return float(np.mean(np.square(prediction - target.astype(np.float32)))) / 255**2
