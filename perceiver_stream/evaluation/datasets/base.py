"""Shared by the data sets: the clips they yield."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int32, UInt8

from perceiver_stream.evaluation import clips
from perceiver_stream.evaluation.metrics import boxes
from perceiver_stream.files.about import About as About

Ticks = Iterator[Mapping[str, np.ndarray]]
UNKNOWN = -1  # in a mask: not labelled


class MaskClip(NamedTuple):
  """A piece of video with the masks of some objects.

  Attributes:
    frames: RGB.
    masks: The id of the object at each pixel, as stored: 0 is none of them, and ids may jump.
      `UNKNOWN` where a pixel does not count, and in all of a frame that has no mask; the first has
      one.
    name: Of the clip in its data set.
  """

  frames: UInt8[np.ndarray, "T H W 3"]
  masks: Int32[np.ndarray, "T H W"]
  name: str


class JointClip(NamedTuple):
  """A piece of video with the joints of a body.

  Attributes:
    frames: RGB.
    joints: (x, y) in pixels of the frames, as stored.
    visible: True where a joint is inside the image.
    name: Of the clip in its data set.
  """

  frames: UInt8[np.ndarray, "T H W 3"]
  joints: Float[np.ndarray, "T J 2"]
  visible: Bool[np.ndarray, "T J"]
  name: str


class BoxClip(NamedTuple):
  """A piece of video with the boxes around some objects.

  Attributes:
    frames: RGB.
    boxes: (y1, x1, y2, x2) in [0, 1] of the image's height and width; zeros where not present.
    present: True where a box is given. The first one of a track is its query.
    name: Of the clip in its data set.
  """

  frames: UInt8[np.ndarray, "T H W 3"]
  boxes: Float[np.ndarray, "N T 4"]
  present: Bool[np.ndarray, "N T"]
  name: str


def masks_from_ticks(
  ticks: Iterable[Mapping[str, np.ndarray]], num_ticks: int
) -> Iterator[MaskClip]:
  """Yields successive clips of a stream's ticks with "pixels" and "segmentation".

  A clip ends where a recording does; one that is shorter than `num_ticks` is left out.
  """
  for number, kept in enumerate(clips.pieces(ticks, num_ticks)):
    frames, masks = (np.stack([tick[k] for tick in kept]) for k in ("pixels", "segmentation"))
    yield MaskClip(frames, masks.astype(np.int32), str(number))


def boxes_from_ticks(
  ticks: Iterable[Mapping[str, np.ndarray]], num_ticks: int
) -> Iterator[BoxClip]:
  """Yields the same as boxes around the visible part of each object, in the order of their ids."""
  for clip in masks_from_ticks(ticks, num_ticks):
    things = np.unique(clip.masks[clip.masks > 0])
    masks = clip.masks == things[:, None, None, None]
    yield BoxClip(clip.frames, boxes.around(masks), masks.any(axis=(2, 3)), clip.name)
