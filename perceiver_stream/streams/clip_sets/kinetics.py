"""Kinetics-400, -600 and -700: ten-second clips of human actions.

Lists have the columns label, youtube_id, time_start, time_end, split; clips are named
<youtube_id>_<start>_<end>.mp4 with six digits each. The videos are not published as files: the folders
are our reading of the usual copies, a folder for each split with or without one for each class; a whole
video <youtube_id>.mp4 will do, too. The number of a class is its place in the alphabetical order of
those in the training list, which every split needs.

Source: Kay et al. 2017, arXiv 1705.06950; 1808.01340; 1907.06987; the released CSV files.
"""

import functools
import pathlib
from collections.abc import Iterator

from perceiver_stream.streams.clip_sets.base import (
  LABEL,
  About,
  ClipSet,
  Listed,
  annotation,
  number_of,
  numbered,
  read_rows,
  span,
)

LAYOUT = (
  "  train.csv, validate.csv (or val.csv), test.csv   (here or in annotations/; columns\n"
  "                                label, youtube_id, time_start, time_end, split)\n"
  "  train/<youtube_id>_000010_000020.mp4 ...   (or train/<class>/...); likewise val/, test/"
)
_FOLDERS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}


def _list(about: About, root: pathlib.Path, split: str) -> pathlib.Path:
  names = [f"{name}.csv" for name in _FOLDERS[split]]
  return annotation(about, root, *names, *(f"annotations/{name}" for name in names))


def read(about: About, num_classes: int, root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the clips of "train", "val" or "test"; test lists without labels give none."""
  train = _list(about, root, "train")
  known = numbered((row.text("label") for row in read_rows(train)), num_classes, str(train))
  for row in read_rows(_list(about, root, split)):
    start, stop = span(row.number("time_start"), row.number("time_end"), row.where)
    video, labels = row.text("youtube_id"), {LABEL: ()}
    folders = list(_FOLDERS[split])
    if row.values.get("label"):
      labels = {LABEL: (number_of(row, "label", known),)}
      folders += [f"{folder}/{row.text('label')}" for folder in folders]
    clip = f"{video}_{int(start):06d}_{int(stop):06d}"
    yield Listed(
      row.where,
      [f"{folder}/{video}" for folder in folders],
      [f"{folder}/{clip}" for folder in folders],
      start,
      stop,
      labels,
    )


def _kinetics(num_classes: int) -> ClipSet:
  about = About(f"Kinetics-{num_classes}", 'the page "Kinetics" of DeepMind (lists only)', LAYOUT)
  reader = functools.partial(read, about, num_classes)
  name = f"kinetics{num_classes}"
  return ClipSet(name, about, ("train", "val", "test"), reader, {LABEL: num_classes})


SETS = (_kinetics(400), _kinetics(600), _kinetics(700))
