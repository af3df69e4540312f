"""EPIC-KITCHENS-100: first-person actions in kitchens, with a verb, a noun and a narration.

Test segments have times and no labels.

Source: Damen et al. 2022, arXiv 2006.13256; the columns and folders in the repositories
epic-kitchens-100-annotations and epic-kitchens-download-scripts.
"""

import pathlib
from collections.abc import Iterator

from perceiver_stream.streams.clip_sets.base import (
  About,
  ClipSet,
  Listed,
  annotation,
  clock_seconds,
  read_rows,
  span,
)

ABOUT = About(
  "EPIC-KITCHENS-100",
  "the repositories epic-kitchens-100-annotations and epic-kitchens-download-scripts on GitHub",
  "  P01/videos/P01_01.MP4 ...\n"
  "  epic-kitchens-100-annotations/EPIC_100_train.csv      (columns video_id, participant_id,\n"
  "      start_timestamp, stop_timestamp, narration, verb_class, noun_class, ...),\n"
  "  epic-kitchens-100-annotations/EPIC_100_validation.csv, EPIC_100_test_timestamps.csv",
)
CLASSES = {"verb": 97, "noun": 300}
_FILES = {"train": "train", "validation": "validation", "test": "test_timestamps"}


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the segments of "train", "validation" or "test"."""
  name = f"EPIC_100_{_FILES[split]}.csv"
  folders = ("epic-kitchens-100-annotations/", "annotations/", "")
  for row in read_rows(annotation(ABOUT, root, *(folder + name for folder in folders))):
    start, stop = (
      clock_seconds(row.text(column), f"{row.where}: {column}")
      for column in ("start_timestamp", "stop_timestamp")
    )
    labels, caption = dict.fromkeys(CLASSES, ()), ""
    if split != "test":
      labels = {label: (row.whole(f"{label}_class", count),) for label, count in CLASSES.items()}
      caption = row.text("narration")
    path = f"{row.text('participant_id')}/videos/{row.text('video_id')}"
    yield Listed(row.where, [path], (), *span(start, stop, row.where), labels, caption)


SETS = (ClipSet("epic_kitchens", ABOUT, tuple(_FILES), read, CLASSES),)
