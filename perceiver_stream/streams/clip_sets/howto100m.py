"""HowTo100M: instructional videos with captions from speech recognition.

A clip is a caption and its time. Captions are read from a CSV file for each video (columns start, end,
text), as the loader of MIL-NCE reads them; caption.json, one file of all, is not read. That the videos
are in the folder videos is our reading. Captions that last no time are left out. A shorter HowTo100M_v1.csv chooses some of the videos.

Source: Miech et al. 2019, arXiv 1906.03327; the repositories howto100m and MIL-NCE_HowTo100M.
"""

import pathlib
from collections.abc import Iterator

from perceiver_stream.files import limits
from perceiver_stream.streams.clip_sets.base import (
  About,
  ClipSet,
  Listed,
  annotation,
  read_rows,
  span,
)

ABOUT = About(
  "HowTo100M",
  'the page "HowTo100M" of Inria and ENS (lists and captions)',
  "  HowTo100M_v1.csv                  (columns video_id, category_1, category_2, rank, task_id)\n"
  "  howto100m_captions/<video_id>.csv (columns start, end, text)\n"
  "  videos/<video_id>.mp4 ...",
)
FOLDER = "howto100m_captions"


def read(root: pathlib.Path, split: str) -> Iterator[Listed]:
  """Yields the captions of "all" videos of the list that have a file of captions."""
  del split
  for video in read_rows(annotation(ABOUT, root, "HowTo100M_v1.csv")):
    name = video.text("video_id")
    try:
      file = limits.inside(ABOUT.need(root / FOLDER), f"{name}.csv")
    except limits.RefusedError as error:
      raise limits.RefusedError(f"{video.where}: {error}") from error
    if not file.exists():
      continue
    for row in read_rows(annotation(ABOUT, root, f"{FOLDER}/{name}.csv")):
      start, stop = row.number("start"), row.number("end")
      if start == stop:
        continue
      text = str(row.values.get("text") or "").strip()
      times = span(start, stop, row.where)
      yield Listed(row.where, [f"videos/{name}"], (), *times, caption=text)


SETS = (ClipSet("howto100m", ABOUT, ("all",), read),)
