"""VGG-Sound: 200,000 ten-second clips of 309 sounds whose source is seen.

Lists have no header: id, start in seconds, class, "train" or "test". Clips are named
<id>_<start, six digits>, as the example in its repository; the folder is our reading. The number of a
class is its place in alphabetical order, as in the released evaluation.

Source: Chen et al. 2020, arXiv 2004.14368; the repository VGGSound.
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
)

ABOUT = About(
  "VGG-Sound",
  'the page "VGGSound: A Large-scale Audio-Visual Dataset"',
  "  vggsound.csv               (<id>,<start>,<class>,train|test; no header)\n"
  "  video/<id>_000030.mp4 ...  (or <id>.mp4, the whole video)",
)
NUM_CLASSES = 309
LENGTH_S = 10.0
_COLUMNS = ("id", "start", "label", "split")


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the clips of "train" or "test"."""
  file = annotation(ABOUT, root, "vggsound.csv", "data/vggsound.csv")
  rows = list(read_rows(file, _COLUMNS))
  known = numbered((row.text("label") for row in rows), NUM_CLASSES, str(file))
  for row in rows:
    if row.text("split") not in ("train", "test"):
      raise ValueError(f"{row.where}: split is {row.text('split')[:60]!r}, expected train or test.")
    if row.text("split") != split:
      continue
    start, video = row.number("start"), row.text("id")
    yield Listed(
      row.where,
      [f"video/{video}"],
      [f"video/{video}_{int(start):06d}"],
      start,
      start + LENGTH_S,
      {LABEL: (number_of(row, "label", known),)},
    )


SETS = (ClipSet("vggsound", ABOUT, ("train", "test"), read, {LABEL: NUM_CLASSES}),)
