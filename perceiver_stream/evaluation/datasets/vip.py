"""VIP: videos with the parts of people, by class (VIP_Fine).

Source: Zhou et al. 2018, "Adaptive Temporal Encoding Network for Video Instance-level Human Parsing",
arXiv 1808.00661.
"""

import pathlib
from collections.abc import Iterator

from perceiver_stream.evaluation.datasets.base import About, MaskClip
from perceiver_stream.evaluation.datasets.files import Size, mask_clip, numbered, read_names
from perceiver_stream.files.limits import inside
from perceiver_stream.utils.paths import user_path

NUM_CLASSES = 20  # with the background
ABOUT = About(
  "VIP",
  'the page "Look into Person" (LIP), track "Video Multi-Person Human Parsing", file VIP_Fine',
  "  lists/val_videos.txt               (a name on each line)\n"
  "  Images/<name>/000000000001.jpg ...\n"
  "  Annotations/Category_ids/<name>/000000000001.png ... (the class of each pixel)\n"
  "  Annotations/Instance_ids/, Annotations/Human_ids/ likewise",
)
KINDS = ("Category_ids", "Instance_ids", "Human_ids")


def load(
  path: str | pathlib.Path,
  *,
  split: str = "val",
  kind: str = "Category_ids",
  size: Size = None,
) -> Iterator[MaskClip]:
  """Returns the clips of a split.

  Frames are those annotated, every 25th of the video or so: their numbers jump.

  Args:
    path: The folder VIP_Fine.
    split: "val" or "train": a file of lists.
    kind: Kind of labels in the masks, of `KINDS`.
    size: (H, W) to squash frames and masks to; None leaves them as they are.

  Raises:
    FileNotFoundError: Something is not there.
    ValueError: No such kind; or masks do not fit their frames, found when a clip's turn comes.
  """
  if kind not in KINDS:
    raise ValueError(f"VIP: kind={kind!r}; use one of {KINDS}.")
  root = user_path(path)
  names = read_names(ABOUT.need(root / "lists" / f"{split}_videos.txt"))
  pictures, masks = ABOUT.need(root / "Images"), ABOUT.need(root / "Annotations" / kind)
  return (
    _clip(name, ABOUT.need(inside(pictures, name)), ABOUT.need(inside(masks, name)), size)
    for name in names
  )


def _clip(name: str, pictures: pathlib.Path, masks: pathlib.Path, size: Size) -> MaskClip:
  return mask_clip(f"VIP {name}", numbered(pictures), numbered(masks), size)._replace(name=name)
