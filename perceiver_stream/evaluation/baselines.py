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
from perceiver_stream.types import IS_FIRST, valid_key

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


class WindowBaselines:
  """The baselines of the rows of a batch, fed the windows of the online loop in order.

  Its call fits `Parts.baselines`: it leaves out `copy`, which the objective scores itself.
  """

  def __init__(
    self,
    displacements: Sequence[int],
    window: int,
    frame_shape: Sequence[int],
    num_rows: int = 1,
    modality: str = "pixels",
  ):
    """Makes them for windows that advance by `window` ticks.

    Args:
      displacements: Ticks.
      window: Ticks from one window to the next; the last `window` ticks of each are scored.
      frame_shape: `(H, W, 3)`.
      num_rows: Streams side by side, B.
      modality: Name of the frames in the window.
    """
    self.window, self.modality = window, modality
    height, width, _ = frame_shape
    self.rows = [FrameBaselines(displacements, height, width) for _ in range(num_rows)]
    self._primed = False  # whether the ticks before those to be scored have been seen

  def __call__(self, window: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Returns mean squared errors `[window, B]` by `"<modality>@<displacement>"` and baseline.

    What cannot be predicted (see `FrameBaselines.score`) is NaN.

    Args:
      window: Frames `[W, B, H, W, 3]` uint8 and their flags.
    """
    if self.modality not in window:
      return {}
    frames = window[self.modality]
    num_ticks = self.window if self._primed else len(frames)
    self._primed = True
    flags = np.zeros(frames.shape[:2], bool)
    is_first = window.get(IS_FIRST, flags)
    valid = window.get(valid_key(self.modality), ~flags)
    errors = score_frames(self.rows, frames[-num_ticks:], is_first[-num_ticks:], valid[-num_ticks:])
    return {
      f"{self.modality}@{displacement}": {
        name: values[-self.window :] for name, values in by_name.items() if name != "copy"
      }
      for displacement, by_name in errors.items()
    }

  def state(self) -> dict[str, np.ndarray]:
    """Returns all that is remembered, as arrays of fixed shapes, rows first."""
    rows = [row.state() for row in self.rows]
    state = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return state | {"primed": np.asarray(self._primed)}

  def restore(self, state: Mapping[str, np.ndarray]) -> None:
    """Goes on from what `state` returned, exactly."""
    self._primed = bool(state["primed"])
    for i, row in enumerate(self.rows):
      row.restore({name: value[i] for name, value in state.items() if name != "primed"})


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
  rows = [FrameBaselines(displacements, *frames.shape[2:4]) for _ in range(frames.shape[1])]
  is_first = flags if is_first is None else is_first
  return score_frames(rows, frames, is_first, ~flags if valid is None else valid)


def score_frames(
  rows: Sequence[FrameBaselines],
  frames: UInt8[np.ndarray, "W B H V 3"],
  is_first: Bool[np.ndarray, "W B"],
  valid: Bool[np.ndarray, "W B"],
) -> dict[int, dict[str, Float[np.ndarray, "W B"]]]:
  """Feeds each row its ticks, and returns the errors by displacement and baseline; NaN for none."""
  errors = {
    d: {name: np.full(frames.shape[:2], np.nan) for name in NAMES} for d in rows[0].displacements
  }
  for i, row in enumerate(rows):
    for tick in range(len(frames)):
      flags = {"is_first": bool(is_first[tick, i]), "valid": bool(valid[tick, i])}
      for displacement, by_name in row.score(frames[tick, i], **flags).items():
        for name, value in by_name.items():
          errors[displacement][name][tick, i] = value
  return errors


def _mse(prediction: np.ndarray, target: np.ndarray) -> float:
  return float(np.mean(np.square(prediction - target.astype(np.float32)))) / 255**2
