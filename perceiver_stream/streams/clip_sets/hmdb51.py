"""HMDB51: 6,766 clips of 51 actions; three splits of 70 training and 30 test clips for each action.

A class has a list for each split; its lines end with 1 (train), 2 (test) or 0 (not used). Numbers of
classes are their places in alphabetical order.

Source: Kuehne et al. 2011; the files testTrainMulti_7030_splits as released.
"""

import pathlib
from collections.abc import Iterator

from perceiver_stream.streams.clip_sets.base import (
  LABEL,
  About,
  ClipSet,
  Listed,
  annotation,
  numbered,
  read_lines,
)

ABOUT = About(
  "HMDB51",
  'the page "HMDB: a large human motion database" (unpack the archive of each action, too)',
  "  hmdb51_org/brush_hair/<name>.avi ...\n"
  "  testTrainMulti_7030_splits/brush_hair_test_split1.txt ... (lines <name>.avi 0|1|2)",
)
NUM_CLASSES, FOLDS = 51, 3
LISTS = "testTrainMulti_7030_splits"
_TAGS = {"train": "1", "test": "2"}


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the clips of "train1", "test1", ... "test3", class by class."""
  ending = f"_test_split{split[-1]}.txt"
  folder = ABOUT.need(root / LISTS)
  names = [file.name.removesuffix(ending) for file in sorted(folder.glob(f"*{ending}"))]
  if not names:
    ABOUT.need(folder / f"<class>{ending}")
  for name, number in numbered(names, NUM_CLASSES, str(folder)).items():
    for row in read_lines(annotation(ABOUT, root, f"{LISTS}/{name}{ending}")):
      video, _, tag = row.text("line").rpartition(" ")
      if tag not in ("0", "1", "2") or not video:
        raise ValueError(f"{row.where}: {row.text('line')[:60]!r}, expected <name>.avi 0, 1 or 2.")
      if tag == _TAGS[split[:-1]]:
        yield Listed(row.where, [f"hmdb51_org/{name}/{video.strip()}"], labels={LABEL: (number,)})


SETS = (
  ClipSet(
    "hmdb51",
    ABOUT,
    tuple(f"{kind}{fold}" for fold in range(1, FOLDS + 1) for kind in ("train", "test")),
    read,
    {LABEL: NUM_CLASSES},
    folds=FOLDS,
  ),
)
