"""Walking Tours: ten videos of one to three hours, each one shot of a walk; no labels.

A clip is a whole video, in the order of their names; names are free (the released code has venice.mp4).

Source: Venkataramanan et al. 2023, arXiv 2310.08584; the repository DoRA_ICLR24.
"""

import pathlib
from collections.abc import Iterator

from perceiver_stream.streams.clip_sets.base import About, ClipSet, Listed
from perceiver_stream.streams.clip_sets.finding import Files

ABOUT = About(
  "Walking Tours",
  'the repository DoRA_ICLR24 on GitHub ("Dora WalkingTours Dataset" at figshare)',
  "  venice.mp4, amsterdam.mp4, ...",
)


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields "all" videos."""
  del split
  for name in Files(root).all():
    yield Listed(f"{root}/{name}", [name])


SETS = (ClipSet("walking_tours", ABOUT, ("all",), read),)
