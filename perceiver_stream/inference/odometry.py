"""Depth and the path of the camera of a video, by a trained read-out of a model's states.

  odometer = load_odometer("runs/rooms_tiny_odometry")
  track = odometer(frames)
  track.poses, track.depth

The scale is free unless the run was taught by poses: scale the path by a known length, and depth by
a known depth.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PyTree, UInt8

from perceiver_stream import zoo
from perceiver_stream.inference.model_loading import fitting, restore
from perceiver_stream.inference.tracking import CHUNK, FeatureExtractor
from perceiver_stream.models import motion_readout
from perceiver_stream.models.motion_readout import Odometer
from perceiver_stream.training import objectives
from perceiver_stream.training.config import read_config
from perceiver_stream.training.objectives.ego_motion import EgoMotion
from perceiver_stream.training.objectives.readout_base import ReadoutLearner
from perceiver_stream.utils.paths import user_path
from perceiver_stream.utils.poses import chained
from perceiver_stream.zoo.loading import find, load_readout


class CameraTrack(NamedTuple):
  """Depth and camera path of a video.

  Attributes:
    motions: `T_previous_newest` of each frame; the first means nothing.
    depth: Of each pixel, in the path's unit.
    intrinsics: (fx, fy, cx, cy) in pixels, as given or learned.
  """

  motions: Float[np.ndarray, "T 4 4"]
  depth: Float[np.ndarray, "T H W"]
  intrinsics: Float[np.ndarray, " 4"]

  @property
  def poses(self) -> Float[np.ndarray, "T 4 4"]:
    """Camera-to-world poses; the world is the first camera."""
    return chained(self.motions)


Odometry = Callable[[UInt8[np.ndarray, "T H W 3"]], CameraTrack]


def load_odometer(source: str | pathlib.Path) -> Odometry:
  """Returns a function from the frames of a video, in the model's size, to its camera track.

  Args:
    source: Folder of a run that trained an `ego_motion`, or a file that `export` wrote of it.

  Raises:
    CheckpointError: The run has no complete checkpoint.
    FileNotFoundError: There is no such folder or file.
    ValueError: It is of another objective, or the file has no read-out of motion, or one whose
      parameters are of another version of the read-out.
  """
  folder = user_path(source)
  if not folder.is_dir():
    file = find(source)
    model, params = zoo.load(file)
    readout = load_readout(file, EgoMotion.readout_name)
    learner = ReadoutLearner(model, params, motion_readout.build(readout.config))
    return as_odometry(learner, fitting(readout, learner, file))
  config = read_config(folder)
  model = zoo.build(config.model)
  objective = objectives.make(model, config.objective)
  if not isinstance(objective, EgoMotion):
    raise ValueError(
      f"load_odometer: {folder} trained {objective.name}; name a run of ego_motion, such as "
      f"--config=rooms:tiny_odometry."
    )
  trained, _ = restore(folder, model, objective.init_params)
  own, readout = objective.learner.split(trained)
  return as_odometry(ReadoutLearner(model, own, objective.learner.readout), readout)


def as_odometry(learner: ReadoutLearner[Odometer], params: PyTree, chunk: int = CHUNK) -> Odometry:
  """Returns a function from the frames of a video to its camera track.

  Args:
    learner: The model and the read-out.
    params: Of the read-out.
    chunk: Ticks at a time; the last chunk is padded.
  """

  def read(frames: np.ndarray) -> CameraTrack:
    extractor, found = FeatureExtractor(learner.model, learner.params, chunk), []
    height, width = learner.model.modalities["pixels"].spec.shape[:2]
    memory = learner.readout.initial_state(1, height, width)
    valid = np.ones((chunk, 1), bool)
    for at in range(0, len(frames), chunk):
      features = extractor(frames[at : at + chunk])
      motion, memory = learner.readout.read(params, features, ~valid, valid, memory)
      motion = jax.tree.map(lambda x: x[:, 0], motion)
      wanted = (motion.pose, 1 / motion.inverse_depth, motion.intrinsics)
      found.append(jax.device_get(wanted))
    poses, depth, camera = (np.concatenate(x)[: len(frames)] for x in zip(*found, strict=True))
    return CameraTrack(poses.astype(np.float64), depth, camera[0])

  return read
