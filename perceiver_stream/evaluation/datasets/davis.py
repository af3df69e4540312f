"""DAVIS: videos with the masks of objects (semi-supervised, 2017).

Source: Pont-Tuset et al. 2017, arXiv 1704.00675.
"""

import itertools
import pathlib
from collections.abc import Iterator

from perceiver_stream.evaluation.datasets.base import About, MaskClip
from perceiver_stream.evaluation.datasets.files import Size, mask_clip, numbered, read_names
from perceiver_stream.files.limits import inside
from perceiver_stream.utils.paths import user_path

ABOUT = About(
  "DAVIS-2017",
  'the page "DAVIS: Densely Annotated VIdeo Segmentation" (2017, semi-supervised, TrainVal, 480p)',
  "  ImageSets/2017/val.txt           (a name on each line)\n"
  "  JPEGImages/480p/<name>/00000.jpg ...\n"
  "  Annotations/480p/<name>/00000.png ... (palette: the ids of objects)",
)


def load(
  path: str | pathlib.Path,
  *,
  split: str = "val",
  year: str = "2017",
  resolution: str = "480p",
  size: Size = None,
) -> Iterator[MaskClip]:
  """Returns the clips of a split.

  Args:
    path: The folder that holds ImageSets.
    split: A file of ImageSets, without `.txt`.
    year: Of the split.
    resolution: A folder of JPEGImages and of Annotations.
    size: (H, W) to squash frames and masks to; None leaves them as they are.

  Raises:
    FileNotFoundError: Something is not there.
    ValueError: Frames are missing between others, or masks do not fit them; found when a clip's
      turn comes.
  """
  root = user_path(path)
  names = read_names(ABOUT.need(root / "ImageSets" / year / f"{split}.txt"))
  pictures, masks = (ABOUT.need(root / kind / resolution) for kind in ("JPEGImages", "Annotations"))
  return (
    _clip(name, ABOUT.need(inside(pictures, name)), ABOUT.need(inside(masks, name)), size)
    for name in names
  )


def _clip(name: str, pictures: pathlib.Path, masks: pathlib.Path, size: Size) -> MaskClip:
  frames = numbered(pictures)
  after = next((a for a, b in itertools.pairwise(frames) if b - a > 1), None)
  if after is not None:
    missing = max(frames) - min(frames) + 1 - len(frames)
    raise ValueError(
      f"DAVIS-2017 {name}: {missing} frames are missing between {min(frames)} and {max(frames)}, "
      f"the first is {after + 1}; get the clip again: tracks would jump there."
    )
  return mask_clip(f"DAVIS-2017 {name}", frames, numbered(masks), size)._replace(name=name)
