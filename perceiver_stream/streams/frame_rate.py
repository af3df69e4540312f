"""The frame rate that a video file states: its mean, and whether it is constant.

FFmpeg has two rates of a track: the mean over the file (`average_rate`), where the container
states a length or a rate, and the lowest rate whose multiples hold all times that it has looked at
(`base_rate`). They agree where the rate is constant. Neither is read from the images' own times,
so they are a statement of the file, no measurement.
"""

from fractions import Fraction
from typing import Any

_AGREE = Fraction(1, 1000)  # two rates that mean one: containers round times
_FASTEST_HZ = 300  # above it a guess is the unit of time, not a rate


def exact(rational: Any) -> Fraction | None:
  """Returns a number of PyAV as a fraction, None where it is unknown.

  PyAV 19 has rationals of its own: 0 / 0 where earlier versions have None, and what two of them
  give is rounded to 32 bits.
  """
  return Fraction(rational) if rational else None


def mean_rate(track: Any) -> Fraction | None:
  """Returns frames per second as the file states them, FFmpeg's guess where it does not, or None.

  Args:
    track: A video track of an open container.
  """
  guess = exact(track.average_rate or track.guessed_rate)
  return guess if guess and guess <= _FASTEST_HZ else None


def constant_rate(track: Any) -> Fraction | None:
  """Returns frames per second where they are constant; None where they are not, or unknown.

  Without a stated mean (Ogg, IVF) the rate is constant where a frame is the unit of time.

  Args:
    track: A video track of an open container.
  """
  mean, base = exact(track.average_rate), exact(track.base_rate)
  if not base or base > _FASTEST_HZ:
    return None
  if mean is None:
    return base if base * Fraction(track.time_base) == 1 else None
  return mean if abs(mean - base) <= mean * _AGREE else None
