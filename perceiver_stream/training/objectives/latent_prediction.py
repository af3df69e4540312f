"""Latent prediction: the teacher's latents some ticks ahead, predicted from the student's; JEPA on a
stream.

Student and teacher observe the same ticks, each with its own recurrent state. For each displacement d
a small predictor maps the student's latents at t to the teacher's at t + d, which are normalised over
channels. Two terms of the student's latents prevent collapse: the deviation of each channel is at least
1, and channels are uncorrelated. Pairs are those of `future_prediction`: every tick is a target once per
displacement, and is predicted with parameters that were never updated on it.

Scores (`latents@d`): absolute errors of the predicted latents and, as `copy`, of the teacher's latents
of the source tick; and the numbers of `nn.losses.collapse`, of the student's latents.
"""

from dataclasses import dataclass
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models import stream_perceiver
from perceiver_stream.models.base import Model
from perceiver_stream.nn import LayerNorm, Linear, SelfBlock
from perceiver_stream.nn.losses import collapse
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.objectives.base import (
  Aux,
  Score,
  check_window,
  mean_where,
  same_recording,
)
from perceiver_stream.training.objectives.teacher import (
  MONITORED,
  Taught,
  TaughtObjective,
  collapse_scores,
  first_teacher,
  updated_teacher,
)
from perceiver_stream.types import Observation

PREDICTOR = "latent_predictor"


@dataclass(kw_only=True)
class Config:
  """Window, teacher and weights of latent prediction.

  Attributes:
    window: Ticks between updates.
    displacements: Ticks ahead; empty: the model's.
    momentum: Of the teacher.
    num_heads: Attention heads of the predictor's one block.
    variance_weight: Of the term that keeps each channel's deviation at 1.
    covariance_weight: Of the term that keeps channels uncorrelated.
    stop_gradient: If False, gradients reach the targets, and the student is its own teacher: an
      ablation, which collapses without the two terms.
    healthy_rank: See `nn.losses.collapse.alarm`.
  """

  window: int = 8
  displacements: tuple[int, ...] = ()
  momentum: float = 0.99
  num_heads: int = 4
  variance_weight: float = 1.0
  covariance_weight: float = 0.04
  stop_gradient: bool = True
  healthy_rank: float = 0.0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("latent_prediction", self.window)
    if self.displacements and min(self.displacements) < 1:
      raise ValueError(f"latent_prediction: displacements={self.displacements}; use 1 or more.")
    if not 0 <= self.momentum <= 1 or min(self.variance_weight, self.covariance_weight) < 0:
      raise ValueError(
        f"latent_prediction: momentum={self.momentum}, variance_weight={self.variance_weight}, "
        f"covariance_weight={self.covariance_weight}; use a momentum of 0 to 1, and no negative weight."
      )


class LatentPredictor(hk.Module):
  """Latents some ticks ahead: one attention block over latents, shifted by the displacement."""

  def __init__(self, num_heads: int, *, name: str = PREDICTOR):
    super().__init__(name=name)
    self.num_heads = num_heads

  def __call__(
    self, latents: Float[Array, "N L D"], displacement: Float[Array, ""]
  ) -> Float[Array, "N L D"]:
    """Returns predictions in the space of normalised latents."""
    dim = latents.shape[-1]
    x = Linear(dim, name="embed")(LayerNorm(name="norm")(latents))
    ahead = Linear(dim, name="displacement")(jnp.log(displacement)[None])
    x = x + jnp.broadcast_to(ahead[None, None], x.shape)
    x = SelfBlock(self.num_heads, mlp_dim=2 * dim, name="block")(x)
    return Linear(dim, name="project")(x)


class LatentPrediction(TaughtObjective):
  """Loss and scores of predicting the teacher's latents."""

  name, config_type = "latent_prediction", Config
  labels = {"latents": ("latents", "l1"), **MONITORED}

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    self.displacements = tuple(config.displacements or model.displacements)
    self.look_ahead = max(self.displacements)
    predict = lambda *args: LatentPredictor(config.num_heads)(*args)  # noqa: E731
    self._predictor = hk.without_apply_rng(hk.transform(predict))

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model's latents cannot be predicted, a sentence; None if they can."""
    if not isinstance(model.config, stream_perceiver.Config):
      return "It is no stream_perceiver."
    if min(model.displacements) < 1:
      return f"Its displacements are {model.displacements}."
    return None

  def init_params(self, rng: Array, observation: Observation) -> PyTree:
    """Returns the parameters of the model and of the predictor."""
    one, two = jax.random.split(rng)
    params = self.model.init(one, observation)
    state = jax.eval_shape(lambda p: self.model.initial_state(p, 1), params)
    shape = jax.eval_shape(self.model.latents, params, state).shape
    return {**params, **self._predictor.init(two, jnp.zeros(shape), jnp.float32(1.0))}

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> Taught:
    """Returns the teacher, a copy of the model, and two recurrent states."""
    model, _ = self.split(params)
    first = lambda: self.model.initial_state(model, batch_size, rng)  # noqa: E731
    return Taught(first_teacher(model), jnp.zeros((), jnp.int32), first(), first())

  def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the parameters of the model, and those of the predictor."""
    model = {name: x for name, x in params.items() if name.split("/")[0] != PREDICTOR}
    return model, {name: x for name, x in params.items() if name not in model}

  def loss(
    self, params: PyTree, state: Taught, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the mean error of predicted latents plus the terms against collapse."""
    del rng
    c = self.config
    model, predictor = self.split(params)
    teacher = updated_teacher(state, model, jnp.float32(c.momentum)) if c.stop_gradient else model
    latents, student_after = self._observed(model, state.student_state, window)
    wanted, teacher_after = self._observed(teacher, state.teacher_state, window)
    wanted = _normed(jax.lax.stop_gradient(wanted) if c.stop_gradient else wanted)
    losses, scores = [], {}
    for displacement in self.displacements:
      error, score = self._at(predictor, latents, wanted, window, displacement)
      losses.append(error)
      scores[str(ScoreKey("latents", displacement))] = score
    tokens = latents[-c.window :].reshape(-1, latents.shape[-1])
    spread = collapse.variance_loss(tokens), collapse.covariance_loss(tokens)
    total = jnp.mean(jnp.stack(losses))
    total = total + c.variance_weight * spread[0] + c.covariance_weight * spread[1]
    valid = next(iter(scores.values())).valid
    rows = jnp.moveaxis(latents[-c.window :], 1, 0)
    rows = rows.reshape(rows.shape[0], -1, rows.shape[-1])
    scores |= collapse_scores(rows, jnp.ones(len(rows), bool), valid, c.healthy_rank)
    after = Taught(teacher, state.windows + 1, student_after, teacher_after)
    return total, Aux(*jax.lax.stop_gradient((after, scores, {})))

  def _observed(
    self, params: PyTree, state: Any, window: Observation
  ) -> tuple[Float[Array, "W B L D"], Any]:
    """Returns the latents after each tick, and the state where the next window starts."""
    states, _ = self.model.observe(params, jax.lax.stop_gradient(state), window)
    latents = self.model.latents(params, states)
    return latents, jax.tree.map(lambda x: x[self.config.window - 1], states)

  def _at(
    self, predictor: PyTree, latents: Array, wanted: Array, window: Observation, displacement: int
  ) -> tuple[Float[Array, ""], Score]:
    """Returns loss and score at one displacement."""
    num, last = self.config.window, latents.shape[0]
    source = slice(last - num - displacement, last - displacement)
    flat = latents[source].reshape(-1, *latents.shape[2:])
    found = self._predictor.apply(predictor, flat, jnp.float32(displacement))
    target, copy = wanted[-num:], wanted[source]
    error = _errors(found.reshape(target.shape), target)
    valid: Bool[Array, "K B"] = same_recording(window, displacement, num)
    return mean_where(error, valid), Score(error, {"copy": _errors(copy, target)}, valid)


def _errors(one: Array, other: Array) -> Float[Array, "K B"]:
  return jnp.mean(jnp.abs(one - other), axis=(-2, -1))


def _normed(latents: Float[Array, "W B L D"]) -> Float[Array, "W B L D"]:
  """Returns latents of mean 0 and variance 1 over channels."""
  mean = jnp.mean(latents, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(latents - mean), axis=-1, keepdims=True)
  return (latents - mean) * jax.lax.rsqrt(variance + 1e-5)
