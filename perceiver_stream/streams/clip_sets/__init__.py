"""Data sets of labelled clips in their published layouts: one file each, listed here.

A file has `SETS`, each a `ClipSet` with a function that yields the clips of a published split. To add
one, write `clip_sets/<name>.py` and name it in `MODULES`. Nothing is fetched.

  clips = clip_sets.read_clips("ucf101", "DATA/ucf101", "test1")
  clips[0].path, clips[0].labels["label"]
"""

import logging
import pathlib

from perceiver_stream.streams.clip_sets import (
  audioset,
  ave,
  bdd100k,
  ego4d,
  epic_kitchens,
  esc50,
  hmdb51,
  howto100m,
  kinetics,
  something,
  ucf101,
  vggsound,
  walking_tours,
)
from perceiver_stream.streams.clip_sets.base import LABEL as LABEL
from perceiver_stream.streams.clip_sets.base import ClipSet as ClipSet
from perceiver_stream.streams.clip_sets.base import LabelledClip as LabelledClip
from perceiver_stream.streams.clip_sets.finding import AUDIO_SUFFIXES as AUDIO_SUFFIXES
from perceiver_stream.streams.clip_sets.finding import find_clips
from perceiver_stream.utils.paths import user_path

logger = logging.getLogger(__name__)

MODULES = (
  kinetics,
  ucf101,
  hmdb51,
  something,
  esc50,
  audioset,
  vggsound,
  ave,
  howto100m,
  walking_tours,
  ego4d,
  epic_kitchens,
  bdd100k,
)
CLIP_SETS: dict[str, ClipSet] = {kind.name: kind for module in MODULES for kind in module.SETS}
ON_MISSING = ("stop", "skip")


def clip_set(name: str, split: str) -> ClipSet:
  """Returns a data set; ValueError if there is no such one, or no such split."""
  if name not in CLIP_SETS:
    raise ValueError(f"clip_sets: there is no {name!r}; use one of {sorted(CLIP_SETS)}.")
  if split not in CLIP_SETS[name].splits:
    raise ValueError(f"{name}: split={split!r}; use one of {list(CLIP_SETS[name].splits)}.")
  return CLIP_SETS[name]


def read_clips(
  name: str, path: str | pathlib.Path, split: str, *, on_missing: str = "stop"
) -> list[LabelledClip]:
  """Returns the clips of a split, in the order of its list.

  Args:
    name: One of `CLIP_SETS`.
    path: Folder of the data set.
    split: One of its `splits`.
    on_missing: "stop": an error if a video is missing; "skip": a warning, and the others.

  Raises:
    FileNotFoundError: An annotation file, or videos, are missing; states how many.
    RefusedError: A name leads out of the folder, or a list is far too long.
    ValueError: There is no such data set or split, or a line of a list cannot be used; names it.
  """
  kind = clip_set(name, split)
  if on_missing not in ON_MISSING:
    raise ValueError(f"{name}: on_missing={on_missing!r}; use one of {ON_MISSING}.")
  root = user_path(path)
  kind.about.need(root)
  clips, missing, videos = find_clips(root, kind.read(root, split))
  if not videos:
    raise ValueError(f"{name}: split {split!r} in {root} lists no clip.")
  if missing:
    one = len(missing) == 1
    what = (
      f"{kind.about.name}: {len(missing):,} of {videos:,} videos of split {split!r} "
      f"{'is' if one else 'are'} missing, {'it' if one else 'the first'} is {missing[0]}"
    )
    if on_missing == "stop" or not clips:
      raise FileNotFoundError(
        f"{what}. Use on_missing='skip' (with an address on_damage='skip') to go without them; the "
        f"layout is\n{kind.about.layout}"
      )
    logger.warning("%s; continuing without them.", what)
  return clips


def split_address(path: str) -> tuple[str, str, str] | None:
  """Returns name, split and folder of an address `NAME:SPLIT:FOLDER`; None if a path is none."""
  name, _, rest = path.partition(":")
  split, colon, folder = rest.partition(":")
  return (name, split, folder) if name in CLIP_SETS and colon and folder else None
