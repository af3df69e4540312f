"""Perception Test: videos with tracks of points and boxes around objects.

Source: Pătrăucean et al. 2023, arXiv 2305.13786; its notebooks single_point_tracking and
single_object_tracking.
"""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from perceiver_stream.evaluation.clips import RASTER, Clip
from perceiver_stream.evaluation.datasets.base import About, BoxClip
from perceiver_stream.evaluation.datasets.files import Size, read_video
from perceiver_stream.files import limits
from perceiver_stream.utils.paths import user_path

ABOUT = About(
  "Perception Test",
  'the section "Download the data and annotations" of the page of the Perception Test',
  "  annotations/*.json       (by video: metadata, point_tracking, object_tracking)\n"
  "  videos/video_0001.mp4 ...",
)
MAX_TEXT_BYTES = 2**29  # all annotations of a split are one file
MAX_CELLS = 2**24  # tracks times frames of a video


def load_points(
  path: str | pathlib.Path, *, split: str = "valid", size: Size = (RASTER, RASTER)
) -> Iterator[Clip]:
  """Returns the videos with tracks of points; where a track has no annotation its point is hidden.

  Args:
    path: The folder that holds annotations and videos.
    split: "train", "valid" or "test"; "" is all.
    size: (H, W) to squash frames to; None leaves them as they are.

  Raises:
    FileNotFoundError: Something is not there.
    ValueError: Tracks do not fit their video, found when its turn comes.
  """
  return _load(path, split, size, "point_tracking", _points)


def load_boxes(
  path: str | pathlib.Path, *, split: str = "valid", size: Size = (RASTER, RASTER)
) -> Iterator[BoxClip]:
  """Returns the videos with boxes, about one a second; a track begins at its initial box.

  Args:
    path: The folder that holds annotations and videos.
    split: "train", "valid" or "test"; "" is all.
    size: (H, W) to squash frames to; None leaves them as they are.

  Raises:
    FileNotFoundError: Something is not there.
    ValueError: Tracks do not fit their video, found when its turn comes.
  """
  return _load(path, split, size, "object_tracking", _boxes)


def _load(
  path: str | pathlib.Path, split: str, size: Size, task: str, make: Callable[..., Any]
) -> Iterator[Any]:
  root = user_path(path)
  ABOUT.need(root / "videos")
  files = sorted(ABOUT.need(root / "annotations").glob("*.json"))
  if not files:
    ABOUT.need(root / "annotations" / "*.json")
  return _clips(root, files, split, size, task, make)


def _clips(
  root: pathlib.Path,
  files: list[pathlib.Path],
  split: str,
  size: Size,
  task: str,
  make: Callable[..., Any],
) -> Iterator[Any]:
  for file in files:
    text = limits.read_text(file, MAX_TEXT_BYTES)
    videos = limits.parse_json(text, str(file), most=len(text) // 16)
    if not isinstance(videos, dict):
      raise ValueError(f"{file}: a {type(videos).__name__}, expected an object of videos.")
    for name, video in videos.items():
      try:
        clip = _clip(root, name, video, split, size, task, make)
      except (TypeError, AttributeError, LookupError) as error:
        raise ValueError(f"{file}: {name} has no {task} as expected ({error!r}).") from error
      if clip is not None:
        yield clip


def _clip(
  root: pathlib.Path,
  name: str,
  video: Mapping[str, Any],
  split: str,
  size: Size,
  task: str,
  make: Callable[..., Any],
) -> Any:
  """Returns the clip of a video; None if it is of another split or has no such tracks."""
  tracks = video.get(task)
  if not tracks or split not in ("", video["metadata"]["split"]):
    return None
  frames = read_video(ABOUT.need(limits.inside(root / "videos", f"{name}.mp4")), size)
  if len(tracks) * len(frames) > MAX_CELLS:
    raise ValueError(f"Perception Test {name}: {len(tracks)} tracks, more than any video has.")
  for track in tracks:
    _check(track, len(frames), f"Perception Test {name}, {task} {track.get('id')}")
  return make(frames, tracks, name)


def _check(track: Mapping[str, Any], num_frames: int, where: str) -> None:
  try:
    at = np.asarray(track["frame_ids"])
    values = np.asarray(track.get("points", track.get("bounding_boxes")), np.float64)
  except ValueError as error:
    raise ValueError(f"{where}: no lists of numbers ({error}).") from error
  good = len(at) in values.shape and values.ndim == 2 and np.isfinite(values).all()
  good &= at.ndim == 1 and (at.dtype.kind == "i" or not len(at))
  if not good or at.min(initial=0) < 0 or at.max(initial=0) >= num_frames:
    raise ValueError(
      f"{where}: {list(values.shape)} numbers at frames {at.min(initial=0)} to {at.max(initial=0)} "
      f"of a video of {num_frames}; expected finite ones, for each frame id, of frames that exist."
    )


def _points(frames: np.ndarray, tracks: list[Mapping[str, Any]], name: str) -> Clip:
  del name
  places = np.zeros((len(tracks), len(frames), 2))
  occluded = np.ones(places.shape[:2], bool)
  for n, track in enumerate(tracks):
    at, values = np.asarray(track["frame_ids"]), np.asarray(track["points"], np.float64)
    values = values.T if values.shape[0] == 2 else values  # a row of y and one of x
    places[n, at], occluded[n, at] = values[:, ::-1], False
  return Clip(frames, places * frames.shape[2:0:-1], occluded)


def _boxes(frames: np.ndarray, tracks: list[Mapping[str, Any]], name: str) -> BoxClip:
  boxes = np.zeros((len(tracks), len(frames), 4))
  present = np.zeros(boxes.shape[:2], bool)
  for n, track in enumerate(tracks):
    at = np.asarray(track["frame_ids"])
    given = np.asarray(track["bounding_boxes"], np.float64)[:, [1, 0, 3, 2]]  # from x1, y1, x2, y2
    first = int(np.argmax(track.get("initial_tracking_box", [1])))
    boxes[n, at[first:]], present[n, at[first:]] = given[first:], True
  return BoxClip(frames, boxes, present, name)
