"""MOVi: clips of simulated objects, with tracks of points (as TAP-Vid-Kubric adds them) or masks.

Source: Greff et al. 2022, arXiv 2203.03570; layout: `streams.clips`.
"""

import pathlib
from collections.abc import Iterator

import numpy as np

from perceiver_stream.evaluation import clips
from perceiver_stream.evaluation.datasets.base import About, MaskClip, Ticks, masks_from_ticks
from perceiver_stream.files.array_files import read_npz
from perceiver_stream.streams import tfrecord
from perceiver_stream.streams.clips import POINTS, make_clip
from perceiver_stream.types import IS_FIRST
from perceiver_stream.utils.paths import user_path

ABOUT = About(
  "MOVi",
  'the folder "challenges/movi" of the Kubric project (TFDS sets movi_e, movi_f)',
  "  1.0.0/dataset_info.json, 1.0.0/movi_e-validation.tfrecord-00000-of-... (a TFDS folder)\n"
  "or TFRecord files, or .npz files of one clip each, with: video uint8 [T, H, W, 3], and\n"
  "  target_points [N, T, 2] (x, y) pixels and occluded [N, T], or segmentations uint8 [T, H, W, 1]",
)


def load_points(
  path: str | pathlib.Path,
  *,
  split: str = "validation",
  size: tuple[int, int] = (clips.RASTER, clips.RASTER),
  num_points: int = 64,
  num_ticks: int = 24,
) -> Iterator[clips.Clip]:
  """Returns clips with the tracks of points.

  Args:
    path: A TFDS folder, a TFRecord file (both need the extra `tf`), or a folder of `.npz` files.
    split: Of a TFDS folder.
    size: (H, W) to squash frames to.
    num_points: Tracks of a clip, its first.
    num_ticks: Length of a clip; shorter ones are left out.

  Raises:
    FileNotFoundError: There is none.
    DamagedError: A record lacks something, found when its turn comes.
  """
  config = _config(path, split, size, ("pixels", *POINTS), num_points)
  return (_seen(clip) for clip in clips.from_ticks(_ticks(config), num_ticks))


def load_masks(
  path: str | pathlib.Path,
  *,
  split: str = "validation",
  size: tuple[int, int] = (clips.RASTER, clips.RASTER),
  num_ticks: int = 24,
) -> Iterator[MaskClip]:
  """Returns clips with masks; arguments as for points."""
  config = _config(path, split, size, ("pixels", "segmentation"), 1)
  return masks_from_ticks(_ticks(config), num_ticks)


def _config(
  path: str | pathlib.Path,
  split: str,
  size: tuple[int, int],
  modalities: tuple[str, ...],
  num_points: int,
) -> tfrecord.Config:
  place = ABOUT.need(user_path(path))
  return tfrecord.Config(
    path=str(place),
    split=split,
    height=size[0],
    width=size[1],
    crop="squash",
    modalities=modalities,
    num_points=num_points,
  )


def _ticks(config: tfrecord.Config) -> Ticks:
  place = user_path(config.path)
  files = sorted(place.glob("*.npz")) if place.is_dir() else [place]
  if not files or files[0].suffix != ".npz":
    yield from tfrecord.open_row(config)
    return
  for file in files:
    clip = make_clip(read_npz(file), config, file.name)
    for t in range(len(clip["pixels"][0])):
      yield {name: values[t] for name, (values, _) in clip.items()} | {IS_FIRST: np.asarray(t == 0)}


def _seen(clip: clips.Clip) -> clips.Clip:
  """Leaves out slots that no track fills."""
  some = ~clip.occluded.all(axis=1)
  return clip._replace(tracks=clip.tracks[some], occluded=clip.occluded[some])
