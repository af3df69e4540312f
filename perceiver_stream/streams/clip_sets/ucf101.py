"""UCF101: 13,320 clips of 101 actions; three splits in which the groups of a video stay together.

Source: Soomro et al. 2012, arXiv 1212.0402; the files ucfTrainTestlist as released.
"""

import pathlib
from collections.abc import Iterator

from perceiver_stream.streams.clip_sets.base import (
  LABEL,
  About,
  ClipSet,
  Listed,
  annotation,
  read_lines,
)

ABOUT = About(
  "UCF101",
  'the page "UCF101 - Action Recognition Data Set"',
  "  UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi ...\n"
  "  ucfTrainTestlist/classInd.txt      (lines <number from 1> <class>)\n"
  "  ucfTrainTestlist/trainlist01.txt   (lines <class>/<name>.avi <number>)\n"
  "  ucfTrainTestlist/testlist01.txt    (lines <class>/<name>.avi); likewise 02 and 03",
)
NUM_CLASSES, FOLDS = 101, 3
LISTS = "ucfTrainTestlist"


def classes(root: pathlib.Path) -> dict[str, int]:
  """Returns the number of each class, from 0."""
  found: dict[str, int] = {}
  for row in read_lines(annotation(ABOUT, root, f"{LISTS}/classInd.txt")):
    number, _, name = row.text("line").partition(" ")
    if not name.strip() or not number.isdecimal() or not 1 <= int(number) <= NUM_CLASSES:
      raise ValueError(f"{row.where}: {row.text('line')[:60]!r}, expected <1 to 101> <class>.")
    found[name.strip()] = int(number) - 1
  return found


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the clips of "train1", "test1", ... "test3"."""
  known, kind, fold = classes(root), split[:-1], split[-1]
  for row in read_lines(annotation(ABOUT, root, f"{LISTS}/{kind}list0{fold}.txt")):
    path = row.text("line").split()[0]  # the number after it is that of the class
    name = path.partition("/")[0]
    if "/" not in path or name not in known:
      raise ValueError(f"{row.where}: {path[:60]!r}, expected <class>/<name>.avi of classInd.txt.")
    yield Listed(row.where, [f"UCF-101/{path}"], labels={LABEL: (known[name],)})


SETS = (
  ClipSet(
    "ucf101",
    ABOUT,
    tuple(f"{kind}{fold}" for fold in range(1, FOLDS + 1) for kind in ("train", "test")),
    read,
    {LABEL: NUM_CLASSES},
    folds=FOLDS,
  ),
)
