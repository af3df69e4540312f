"""AVE: 4,143 ten-second videos with an event of 28 classes that is both heard and seen.

Lists have rows Category&VideoID&Quality&StartTime&EndTime; Annotations.txt has them as its first line,
those of the splits do not. The clip is the part with the event. Rows whose event lasts no time, which the
released files have, are left out. The number of a class is its place in the alphabetical order of
Annotations.txt, and that videos are named <VideoID>.mp4 is our reading.

Source: Tian et al. 2018, arXiv 1803.08842; the lists as released.
"""

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

ABOUT = About(
  "AVE",
  'the repository AVE-ECCV18 of YapengTian on GitHub, "AVE dataset"',
  "  AVE/<VideoID>.mp4 ...\n"
  "  Annotations.txt   (Category&VideoID&Quality&StartTime&EndTime)\n"
  "  trainSet.txt, valSet.txt, testSet.txt   (likewise, without the first line)",
)
NUM_CLASSES = 28
_COLUMNS = ("Category", "VideoID", "Quality", "StartTime", "EndTime")


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the events of "train", "val" or "test"."""
  file = annotation(ABOUT, root, "Annotations.txt")
  names = [row.text("Category") for row in read_rows(file, _COLUMNS, delimiter="&")]
  known = numbered((name for name in names if name != "Category"), NUM_CLASSES, str(file))
  for row in read_rows(annotation(ABOUT, root, f"{split}Set.txt"), _COLUMNS, delimiter="&"):
    if row.values["Category"] == "Category":
      continue
    start, stop = row.number("StartTime"), row.number("EndTime")
    if start == stop:
      continue
    yield Listed(
      row.where,
      [f"AVE/{row.text('VideoID')}"],
      (),
      *span(start, stop, row.where),
      {LABEL: (number_of(row, "Category", known),)},
    )


SETS = (ClipSet("ave", ABOUT, ("train", "val", "test"), read, {LABEL: NUM_CLASSES}),)
