"""BDD100K: 100,000 videos of 40 s from cars, with weather, scene and time of day at the 10th second.

Labels are those of the key frame <video>.jpg in the detection lists of 2020, in the order in which the
documentation lists their values; "undefined" is one of them. Videos of the test split have none.

Source: Yu et al. 2020, arXiv 1805.04687; the documentation of the repository bdd100k. That a video is
videos/<split>/<name>.mov is as its archives unpack.
"""

import pathlib
from collections.abc import Iterator

from perceiver_stream.streams.clip_sets.base import (
  About,
  ClipSet,
  Listed,
  Row,
  annotation,
  as_rows,
  number_of,
  object_of,
  read_json,
)
from perceiver_stream.streams.clip_sets.finding import Files, stem

ABOUT = About(
  "BDD100K",
  'the page "Berkeley DeepDrive" (licence to accept)',
  "  videos/train/<name>.mov ..., videos/val/, videos/test/\n"
  "  labels/det_20/det_train.json, labels/det_20/det_val.json   (lists of name, attributes, ...)",
)
VALUES = {
  "weather": ("rainy", "snowy", "clear", "overcast", "undefined", "partly cloudy", "foggy"),
  "scene": (
    "tunnel", "residential", "parking lot", "undefined", "city street", "gas stations", "highway",
  ),
  "timeofday": ("daytime", "night", "dawn/dusk", "undefined"),
}  # fmt: skip
_KNOWN = {name: {v: number for number, v in enumerate(values)} for name, values in VALUES.items()}


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the videos of "train", "val" or "test"."""
  if split == "test":
    for name in Files(root).all("videos/test"):
      path = f"videos/test/{name}"
      yield Listed(f"{root}/{path}", [path], labels=dict.fromkeys(VALUES, ()))
    return
  file = annotation(ABOUT, root, f"labels/det_20/det_{split}.json")
  for row in as_rows(read_json(file), str(file)):
    name = row.text("name").removesuffix(".jpg")
    given = Row(row.where, object_of(row.values.get("attributes"), f"{row.where}, attributes"))
    labels = {label: (number_of(given, label, _KNOWN[label]),) for label in VALUES}
    yield Listed(row.where, [f"videos/{split}/{stem(name)}"], labels=labels)


SETS = (
  ClipSet(
    "bdd100k",
    ABOUT,
    ("train", "val", "test"),
    read,
    {label: len(values) for label, values in VALUES.items()},
  ),
)
