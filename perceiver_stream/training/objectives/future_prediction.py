"""Future prediction: the loss of the online loop, and prequential scores.

A window has W = window + longest displacement ticks, and the next one starts `window` ticks later. For
each displacement d the pairs (t, t + d) whose target is in the last `window` ticks are used. So every
tick is the target of one prediction per displacement, exactly once, and that prediction is scored
with parameters that were never updated on this tick as a target.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.modalities import Modality
from perceiver_stream.models.base import Model
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.objectives.base import (
  Aux,
  Objective,
  Score,
  check_window,
  flag,
  known,
  mean_where,
  reconstructs_motion,
  same_recording,
)
from perceiver_stream.types import Observation, valid_key


@dataclass(kw_only=True)
class Config:
  """Window and weights of future prediction.

  Attributes:
    window: Ticks between updates; gradients reach back through window + longest displacement.
    displacement_weights: Weight of each of the model's displacements; empty is equal weights.
    relative: If True, each loss is divided by that of copying in the same window, so that static
      and moving footage, short and long displacements, images and sound have similar weight.
    relative_floor: Added to both losses before the division.
    remat_decode: If True, decoding is recomputed in the backward pass instead of stored.
  """

  window: int = 8
  displacement_weights: tuple[float, ...] = ()
  relative: bool = True
  relative_floor: float = 1e-5
  remat_decode: bool = False

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("objective", self.window)


class FuturePrediction(Objective):
  """Loss and scores of predicting every output modality at every displacement of a model."""

  name, config_type = "future_prediction", Config
  labels = {"flow_backward": ("pixels_flow", "epe")}  # only for a score; flow has no labels

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    self.displacements = model.displacements
    self.outputs = {n: m for n, m in model.modalities.items() if m.config.use_output}
    self.look_ahead = max(self.displacements)
    self.baseline_displacements = self.displacements
    weights = config.displacement_weights or (1.0,) * len(self.displacements)
    if len(weights) != len(self.displacements):
      raise ValueError(
        f"objective: {len(weights)} displacement_weights {weights} for the displacements "
        f"{self.displacements}; give one each."
      )
    # Displacements at which decoded flow is that of one tick, and scored as such.
    self.judged = (0, 1) if reconstructs_motion(model) else (1,)
    self.weights = dict(zip(self.displacements, weights, strict=True))

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model predicts no future, a sentence; None if it does."""
    if not any(m.config.use_output for m in model.modalities.values()):
      return "It predicts nothing."
    if max(model.displacements) < 1:
      return f"It predicts no future: its displacements are {model.displacements}."
    return None

  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the mean relative loss of one window, with its other results.

    Args:
      params: Of the model.
      state: Before the first tick of the window; no gradient flows into it.
      window: Arrays `[W, B, ...]`; see `types.Observation`.
      rng: Not used by this objective.

    Raises:
      ValueError: The window is not `num_ticks` long.
    """
    del rng
    ticks = next(iter(window.values())).shape[0]
    if ticks != self.num_ticks:
      context = self.look_ahead - max(self.displacements)
      raise ValueError(
        f"{type(self).__name__}: the window has {ticks} ticks, expected {self.num_ticks} = window "
        f"{self.config.window} + longest displacement {max(self.displacements)}{f' + context {context}' if context else ''}."
      )
    sources, next_state = self.sources(params, state, window)
    total, scores, predictions = jnp.float32(0.0), {}, {}
    for displacement in self.displacements:
      losses, more_scores, more = self._at(params, sources[displacement], window, displacement)
      total = total + self.weights[displacement] * losses
      scores |= more_scores
      predictions |= more
    total = total / (sum(self.weights.values()) * max(1, len(self.outputs)))
    return total, Aux(jax.lax.stop_gradient(next_state), scores, predictions)

  def sources(
    self, params: PyTree, state: PyTree, window: Observation
  ) -> tuple[dict[int, PyTree], PyTree]:
    """Returns the states `[window, B, ...]` after the sources of each displacement, and the next state."""
    num, last = self.config.window, self.num_ticks
    states, _ = self.model.observe(params, jax.lax.stop_gradient(state), window)
    found = {
      d: jax.tree.map(lambda x, d=d: x[last - num - d : last - d], states)
      for d in self.displacements
    }
    return found, jax.tree.map(lambda x: x[num - 1], states)

  def _at(
    self, params: PyTree, source: PyTree, window: Observation, displacement: int
  ) -> tuple[Array, dict[str, Score], dict[str, Array]]:
    """Returns the loss, scores and predictions at one displacement, from the states after its sources."""
    num, last = self.config.window, self.num_ticks
    rows = jax.tree.leaves(source)[0].shape[1]
    flat = jax.tree.map(lambda x: x.reshape(num * rows, *x.shape[2:]), source)
    predict = lambda p, s: self.model.predict(p, s, (displacement,))  # noqa: E731
    predict = jax.checkpoint(predict) if self.config.remat_decode else predict
    predicted = {name: value[:, 0] for name, value in predict(params, flat).items()}
    same = same_recording(window, displacement, num)
    total, scores = jnp.float32(0.0), {}
    for name, modality in self.outputs.items():
      if name not in window:
        continue
      raw = window[name][-num:]
      target = modality.target(modality.preprocess(raw.reshape(num * rows, *raw.shape[2:])))
      memory = flat.memory[name]
      valid = window.get(valid_key(name), jnp.ones((last, rows), bool))[-num:]
      valid = (valid & same).reshape(-1) & memory.seen
      copy = modality.copy(modality.newest(memory, displacement))
      loss, score = self._compare(modality, predicted[name], copy, target, valid)
      total = total + modality.config.loss_weight * loss
      scores[str(ScoreKey(name, displacement))] = jax.tree.map(
        lambda x: x.reshape(num, rows), score
      )
    if (
      displacement in self.judged
      and {"flow_backward"} <= set(window)
      and "pixels_flow" in predicted
    ):
      judged = same & flag(window, "flow_backward")[-num:]
      flow = predicted["pixels_flow"].reshape(window["flow_backward"][-num:].shape)
      scores[str(ScoreKey("pixels_flow", displacement))] = judge_flow(
        flow, window["flow_backward"][-num:], judged
      )
    shaped = {
      str(ScoreKey(name, displacement)): value.reshape(num, rows, *value.shape[1:])
      for name, value in predicted.items()
    }
    return total, scores, jax.lax.stop_gradient(shaped)

  def _compare(
    self,
    modality: Modality,
    prediction: Array,
    copy: Array,
    target: Array,
    valid: Bool[Array, " N"],
  ) -> tuple[Array, Score]:
    target = known(target, valid)
    losses = modality.loss(prediction, target)
    if self.config.relative:
      base = jax.lax.stop_gradient(modality.loss(copy, target))
      floor = self.config.relative_floor
      losses = jnp.log(losses + floor) - jnp.log(base + floor)
    loss = mean_where(losses, valid)
    baselines = {"copy": modality.metric(copy, target)}
    score = Score(modality.metric(prediction, target), baselines, valid)
    return loss, jax.lax.stop_gradient(score)


def judge_flow(
  flow: Float[Array, "K B H W 2"], truth: Float[Array, "K B H W 2"], valid: Bool[Array, "K B"]
) -> Score:
  """Returns end-point errors of flow that was learned without labels, with those of zero flow."""
  epe = lambda error: jnp.mean(jnp.linalg.norm(error, axis=-1), axis=(2, 3))  # noqa: E731
  return jax.lax.stop_gradient(Score(epe(flow - truth), {"zero_flow": epe(truth)}, valid))
