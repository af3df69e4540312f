"""Something-Something V2: 220,847 clips of 174 actions with unnamed objects.

The class of a clip is its template without brackets, and the number of a class that in labels.json. A
clip's own label, with the names of the objects, is its caption. Test clips have neither.

Source: Goyal et al. 2017, arXiv 1706.04261; the names of files before and since 2022 are both known.
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
  as_rows,
  object_of,
  read_json,
)

ABOUT = About(
  "Something-Something V2",
  'the page "Something-Something v. 2 Dataset" of Qualcomm (terms to accept)',
  "  20bn-something-something-v2/1.webm ...\n"
  "  labels/labels.json       (template: number)\n"
  "  labels/train.json, labels/validation.json, labels/test.json\n"
  "                           (lists of id, label, template, placeholders; test: id)\n"
  "  (or something-something-v2-labels.json, ...-train.json, ..., as they were named before)",
)
NUM_CLASSES = 174
_OLD = "something-something-v2-"


def _file(root: pathlib.Path, name: str) -> pathlib.Path:
  names = (f"labels/{name}.json", f"{name}.json", f"labels/{_OLD}{name}.json", f"{_OLD}{name}.json")
  return annotation(ABOUT, root, *names)


def classes(root: pathlib.Path) -> dict[str, int]:
  """Returns the number of each template."""
  file = _file(root, "labels")
  values = object_of(read_json(file), str(file))
  return {name: Row(str(file), values).whole(name, NUM_CLASSES) for name in values}


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the clips of "train", "validation" or "test"."""
  known, file = classes(root), _file(root, split)
  for row in as_rows(read_json(file), str(file)):
    video, labels, caption = row.identity("id"), {LABEL: ()}, ""
    if split != "test":
      template = row.text("template").replace("[", "").replace("]", "")
      if template not in known:
        raise ValueError(f"{row.where}: template {template[:60]!r} is not in labels.json.")
      labels, caption = {LABEL: (known[template],)}, row.text("label")
    path = f"20bn-something-something-v2/{video}"
    yield Listed(row.where, [path], labels=labels, caption=caption)


SETS = (
  ClipSet("something_v2", ABOUT, ("train", "validation", "test"), read, {LABEL: NUM_CLASSES}),
)
