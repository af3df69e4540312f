"""Segmentation of rooms from depth alone, learned from synthetic depth alone.

Source: SceneNet (Handa et al. 2016, 1511.07041), which trains an encoder-decoder on rendered depth
with sensor noise, encoded as DHA, and tests it on real sensors. Differs: rooms of `streams.rooms`, the
UNet of `execution.nets`, seven classes, frames of 48 × 64.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from perceiver_stream import streams
from perceiver_stream.evaluation.metrics import miou
from perceiver_stream.execution.nets import unet
from perceiver_stream.modalities import dha
from perceiver_stream.nn import patchify, unpatchify
from perceiver_stream.streams import rooms

INPUTS = {"d": (0,), "dha": (0, 1, 2)}  # channels of DHA
GROUPS = np.asarray([0, 1, 2, 3, 3, 3, 3])  # of `rooms.CLASSES`: floor, ceiling, wall, object
GROUP_NAMES = ("floor", "ceiling", "wall", "object")
UNKNOWN = -1  # pixels without a label
_VIEWS = 8  # of a room
_VIEW_S = 2.0  # between them


class Scenes(NamedTuple):
  """Labelled depth.

  Attributes:
    dha: Depth in m, height in m and angle in degrees, 0 where missing.
    labels: Indices in `rooms.CLASSES`, or of the groups of another world; `UNKNOWN` does not count.
  """

  dha: Float[np.ndarray, "N H W 3"]
  labels: Int[np.ndarray, "N H W"]


def sample(
  count: int, *, height: int = 48, width: int = 64, sensor: str = "", seed: int = 0
) -> Scenes:
  """Returns views of sampled rooms, eight of each.

  Args:
    count: Number of views.
    height: Rows.
    width: Columns.
    sensor: "" for exact depth, or a key of `depth_sensor.SENSORS`.
    seed: Of the rooms; equal seeds give equal rooms for every sensor.
  """
  config = rooms.Config(
    height=height,
    width=width,
    level="hard",
    rate_hz=1 / _VIEW_S,
    ticks_per_recording=_VIEWS,
    modalities=("dha", "segmentation"),
    sensor=sensor,
    max_ticks=count,
    seed=seed,
  )
  ticks = list(streams.open_rows(config)[0])
  return Scenes(*(np.stack([tick[name] for tick in ticks]) for name in config.modalities))


@dataclass(kw_only=True, frozen=True)
class Config:
  """A segmenter and its training.

  Attributes:
    inputs: "d", depth alone, or "dha"; a channel of known pixels is added.
    patch: Side in pixels of a cell of the UNet's first level.
    channels: Of the UNet's levels, from the first down.
    steps: Of training.
    batch: Frames of a step.
    learning_rate: At its highest, of AdamW with a cosine.
    seed: Of parameters and of the order of frames.
  """

  inputs: str = "dha"
  patch: int = 2
  channels: tuple[int, ...] = (24, 48, 96)
  steps: int = 800
  batch: int = 16
  learning_rate: float = 4e-3
  seed: int = 0

  def __post_init__(self):
    if self.inputs not in INPUTS:
      raise ValueError(
        f"depth_segmentation: inputs={self.inputs!r} is not one of {sorted(INPUTS)}."
      )


class Segmenter(NamedTuple):
  """A trained segmenter.

  Attributes:
    config: Of its training.
    params: Of its network.
  """

  config: Config
  params: PyTree


def encode(channels: Float[Array, "N H W 3"], inputs: str) -> Float[Array, "N H W C"]:
  """Returns a network's input: scaled channels, and 1 where depth is known."""
  height, width = channels.shape[1:3]
  modality = dha.Dha("dha", dha.Config(height=height, width=width, patch=1))
  known = (channels[..., :1] > 0).astype(jnp.float32)
  picked = modality.preprocess(channels)[..., np.asarray(INPUTS[inputs])]
  return jnp.concatenate([picked, known], axis=-1)


def _logits(config: Config, channels: Float[Array, "N H W 3"]) -> Float[Array, "N H W K"]:
  """Returns the logits of every pixel; call it inside a Haiku transform."""
  size = config.patch**2 * len(rooms.CLASSES)
  net = unet.Config(channels=config.channels, output_dim=size)
  return unpatchify(
    unet.unet(net, patchify(encode(channels, config.inputs), config.patch)), config.patch
  )


class _Programs(NamedTuple):
  """Compiled functions, shared by all seeds: of a key, of parameters and a batch."""

  init: Callable
  step: Callable
  classes: Callable


@functools.cache
def _programs(config: Config) -> _Programs:
  network = hk.without_apply_rng(hk.transform(functools.partial(_logits, config)))
  schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps)
  optimizer = optax.adamw(schedule, weight_decay=1e-4)

  def init(key: Array, channels: Array) -> tuple[PyTree, PyTree]:
    params = network.init(key, channels)
    return params, optimizer.init(params)

  def step(learner: tuple[PyTree, PyTree], channels: Array, labels: Array, weights: Array) -> Any:
    params, state = learner
    grads = jax.grad(lambda p: loss(network.apply(p, channels), labels, weights))(params)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes counts with rates
      updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  def classes(params: PyTree, channels: Array) -> Array:
    return jnp.argmax(network.apply(params, channels), axis=-1)

  return _Programs(jax.jit(init), jax.jit(step, donate_argnums=0), jax.jit(classes))


def class_weights(labels: Int[np.ndarray, "N H W"]) -> Float[np.ndarray, " K"]:
  """Returns weights of classes, one over the root of their share, with mean 1 over pixels."""
  counts = np.bincount(labels[labels >= 0], minlength=len(rooms.CLASSES))
  share = np.maximum(counts / counts.sum(), 1e-4)
  weights = 1 / np.sqrt(share)
  return (weights / np.sum(weights * share)).astype(np.float32)


def loss(
  logits: Float[Array, "N H W K"], labels: Int[Array, "N H W"], weights: Float[Array, " K"]
) -> Float[Array, ""]:
  """Returns the weighted mean cross-entropy of labelled pixels."""
  known = labels >= 0
  chosen = jnp.where(known, labels, 0)
  nats = optax.softmax_cross_entropy_with_integer_labels(logits, chosen)
  weight = jnp.where(known, weights[chosen], 0.0)
  return jnp.sum(weight * nats) / jnp.maximum(jnp.sum(weight), 1e-6)


def train(scenes: Scenes, config: Config) -> Segmenter:
  """Returns a segmenter trained on labelled depth; half of the batches are mirrored."""
  programs = _programs(replace(config, seed=0))
  learner = programs.init(jax.random.key(config.seed), jnp.asarray(scenes.dha[:1]))
  weights = jnp.asarray(class_weights(scenes.labels))
  rng = np.random.default_rng(config.seed)
  for _ in range(config.steps):
    picked = rng.integers(len(scenes.dha), size=config.batch)
    channels, labels = scenes.dha[picked], scenes.labels[picked]
    if rng.uniform() < 0.5:
      channels, labels = channels[:, :, ::-1], labels[:, :, ::-1]
    learner = programs.step(learner, channels, labels, weights)
  return Segmenter(config, learner[0])


def predict(
  segmenter: Segmenter, channels: Float[np.ndarray, "N H W 3"], batch: int = 32
) -> Int[np.ndarray, "N H W"]:
  """Returns the class of every pixel; also where depth is missing."""
  classes, found = _programs(replace(segmenter.config, seed=0)).classes, []
  for start in range(0, len(channels), batch):
    piece = channels[start : start + batch]
    padded = np.concatenate([piece, np.zeros((batch - len(piece), *piece.shape[1:]), piece.dtype)])
    found.append(np.asarray(classes(segmenter.params, padded))[: len(piece)])
  return np.concatenate(found)


def rule(channels: Float[np.ndarray, "N H W 3"]) -> Int[np.ndarray, "N H W"]:
  """Returns groups by thresholds alone: low and level, upright, facing down, or else an object."""
  _, height, angle = np.moveaxis(channels, -1, 0)
  found = np.full(height.shape, GROUP_NAMES.index("object"))
  found[(angle > 70) & (angle < 110)] = GROUP_NAMES.index("wall")
  found[angle > 160] = GROUP_NAMES.index("ceiling")
  found[(height < 0.05) & (angle < 20)] = GROUP_NAMES.index("floor")
  return found


def score(
  truth: Int[np.ndarray, "N H W"], found: Int[np.ndarray, "N H W"], num_classes: int
) -> Float[np.ndarray, " K"]:
  """Returns the intersection over union of each class; NaN of classes that do not occur."""
  matrix = miou.confusion(truth, found, num_classes)
  return np.where(matrix.sum(axis=1) > 0, miou.iou_per_class(matrix), np.nan)
