"""AudioSet: ten-second clips with any number of 527 sounds.

Published are lists, no media. Names and folders of the files are our reading of the usual copies:
<id>_<start in ms>_<end in ms>, <id>_<start in s, six digits>, or Y<id> is the clip; <id> alone is the
whole video. Sound files will do.

Source: Gemmeke et al. 2017; the released CSV files, whose first lines start with #.
"""

import pathlib
from collections.abc import Iterator

from perceiver_stream.streams.clip_sets.base import (
  LABEL,
  About,
  ClipSet,
  Listed,
  Row,
  annotation,
  read_rows,
  span,
)

ABOUT = About(
  "AudioSet",
  'the page "AudioSet" of Google (lists only)',
  "  class_labels_indices.csv          (columns index, mid, display_name)\n"
  "  balanced_train_segments.csv       (YTID, start_seconds, end_seconds, positive_labels),\n"
  "  unbalanced_train_segments.csv, eval_segments.csv\n"
  "  balanced_train_segments/<id>_30000_40000.mp4 ...   (or in video/ there; wav will do)",
)
NUM_CLASSES = 527
SPLITS = ("balanced_train", "unbalanced_train", "eval")
_COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")


def classes(root: pathlib.Path) -> dict[str, int]:
  """Returns the number of each class by its mid."""
  rows = read_rows(annotation(ABOUT, root, "class_labels_indices.csv"))
  return {row.text("mid"): row.whole("index", NUM_CLASSES) for row in rows}


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the clips of a split of `SPLITS`."""
  known, folder = classes(root), f"{split}_segments"
  for row in read_rows(annotation(ABOUT, root, f"{folder}.csv"), _COLUMNS, comment="#"):
    start, stop = span(row.number("start_seconds"), row.number("end_seconds"), row.where)
    video, labels = row.text("YTID"), _numbers(row, known)
    folders = (folder, f"{folder}/video", f"{folder}/audio")
    clips = (
      f"{video}_{round(1000 * start)}_{round(1000 * stop)}", f"{video}_{int(start):06d}", f"Y{video}"
    )  # fmt: skip
    yield Listed(
      row.where,
      [f"{place}/{video}" for place in folders],
      [f"{place}/{clip}" for place in folders for clip in clips],
      start,
      stop,
      {LABEL: labels},
    )


def _numbers(row: Row, known: dict[str, int]) -> tuple[int, ...]:
  mids = [mid.strip() for mid in row.text("positive_labels").split(",")]
  unknown = [mid for mid in mids if mid not in known]
  if unknown:
    raise ValueError(f"{row.where}: {unknown[0][:60]!r} is not in class_labels_indices.csv.")
  return tuple(sorted({known[mid] for mid in mids}))


SETS = (ClipSet("audioset", ABOUT, SPLITS, read, {LABEL: NUM_CLASSES}, many=True),)
