"""Streaming evaluation: each frame is scored with the newest output that was finished by its time.

A method that takes longer than a frame answers with something older; the difference to its offline
score is the cost of latency.

Source: Li et al. 2020, "Towards Streaming Perception", arXiv 2005.10420; mtli/sAP.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from perceiver_stream.evaluation.metrics import tapvid
from perceiver_stream.evaluation.metrics.base import Arrays, Metric

NOTHING = -1  # no output was finished yet


class Outputs(NamedTuple):
  """The outputs of a method, with their times.

  Attributes:
    input_frames: The frame each output was computed from.
    finish_times: Seconds after the first frame at which it was there.
    values: The outputs.
  """

  input_frames: Int[np.ndarray, " K"]
  finish_times: Float[np.ndarray, " K"]
  values: list[Any]


def associate(
  input_frames: Int[np.ndarray, " K"],
  finish_times: Num[np.ndarray, " K"],
  num_frames: int,
  fps: float | int,
  eta: float | int = 0,
) -> Int[np.ndarray, " T"]:
  """Returns for each frame the input frame of the newest output there at its time, or `NOTHING`.

  Frame i is at (i - eta) / fps seconds.

  Args:
    input_frames: The frame each output was computed from.
    finish_times: Seconds, never decreasing.
    num_frames: Frames to be answered.
    fps: Frames per second.
    eta: Frames by which outputs must be earlier.
  """
  if np.any(np.diff(finish_times) < 0):
    raise ValueError(
      f"associate: finish_times {np.asarray(finish_times)} decrease; give outputs in the order in "
      f"which they were finished."
    )
  times = (np.arange(num_frames) - eta) / fps
  newest = np.searchsorted(finish_times, times, side="right") - 1
  return np.concatenate([[NOTHING], input_frames]).astype(int)[newest + 1]


def run(
  step: Callable[[int], Any],
  num_frames: int,
  fps: float | int,
  *,
  clock: Callable[[], float] = time.perf_counter,
  sleep: Callable[[float], None] = time.sleep,
) -> Outputs:
  """Runs a method against the clock: whenever it is free it gets the newest frame.

  With the real clock this takes as long as the clip. For a simulated one see `SimulatedClock`.

  Args:
    step: Computes an output from the frame of that number.
    num_frames: Frames of the clip; frame i arrives at i / fps seconds.
    fps: Frames per second.
    clock: Seconds.
    sleep: Waits so many.
  """
  start, last = clock(), NOTHING
  frames, times, values = [], [], []
  while last < num_frames - 1:
    frame = min(int((clock() - start) * fps + 1e-9), num_frames - 1)
    if frame <= last:
      sleep(max((last + 1) / fps - (clock() - start), 1e-6))
      continue
    values.append(step(frame))
    frames.append(frame)
    times.append(clock() - start)
    last = frame
  return Outputs(np.asarray(frames), np.asarray(times, np.float64), values)


class SimulatedClock:
  """A simulated clock: it advances by waiting, or by work of a given duration."""

  def __init__(self):
    self.now_s = 0.0

  def __call__(self) -> float:
    """Returns the seconds."""
    return self.now_s

  def sleep(self, seconds: float) -> None:
    """Lets time pass."""
    self.now_s += seconds

  def taking(self, step: Callable[[int], Any], seconds: Callable[[int], float]) -> Callable:
    """Returns `step`, taking `seconds(frame)` of this clock's time."""

    def timed(frame: int) -> Any:
      self.sleep(seconds(frame))
      return step(frame)

    return timed


def stream_tracks(
  query_points: Num[np.ndarray, "B N 3"],
  pred_tracks: Num[np.ndarray, "B N T 2"],
  pred_occluded: Bool[np.ndarray, "B N T"],
  association: Int[np.ndarray, " T"],
) -> tuple[Float[np.ndarray, "B N T 2"], Bool[np.ndarray, "B N T"]]:
  """Returns the tracks available at each frame's time.

  Before the first output the point stays at its query, visible.

  Args:
    query_points: (t, y, x).
    pred_tracks: (x, y) of offline predictions.
    pred_occluded: True where they predict it hidden.
    association: Of `associate`.
  """
  known = association != NOTHING
  tracks = np.asarray(pred_tracks, np.float64)[:, :, association]
  queries = np.asarray(query_points, np.float64)[:, :, None, :0:-1]  # (x, y)
  tracks = np.where(known[:, None], tracks, queries)
  return tracks, pred_occluded[:, :, association] & known


def stream_detections(
  detections: Num[np.ndarray, "M 7"], association: Int[np.ndarray, " T"]
) -> Float[np.ndarray, "L 7"]:
  """Returns the detections available at each frame's time.

  Args:
    detections: (frame, class, x, y, width, height, score) of offline predictions.
    association: Of `associate`.
  """
  parts = []
  for frame, source in enumerate(association):
    found = np.asarray(detections[detections[:, 0] == source], np.float64)
    found[:, 0] = frame
    parts.append(found)
  return np.concatenate(parts) if parts else np.zeros((0, 7))


def _score(finish_times: np.ndarray, **arrays: np.ndarray) -> dict[str, float]:
  """Returns the TAP-Vid numbers of late tracks, at one frame per second."""
  frames = np.arange(len(finish_times))
  association = associate(frames, finish_times, len(frames), 1.0)
  known = {name: arrays[name] for name in ("query_points", "pred_tracks", "pred_occluded")}
  tracks, occluded = stream_tracks(**known, association=association)
  known = dict(arrays) | {"pred_tracks": tracks, "pred_occluded": occluded}
  return {f"streaming_{k}": v for k, v in tapvid.METRIC.score(**known).items()}


def _example(rng: np.random.Generator) -> Arrays:
  arrays = tapvid.METRIC.example(rng)
  return arrays | {"finish_times": np.arange(arrays["gt_tracks"].shape[2]) + 1.5}


def _perfect(arrays: Arrays) -> Arrays:
  on_time = arrays["finish_times"] - arrays["finish_times"][0]
  return tapvid.METRIC.perfect(arrays) | {"finish_times": on_time}


METRIC = Metric(
  name="streaming",
  score=_score,
  best={f"streaming_{key}": 1.0 for key in tapvid.KEYS},
  example=_example,
  perfect=_perfect,
)
