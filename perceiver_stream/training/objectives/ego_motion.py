"""Depth and camera motion of one stream, learned by warping neighbours in the window; no labels.

Each tick of a window is synthesised from its neighbours by the predicted depth and the chained
motions between the ticks. The error is SSIM and L1, the minimum over the neighbours for each pixel;
pixels that an unwarped neighbour explains better are masked. With `supervision="pose"` the motion
is learned from the stream's `camera` instead: end-to-end visual odometry with the same network.

Scores, with labels that learning does not read: `depth@0`, AbsRel after median scaling, beside a
constant depth; `rotation@0` in radians and `direction@0`, the error of a translation of the true
length as a share of it, beside a camera at rest; `masked@0`, the share of pixels that are masked
(at 0 the network has learned to hide).

Source: SfMLearner (1704.07813), monodepth2 (1806.01260), gvnn (1607.07405) for the supervised form.
Differs: one pass over one stream instead of shuffled snippets, and the neighbours are those of the
window; masked pixels do not scale the loss, which is the mean over the others.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models import motion_readout
from perceiver_stream.models.base import Model
from perceiver_stream.models.motion_readout import Motion, Odometer
from perceiver_stream.nn.geometry import lie, photometric, rotations, warps
from perceiver_stream.nn.geometry.depth_filter import Memory
from perceiver_stream.training.objectives.base import (
  Aux,
  Score,
  check_window,
  flag,
  mean_where,
  model_params,
)
from perceiver_stream.training.objectives.readout_base import (
  ReadoutConfig,
  ReadoutLearner,
  ReadoutObjective,
)
from perceiver_stream.types import IS_FIRST, Observation

SUPERVISIONS = ("warping", "pose")
_TIE = 1e-5  # added to unwarped errors, so that a camera at rest is not masked by rounding
OUTSIDE = 1.0  # error of a pixel outside a source: more than any other
_MIN_DEPTH_M = 1e-3  # less is unknown
_MIN_STEP_M = 1e-4  # shorter steps have no direction


@dataclass(kw_only=True)
class Config(ReadoutConfig):
  """Window, loss and read-out of depth and camera motion.

  Attributes:
    finetune: The model learns with the heads; False trains the heads alone.
    window: Ticks between updates.
    neighbours: Distances in ticks of the frames that each tick is synthesised from.
    supervision: "warping" needs no labels; "pose" learns the motion from the stream's `camera`.
    ssim_share: Of SSIM in the photometric error; the rest is L1.
    smoothness: Weight of the edge-aware smoothness of disparity.
    auto_mask: Mask pixels that an unwarped neighbour explains better.
    readout: The heads, and the camera: known, or learned.
  """

  finetune: bool = True
  window: int = 8
  neighbours: tuple[int, ...] = (-6, -3, -1, 1, 3, 6)
  supervision: str = "warping"
  ssim_share: float = 0.85
  smoothness: float = 1e-3
  auto_mask: bool = True
  readout: motion_readout.Config = field(default_factory=motion_readout.Config)

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("ego_motion", self.window)
    self.readout.validate()
    if self.supervision not in SUPERVISIONS:
      raise ValueError(
        f"ego_motion: supervision={self.supervision!r} is not one of {list(SUPERVISIONS)}."
      )
    if not self.neighbours or any(n == 0 or abs(n) >= self.window for n in self.neighbours):
      raise ValueError(
        f"ego_motion: neighbours={self.neighbours} in a window of {self.window} ticks; give "
        f"distances from 1 to {self.window - 1}, or below 0 for earlier frames."
      )


class State(NamedTuple):
  """State between windows.

  Attributes:
    watched: Of the model.
    memory: Of the read-out's filter of depth.
  """

  watched: PyTree
  memory: Memory


class Window(NamedTuple):
  """The predictions of a window, and its frames.

  Attributes:
    frames: RGB in [0, 1].
    motion: Depth, and motion from the tick before, with leading T and B.
    recording: Number of the recording of each tick.
    valid: Ticks with a frame.
  """

  frames: Float[Array, "T B H W 3"]
  motion: Motion
  recording: Array
  valid: Bool[Array, "T B"]


class Warped(NamedTuple):
  """Errors of every tick, synthesised from each of S neighbours.

  Attributes:
    warped: Of the synthesised image; `OUTSIDE` where the neighbour does not show the pixel.
    still: Of the neighbour as it is.
    valid: The neighbour is in the window, in the same recording, and has a frame.
  """

  warped: Float[Array, "S T B H W"]
  still: Float[Array, "S T B H W"]
  valid: Bool[Array, "S T B"]


class EgoMotion(ReadoutObjective[Odometer]):
  """Loss and scores of depth and camera motion."""

  name, config_type = "ego_motion", Config
  readout_name = "motion"
  labels = {"depth": ("depth", "abs_rel"), "camera": ("rotation", "rad")}

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    supervised = config.supervision == "pose"
    self.needs = ("pixels", "camera") if supervised else ("pixels",)
    params = model_params(model, config.weights)
    readout = motion_readout.build(config.readout)
    self.learner = ReadoutLearner(model, params, readout, config.finetune)

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> State:
    """Returns the state before the first window: that of the model, and no depth."""
    watched = super().initial_state(params, batch_size, rng)
    height, width = self.model.modalities["pixels"].spec.shape[:2]
    return State(watched, self.learner.readout.initial_state(batch_size, height, width))

  def loss(
    self, params: PyTree, state: State, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the loss of a window `[W, B, ...]`, with its other results."""
    del rng
    read, after = self.read(params, jax.lax.stop_gradient(state), window)
    warped, kept = warping_loss(read, self.config)
    total = warped if self.config.supervision == "warping" else pose_loss(read, window)
    scores = {"masked@0": Score(1 - kept, {}, jnp.broadcast_to(read.valid, kept.shape))}
    scores |= self._scores(read, window)
    flat = read.motion.pose[..., :3, :]
    shown = {"camera@0": flat.reshape(*flat.shape[:2], 12)}
    shown["inverse_depth@0"] = read.motion.inverse_depth
    return total, Aux(*jax.lax.stop_gradient((after, scores, shown)))

  def read(self, params: PyTree, state: State, window: Observation) -> tuple[Window, State]:
    """Returns the predictions of a window, and the state after it."""
    own, readout = self.learner.split(params)
    features, watched = self.learner.observe(own, state.watched, window)
    starts = jnp.asarray(window.get(IS_FIRST, jnp.zeros(features.latents.shape[:2], bool)), bool)
    assert features.last is not None
    valid = flag(window, "pixels")  # without an image the motion is that of the pair before
    motion, memory = self.learner.readout.read(readout, features, starts, valid, state.memory)
    motion = motion._replace(twist=jnp.where(valid[..., None], motion.twist, 0.0))
    recording = jnp.cumsum(starts.astype(jnp.int32), axis=0)
    return Window(features.last, motion, recording, valid), State(watched, memory)

  def _scores(self, read: Window, window: Observation) -> dict[str, Score]:
    scores = {}
    if "depth" in window:
      truth = jnp.asarray(window["depth"])
      depth = 1 / read.motion.inverse_depth
      constant = {"constant": median_abs_rel(jnp.ones_like(depth), truth)}
      valid = flag(window, "depth") & read.valid & jnp.any(truth > _MIN_DEPTH_M, axis=(2, 3))
      scores["depth@0"] = Score(median_abs_rel(depth, truth), constant, valid)
    if "camera" in window:
      truth, valid = true_motions(window)
      before = jnp.concatenate([jnp.zeros_like(read.valid[:1]), read.valid[:-1]])
      valid = valid & read.valid & before
      rotation, direction, turned = motion_errors(read.motion.pose[1:], truth)
      moves = jnp.linalg.norm(truth[..., :3, 3], axis=-1) > _MIN_STEP_M
      scores["rotation@0"] = Score(_first(rotation), {"at_rest": _first(turned)}, valid)
      rest = {"at_rest": jnp.ones_like(valid, jnp.float32)}
      scores["direction@0"] = Score(_first(direction), rest, valid & (_first(moves) > 0))
    return scores


def _first(values: Array) -> Float[Array, "T B"]:
  """Returns values of ticks 1 and on, with zeros for the first."""
  return jnp.concatenate([jnp.zeros_like(values[:1]), values]).astype(jnp.float32)


# --- warping --------------------------------------------------------------------------------------


def paths(motion: Float[Array, "T B 4 4"]) -> Float[Array, "T B 4 4"]:
  """Returns poses `T_first_tick` of chained motions; that of the first tick is not used."""
  start = jnp.broadcast_to(jnp.eye(4, dtype=motion.dtype), motion.shape[1:])
  chain = lambda pose, step: (pose @ step, pose @ step)  # noqa: E731
  _, rest = jax.lax.scan(chain, start, motion[1:])
  return jnp.concatenate([start[None], rest])


def warping_loss(read: Window, config: Config) -> tuple[Float[Array, ""], Float[Array, "T B"]]:
  """Returns the photometric loss with its regulariser, and the share of pixels not masked."""
  errors = from_neighbours(read, config.neighbours, config.ssim_share)
  merge = lambda x: x.reshape(x.shape[0], -1, *x.shape[3:])  # noqa: E731
  still = merge(errors.still + _TIE) if config.auto_mask else None
  found = photometric.minimum_error(merge(errors.warped), still)
  shape = errors.warped.shape[1:]
  error, kept = found.per_pixel.reshape(shape), found.kept.reshape(shape)
  kept = kept & (error < OUTSIDE) & jnp.any(errors.valid, axis=0)[..., None, None]
  flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
  smooth = photometric.edge_aware_smoothness(flat(read.motion.inverse_depth), flat(read.frames))
  share = jnp.mean(kept.astype(jnp.float32), axis=(2, 3))
  return mean_where(error, kept) + config.smoothness * smooth, share


def from_neighbours(read: Window, distances: tuple[int, ...], ssim_share: float) -> Warped:
  """Returns the errors of every tick synthesised from the frames at some distances in ticks."""
  ticks, rows = read.frames.shape[:2]
  wanted = np.arange(ticks) + np.asarray(distances)[:, None]
  index = np.clip(wanted, 0, ticks - 1)  # [S, T]
  same = read.recording[index] == read.recording[None]
  valid = jnp.asarray(wanted == index)[..., None] & same & read.valid[None] & read.valid[index]
  path = paths(read.motion.pose)
  pose = lie.se3_inverse(path[index]) @ path[None]
  shape = (len(distances), ticks, rows)

  def flat(x: Array) -> Array:
    return jnp.broadcast_to(x, (*shape, *x.shape[3:])).reshape(-1, *x.shape[3:])

  target, source = flat(read.frames[None]), flat(read.frames[index])
  depth, camera = flat(1 / read.motion.inverse_depth[None]), flat(read.motion.intrinsics[None])
  made, landing = warps.warp_rigid(source, depth, flat(pose), camera, "edge")
  warped = photometric.photometric(made, target, ssim_share).reshape(*shape, *target.shape[1:3])
  still = photometric.photometric(source, target, ssim_share).reshape(warped.shape)
  shown = valid[..., None, None]
  inside = landing.inside.reshape(warped.shape) & shown
  return Warped(jnp.where(inside, warped, OUTSIDE), jnp.where(shown, still, OUTSIDE), valid)


# --- labels ---------------------------------------------------------------------------------------


def true_motions(window: Observation) -> tuple[Float[Array, "t B 4 4"], Bool[Array, "T B"]]:
  """Returns `T_previous_newest` of ticks 1 and on, and a mask of all ticks that have one."""
  camera = jnp.asarray(window["camera"])
  upper = camera.reshape(*camera.shape[:2], 3, 4)
  last = jnp.broadcast_to(jnp.asarray([0, 0, 0, 1], camera.dtype), (*camera.shape[:2], 1, 4))
  poses = jnp.concatenate([upper, last], axis=-2)
  known = flag(window, "camera")
  starts = jnp.asarray(window.get(IS_FIRST, jnp.zeros_like(known)), bool)
  later = known[1:] & known[:-1] & ~starts[1:]
  safe = jnp.where(known[..., None, None], poses, jnp.eye(4, dtype=camera.dtype)[None, None])
  valid = jnp.concatenate([jnp.zeros_like(known[:1]), later])
  return lie.se3_inverse(safe[:-1]) @ safe[1:], valid


def pose_loss(read: Window, window: Observation) -> Float[Array, ""]:
  """Returns the mean absolute error of twists, metres and radians alike (a step is about 0.04)."""
  truth, valid = true_motions(window)
  error = jnp.sum(jnp.abs(read.motion.twist[1:] - lie.se3_log(truth)), axis=-1)
  return mean_where(error, valid[1:] & read.valid[1:] & read.valid[:-1])


def motion_errors(
  found: Float[Array, "t B 4 4"], truth: Float[Array, "t B 4 4"]
) -> tuple[Float[Array, "t B"], Float[Array, "t B"], Float[Array, "t B"]]:
  """Returns the error of rotation in radians, that of a translation of the true length as a share of
  it, and the true rotation's angle."""
  rotation, true_rotation = found[..., :3, :3], truth[..., :3, :3]
  step, true_step = found[..., :3, 3], truth[..., :3, 3]
  length, true_length = (jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (step, true_step))
  unit = step / jnp.maximum(length, _MIN_STEP_M / 100)
  off = jnp.linalg.norm(unit * true_length - true_step, axis=-1)
  direction = off / jnp.maximum(true_length[..., 0], _MIN_STEP_M)
  identity = jnp.broadcast_to(jnp.eye(3, dtype=found.dtype), rotation.shape)
  turned = rotations.distance(identity, true_rotation)
  return rotations.distance(rotation, true_rotation), direction, turned


def median_abs_rel(
  depth: Float[Array, "T B H W"], truth: Float[Array, "T B H W"]
) -> Float[Array, "T B"]:
  """Returns AbsRel of each image after scaling by medians; see `evaluation.metrics.depth`."""
  known = truth > _MIN_DEPTH_M
  median = lambda x: jnp.nanmedian(jnp.where(known, x, jnp.nan), axis=(2, 3), keepdims=True)  # noqa: E731
  scaled = depth * median(truth) / median(depth)
  error = jnp.where(known, jnp.abs(scaled - truth) / jnp.where(known, truth, 1.0), 0.0)
  return jnp.sum(error, axis=(2, 3)) / jnp.maximum(jnp.sum(known, axis=(2, 3)), 1).astype(
    error.dtype
  )
