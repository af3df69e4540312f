"""ESC-50: 2,000 recordings of 5 s of 50 environmental sounds, in five folds; no images.

Fragments of one source stay in one fold: "test1" is fold 1 and "train1" the other four.

Source: Piczak 2015, "ESC: Dataset for Environmental Sound Classification"; its repository ESC-50.
"""

import pathlib
from collections.abc import Iterator

from perceiver_stream.streams.clip_sets.base import (
  LABEL,
  About,
  ClipSet,
  Listed,
  annotation,
  read_rows,
)

ABOUT = About(
  "ESC-50",
  "the repository ESC-50 of karolpiczak on GitHub",
  "  audio/1-100032-A-0.wav ...   (<fold>-<source>-<take>-<class>.wav)\n"
  "  meta/esc50.csv               (columns filename, fold, target, category, ...)",
)
NUM_CLASSES, FOLDS = 50, 5


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the recordings of "all", "train1", "test1", ... "test5"."""
  for row in read_rows(annotation(ABOUT, root, "meta/esc50.csv")):
    fold, target = row.whole("fold", FOLDS + 1), row.whole("target", NUM_CLASSES)
    if not fold:
      raise ValueError(f"{row.where}: fold is 0, expected 1 to {FOLDS}.")
    if split == "all" or (str(fold) == split[-1]) == split.startswith("test"):
      yield Listed(row.where, [f"audio/{row.text('filename')}"], labels={LABEL: (target,)})


SETS = (
  ClipSet(
    "esc50",
    ABOUT,
    (
      "all",
      *(f"{kind}{fold}" for fold in range(1, FOLDS + 1) for kind in ("train", "test")),
    ),
    read,
    {LABEL: NUM_CLASSES},
    folds=FOLDS,
  ),
)
