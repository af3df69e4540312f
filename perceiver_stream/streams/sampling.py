"""Indices of clips in a recording: windows, their equal spacing, and the sound that belongs to frames."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Span(NamedTuple):
  """A range of indices with a step.

  Attributes:
    start: First index.
    stop: One more than the last.
    step: From one index to the next.
  """

  start: int
  stop: int
  step: int = 1


def span_length(num_frames: int, step: int) -> int:
  """Returns the ticks that a clip covers: from its first frame to its last, both included."""
  return (num_frames - 1) * step + 1


def spaced_spans(length: int, num_windows: int, num_frames: int, step: int) -> list[Span]:
  """Returns windows from the first possible one to the last, at equal distances, rounded down.

  Args:
    length: Frames of the recording.
    num_windows: Windows; one alone is the first.
    num_frames: Frames of a window.
    step: From one frame of a window to the next.

  Raises:
    ValueError: The recording is shorter than a window; repeat it (`looped`).
  """
  size = span_length(num_frames, step)
  if length < size:
    raise ValueError(f"spaced_spans: {length} frames, but a window covers {size}; repeat the clip.")
  starts = np.linspace(np.float32(0), np.float32(length - size), num_windows, dtype=np.float32)
  return [Span(int(start), int(start) + size, step) for start in starts]


def random_span(
  rng: np.random.Generator, start: int, stop: int, num_frames: int, step: int
) -> Span:
  """Returns a window inside [start, stop), every start equally likely.

  Raises:
    ValueError: The range is shorter than a window.
  """
  size = span_length(num_frames, step)
  if stop - start < size:
    raise ValueError(
      f"random_span: {stop - start} frames from {start}, but a window covers {size}; repeat the clip."
    )
  first = start + int(rng.integers(stop - start - size + 1))
  return Span(first, first + size, step)


def looped(length: int, least: int) -> Int[np.ndarray, " N"]:
  """Returns the indices of a recording repeated as a whole until it has at least `least` frames."""
  if length < 1:
    raise ValueError("looped: a recording of 0 frames cannot be repeated.")
  return np.tile(np.arange(length), max(1, -(-least // length)))


def synced_span(span: Span, length: int, other_length: int) -> Span:
  """Returns the same part of another array of the recording, such as its sound; every index.

  Products are rounded to float32 and then down, as released.

  Args:
    span: In the first array.
    length: Of the first array.
    other_length: Of the other array.

  Source: google-deepmind/brave, brave/datasets/time_sampling.py.
  """
  ratio = np.float32(other_length / length)
  start, stop = (int(np.float32(index) * ratio) for index in (span.start, span.stop))
  return Span(max(0, start), min(other_length, stop))


def num_samples(
  num_frames: int, step: int, frame_rate_hz: float | int, audio_rate_hz: float | int
) -> int:
  """Returns the sound samples of a clip whose frames each last `step` ticks, rounded down.

  >>> num_samples(64, 4, 25, 48000)
  491520
  """
  return int(num_frames * step / frame_rate_hz * audio_rate_hz)
