"""Frames of any size, shape of pixel and rotation, as RGB pictures of one size."""

from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter


class Picker:
  """Makes pictures of one size, scaled by averaging, turned upright, and cut or squashed to fit."""

  def __init__(self, height: int, width: int, crop: str, pixel_aspect: Fraction):
    self._size, self._crop, self._aspect = (height, width), crop, pixel_aspect
    self._reformatter = VideoReformatter()

  def __call__(self, frame: av.VideoFrame) -> np.ndarray:
    """Returns uint8 `[H, W, 3]`, read-only."""
    turns = round(frame.rotation / 90) % 4
    height, width = self._size if turns % 2 == 0 else self._size[::-1]
    full_height, full_width = height, width
    if self._crop == "centre":  # scale until both sides are covered, then cut
      natural_width = frame.width * self._aspect
      scale = max(Fraction(height, frame.height), width / natural_width)
      full_height = max(height, round(frame.height * scale))
      full_width = max(width, round(natural_width * scale))
    # Scaled in the decoder's own colours, before there is an RGB frame of the full size.
    frame = self._reformatter.reformat(
      frame, full_width, full_height, "rgb24", interpolation=Interpolation.AREA, threads=1
    )
    top, left = (full_height - height) // 2, (full_width - width) // 2
    picture = frame.to_ndarray()[top : top + height, left : left + width]
    picture = np.ascontiguousarray(np.rot90(picture, turns))
    picture.flags.writeable = False
    return picture
