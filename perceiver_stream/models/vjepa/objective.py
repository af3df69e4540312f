"""V-JEPA's objective: predict the teacher's features of hidden tubelets from the visible ones.

The newest frames of each window are a clip. Masks are drawn on the device; all shapes are static: the
encoder attends only to visible tubelets. A clip that spans two recordings, or lacks a frame, does not
count. Scores: the error of predicted features beside that of their mean (`features@0`), and numbers
that show a collapse, of the teacher's features of valid clips before the target's norm. The teacher
follows the student; its features cost nothing more, those of whole clips by the student would.
"""

from dataclasses import dataclass

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models.base import Model
from perceiver_stream.models.vjepa.masks import draw_masks, largest_block
from perceiver_stream.models.vjepa.network import Encoder, Predictor
from perceiver_stream.models.vjepa.streaming import NAME, StreamConfig, normalised
from perceiver_stream.models.vjepa.targets import feature_loss, target_features
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.objectives.base import (
  Aux,
  Score,
  check_window,
  flag,
  mean_where,
)
from perceiver_stream.training.objectives.teacher import (
  MONITORED,
  Taught,
  TaughtObjective,
  collapse_scores,
  first_teacher,
  momentum_at,
  updated_teacher,
)
from perceiver_stream.types import IS_FIRST, Observation


@dataclass(kw_only=True)
class Config:
  """Window, teacher and loss of V-JEPA.

  Attributes:
    window: Ticks between updates.
    stride: Ticks from one frame of the clip to the next; 4 in the release.
    exponent: Of the absolute difference of features; 1 as released.
    momentum: Of the teacher, at the start.
    final_momentum: At the end.
    momentum_windows: Windows in which it rises; 0 keeps it constant, as version 2 (0.99925).
    stop_gradient: If False, gradients reach the targets, and the student is its own teacher: an
      ablation that collapses.
    healthy_rank: Effective rank of a healthy run, for the alarm of partial collapse; 0: not tested.
  """

  window: int = 8
  stride: int = 1
  exponent: float = 1.0
  momentum: float = 0.998
  final_momentum: float = 1.0
  momentum_windows: int = 0
  stop_gradient: bool = True
  healthy_rank: float = 0.0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("vjepa", self.window)
    if self.stride < 1 or self.exponent <= 0 or self.momentum_windows < 0:
      raise ValueError(
        f"vjepa: stride={self.stride}, exponent={self.exponent}, momentum_windows="
        f"{self.momentum_windows}; use at least 1, more than 0, and at least 0."
      )
    if not (0 <= self.momentum <= 1 and 0 <= self.final_momentum <= 1):
      raise ValueError(
        f"vjepa: momentum={self.momentum}, final_momentum={self.final_momentum}; use 0 to 1."
      )


class FeaturePrediction(TaughtObjective):
  """Loss and scores of predicting features of hidden tubelets."""

  name, config_type = "vjepa", Config
  needs = ("pixels",)
  labels = {"features": ("features", "l1"), **MONITORED}

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    sizes = model.config
    self.look_ahead = max(0, (sizes.num_frames - 1) * config.stride + 1 - config.window)
    encode = lambda clips, visible=None: Encoder(sizes, name=NAME)(clips, visible=visible)  # noqa: E731
    predict = lambda *args: Predictor(sizes).dense(*args)  # noqa: E731
    self._encode, self._predict = (hk.without_apply_rng(hk.transform(f)) for f in (encode, predict))

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model is no V-JEPA, a sentence; None if it is one."""
    if not isinstance(model.config, StreamConfig):
      return "It is no V-JEPA."
    for i, masks in enumerate(model.config.masks):
      if 0 in largest_block(masks, model.config.grid):
        return (
          f"The blocks of masks[{i}] are empty: spatial_scale={masks.spatial_scale} of a grid of "
          f"{model.config.grid}; use a larger share, smaller patches or larger frames."
        )
    return None

  def init_params(self, rng: Array, observation: Observation) -> PyTree:
    """Returns the parameters of encoder and predictor."""
    one, two = jax.random.split(rng)
    c = self.model.config
    num = c.grid[0] * c.grid[1] * c.grid[2]
    mask = jnp.ones((1, num), bool)
    predictor = self._predict.init(two, jnp.zeros((1, num, c.dim)), mask, mask, 0)
    return {**self.model.init(one, observation), **predictor}

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> Taught:
    """Returns the teacher, a copy of the encoder."""
    del batch_size, rng
    return Taught(first_teacher(split(params)[0]), jnp.zeros((), jnp.int32))

  def loss(
    self, params: PyTree, state: Taught, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the mean error of predicted features over the sets of masks, with its other results."""
    if rng is None:
      raise ValueError("vjepa: masks are random; give a key as rng.")
    c, sizes = self.config, self.model.config
    encoder, _ = split(params)
    momentum = momentum_at(state.windows, c.momentum, c.final_momentum, c.momentum_windows)
    teacher = updated_teacher(state, encoder, momentum)
    clips, valid = self._clips(window)
    every = self._encode.apply(teacher if c.stop_gradient else encoder, clips)
    target = target_features(every)
    target = jax.lax.stop_gradient(target) if c.stop_gradient else target
    seen, hidden = self._masks(rng, clips.shape[0])
    predicted = self._predict_hidden(params, clips, seen, hidden)
    losses, errors, flat = [], [], []
    for i in range(len(sizes.masks)):
      counted = hidden[i] & valid[:, None]
      losses.append(feature_loss(predicted[i], target, counted, exponent=c.exponent))
      errors.append(_row_errors(predicted[i], target, hidden[i]))
      flat.append(_row_errors(_row_means(target), target, hidden[i]))
    scores = {str(ScoreKey("features", 0)): _score(errors, flat, valid)}
    scores |= collapse_scores(every, valid, valid[None], c.healthy_rank)
    after = Taught(teacher, state.windows + 1)
    return jnp.mean(jnp.stack(losses)), Aux(*jax.lax.stop_gradient((after, scores, {})))

  def _masks(self, rng: Array, rows: int) -> tuple[Bool[Array, "M B N"], Bool[Array, "M B N"]]:
    """Returns visible and hidden tubelets for each set of masks."""
    sizes = self.model.config
    found = [
      draw_masks(jax.random.fold_in(rng, i), masks, sizes.grid, rows)
      for i, masks in enumerate(sizes.masks)
    ]
    seen, hidden = (jnp.stack(x) for x in zip(*found, strict=True))
    return seen, hidden

  def _predict_hidden(
    self, params: PyTree, clips: Array, seen: Bool[Array, "M B N"], hidden: Bool[Array, "M B N"]
  ) -> Float[Array, "M B N D"]:
    """Returns the predictions under all sets of masks, as one batch."""
    encoder, predictor = split(params)
    num = seen.shape[0]
    flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    features = self._encode.apply(encoder, jnp.concatenate([clips] * num), flat(seen))
    tokens = jnp.repeat(jnp.arange(num), clips.shape[0])
    found = self._predict.apply(predictor, features, flat(seen), flat(hidden), tokens)
    return found.reshape(num, -1, *found.shape[1:])

  def _clips(self, window: Observation) -> tuple[Float[Array, "B T H W 3"], Bool[Array, " B"]]:
    """Returns the newest clip of each row, normalised, and whether it is whole."""
    c, sizes = self.config, self.model.config
    span = (sizes.num_frames - 1) * c.stride + 1
    frames = window["pixels"][-span :: c.stride]
    frames = self.model.modalities["pixels"].preprocess(frames)
    valid = jnp.all(flag(window, "pixels")[-span :: c.stride], axis=0)
    if IS_FIRST in window:
      valid = valid & ~jnp.any(
        jnp.asarray(window[IS_FIRST], bool)[window["pixels"].shape[0] - span + 1 :], axis=0
      )
    frames = jnp.where(valid[None, :, None, None, None], frames, jnp.zeros_like(frames))
    return jnp.moveaxis(normalised(sizes, frames), 0, 1), valid


def split(params: PyTree) -> tuple[PyTree, PyTree]:
  """Returns the parameters of the encoder, and those of the predictor."""
  ours = {name: x for name, x in params.items() if name.split("/")[0] == NAME}
  return ours, {name: x for name, x in params.items() if name not in ours}


def _row_errors(predicted: Array, target: Array, hidden: Bool[Array, "B N"]) -> Float[Array, " B"]:
  error = jnp.mean(jnp.abs(predicted - target), axis=-1)
  return jax.vmap(mean_where)(error, hidden)


def _row_means(target: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
  return jnp.broadcast_to(jnp.mean(target, axis=1, keepdims=True), target.shape)


def _score(errors: list[Array], flat: list[Array], valid: Bool[Array, " B"]) -> Score:
  model, mean = (jnp.mean(jnp.stack(x), axis=0)[None] for x in (errors, flat))
  return Score(model, {"mean_feature": mean}, valid[None])
