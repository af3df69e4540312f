"""JHMDB: clips of actions with the 15 joints of a body.

Source: Jhuang et al. 2013, "Towards understanding action recognition".
"""

import io
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from perceiver_stream.evaluation.datasets.base import About, JointClip
from perceiver_stream.evaluation.datasets.files import Size, numbered, read_frames
from perceiver_stream.files import limits
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.utils.paths import user_path

NUM_JOINTS = 15
_MAX_MAT_BYTES = 2**24  # joints of a clip have a few kB
ABOUT = About(
  "JHMDB",
  'the page "JHMDB: a fully annotated data set for human actions and human poses"',
  "  splits/<action>_test_split1.txt                    (lines <name>.avi 1|2; 2 is test)\n"
  "  Rename_Images/<action>/<name>/00001.png ...\n"
  "  joint_positions/<action>/<name>/joint_positions.mat (pos_img [2, 15, T])",
)
_PARTS = {"train": "1", "test": "2"}


def load(
  path: str | pathlib.Path, *, split: str = "test", fold: int = 1, size: Size = None
) -> Iterator[JointClip]:
  """Returns the clips of a split, by action, then as its files list them.

  Args:
    path: The folder that holds joint_positions.
    split: "test" or "train".
    fold: 1, 2 or 3: which of the data set's splits.
    size: (H, W) to squash frames to, joints with them; None leaves them as they are.

  Raises:
    FileNotFoundError: Something is not there.
    ImportError: SciPy is not installed; names the extra.
    ValueError: No such split; or joints do not fit the frames, found when a clip's turn comes.
  """
  if split not in _PARTS:
    raise ValueError(f"JHMDB: split={split!r}; use one of {sorted(_PARTS)}.")
  _scipy_io()
  root = user_path(path)
  ending = f"_test_split{fold}.txt"
  lists = sorted(ABOUT.need(root / "splits").glob(f"*{ending}"))
  if not lists:
    ABOUT.need(root / "splits" / f"<action>{ending}")
  listed = [
    (file.name.removesuffix(ending), line.split()[0].removesuffix(".avi"))
    for file in lists
    for line in limits.read_text(file).splitlines()
    if line.split()[1:] == [_PARTS[split]]
  ]
  return (_clip(root, action, name, size) for action, name in listed)


def _clip(root: pathlib.Path, action: str, name: str, size: Size) -> JointClip:
  joint_dir = limits.inside(root / "joint_positions" / action, name)
  file = ABOUT.need(joint_dir / "joint_positions.mat")
  images = limits.inside(root / "Rename_Images" / action, name)
  paths = list(numbered(ABOUT.need(images)).values())
  joints = _joints(file)
  if joints.shape[:2] != (2, NUM_JOINTS) or not 0 < joints.shape[2] <= len(paths):
    raise ValueError(
      f"JHMDB {name}: pos_img {list(joints.shape)} for {len(paths)} frames; expected "
      f"[2, {NUM_JOINTS}, T] with a frame for each t."
    )
  # Some clips have a few more frames than annotations.
  frames = read_frames(paths[: joints.shape[2]], None, f"JHMDB {name}")
  natural = np.array(frames.shape[2:0:-1])
  joints = joints.transpose(2, 1, 0)  # [T, J, 2]
  inside = np.asarray(((joints >= 0) & (joints <= natural)).all(axis=-1))
  if size is not None:
    frames = read_frames(paths[: joints.shape[0]], size, f"JHMDB {name}")
  return JointClip(frames, joints * (np.array(frames.shape[2:0:-1]) / natural), inside, name)


def _joints(file: pathlib.Path) -> np.ndarray:
  """Returns the array `pos_img`; DamagedError where there is none, or one far too large."""
  try:
    scipy_io, data = _scipy_io(), io.BytesIO(limits.read_bytes(file, _MAX_MAT_BYTES))
    listed = scipy_io.whosmat(data)  # packed: sizes are read before anything is unpacked
    if sum(8 * math.prod(shape) for _, shape, _ in listed) > limits.max_unpacked_bytes(0):
      raise limits.RefusedError(f"{[shape for _, shape, _ in listed]} is far too large")
    joints = scipy_io.loadmat(data, variable_names=["pos_img"])["pos_img"]
    return np.asarray(joints, np.float64)
  except ImportError:
    raise
  except Exception as error:  # a damaged file can fail in any way
    raise DamagedError(f"{file} cannot be read ({error!r}); get the file again.") from error


def _scipy_io() -> Any:
  try:
    import scipy.io
  except ImportError as error:
    raise ImportError(
      f"JHMDB: joints are in .mat files, which need SciPy ({error}); pip install "
      f'"perceiver_stream[eval]".'
    ) from error
  return scipy.io
