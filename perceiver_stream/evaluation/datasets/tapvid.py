"""TAP-Vid: videos with the tracks of points (DAVIS, RGB-stacking, Kinetics, RoboTAP).

Source: Doersch et al. 2022, arXiv 2211.03726; tapnet:tapnet/tapvid/evaluation_datasets.py. Differs:
images are resized by OpenCV, by areas; tapnet uses Lanczos.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from perceiver_stream.evaluation.clips import RASTER, Clip
from perceiver_stream.evaluation.datasets.base import About
from perceiver_stream.evaluation.datasets.files import Size, decoded, stacked
from perceiver_stream.files import limits
from perceiver_stream.files.array_files import read_npz
from perceiver_stream.files.pickles import load_pickle
from perceiver_stream.utils.paths import user_path

ABOUT = About(
  "TAP-Vid",
  'the page "TAP-Vid: A Benchmark for Tracking Any Point in a Video" of the tapnet project',
  "  tapvid_davis/tapvid_davis.pkl              (dict of videos)\n"
  "  tapvid_rgb_stacking/tapvid_rgb_stacking.pkl (list of videos)\n"
  "  tapvid_kinetics/0000_of_0010.pkl ...       (lists of videos; folder)\n"
  "  robotap/robotap_split0.pkl ...             (dicts of videos; folder)\n"
  "or .npz files of one video each; a video has: video uint8 [T, H, W, 3] or [T] JPEG files, "
  "points [N, T, 2] (x, y) in [0, 1], occluded [N, T]",
)
KEYS = ("video", "points", "occluded")


def load(path: str | pathlib.Path, *, size: Size = (RASTER, RASTER)) -> Iterator[Clip]:
  """Returns the videos of a file, or of all `.pkl` and `.npz` files of a folder, by name.

  Pickles are programs: these are read without running anything but what builds containers, bytes
  and arrays.

  Args:
    path: A file or a folder.
    size: (H, W) to squash frames to; None leaves them as they are.

  Raises:
    FileNotFoundError: There is none.
    ValueError: A file holds something else, found when its turn comes.
  """
  place = ABOUT.need(user_path(path))
  files = [place]
  if place.is_dir():
    files = [p for p in sorted(place.iterdir()) if p.suffix in (".pkl", ".npz")]
    if not files:
      ABOUT.need(place / "*.pkl")
  return (clip for file in files for clip in _clips(file, size))


def _clips(file: pathlib.Path, size: Size) -> Iterator[Clip]:
  if file.suffix == ".npz":
    yield clip_of(read_npz(file, "biufcS"), file.name, size)
    return
  stored = load_pickle(limits.read_bytes(file), file.name)
  if not isinstance(stored, dict | list | tuple):
    raise ValueError(f"{file.name}: a {type(stored).__name__}; expected a dict or list of videos.")
  videos = stored.items() if isinstance(stored, dict) else enumerate(stored)
  for name, video in videos:
    yield clip_of(video, f"{file.name}: video {name}", size)


def clip_of(stored: Any, where: str, size: Size) -> Clip:
  """Returns a clip from a stored video; ValueError if its arrays do not fit.

  Args:
    stored: A mapping with `KEYS`.
    where: Names the video in messages.
    size: Of its frames.
  """
  missing = [k for k in KEYS if not isinstance(stored, Mapping) or k not in stored]
  if missing:
    raise ValueError(f"{where} has no {missing}; expected {KEYS}.")
  frames = _frames(stored["video"], where, size)
  points, occluded = (_numbers(stored[name], f"{where}: {name}") for name in KEYS[1:])
  points = points.astype(np.float64)
  expected = (len(points), len(frames))
  if points.ndim != 3 or points.shape != (*expected, 2) or occluded.shape != expected:
    raise ValueError(
      f"{where}: video {list(frames.shape)}, points {list(points.shape)}, occluded "
      f"{list(occluded.shape)}; expected points [N, {len(frames)}, 2] and occluded "
      f"[N, {len(frames)}]: as many frames in each."
    )
  occluded = occluded.astype(bool)
  if not np.isfinite(points[~occluded]).all():
    raise ValueError(f"{where}: a visible point is not finite; only hidden ones may be NaN.")
  return Clip(frames, points * frames.shape[2:0:-1], occluded)


def _frames(video: Any, where: str, size: Size) -> np.ndarray:
  encoded = isinstance(video, list | tuple) or (isinstance(video, np.ndarray) and video.ndim == 1)
  if encoded and len(video) and all(isinstance(data, bytes) for data in video):
    return stacked(_decoded(video, where), size, where)
  frames = _numbers(video, where)
  if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
    raise ValueError(
      f"{where}: video {frames.dtype} {list(frames.shape)}; expected uint8 [T, H, W, 3] or JPEG "
      f"files as bytes."
    )
  return stacked(((frame.nbytes, frame) for frame in frames), size, where)


def _decoded(video: list | tuple | np.ndarray, where: str) -> Iterator[tuple[int, np.ndarray]]:
  """Yields frames with their size in the file; a list may hold the same bytes many times."""
  found: set[int] = set()
  for data in video:
    again = not isinstance(video, np.ndarray) and id(data) in found
    found.add(id(data))
    yield 0 if again else len(data), decoded(bytes(data), where)


def _numbers(value: Any, where: str) -> np.ndarray:
  """Returns an array of numbers; ValueError if it is none. Lists could repeat their elements."""
  kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
  if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
    raise ValueError(f"{where}: a {kind}, expected an array of numbers.")
  return value
