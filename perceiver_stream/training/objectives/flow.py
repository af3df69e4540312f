"""Supervised optical flow from each frame to the next, Perceiver IO's objective.

The network reads frames t and t + 1; the target is the stream's forward flow at t. The
loss is the mean end-point error of the pixels whose flow is known (finite), in the units of the flow
modality. Windows look one tick ahead, for the second frame of the last pair.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models.base import Model
from perceiver_stream.models.perceiver_io import flow as perceiver_flow
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.objectives.base import (
  Aux,
  Objective,
  Score,
  check_window,
  flag,
  mean_where,
  same_recording,
)
from perceiver_stream.types import Observation


@dataclass(kw_only=True)
class Config:
  """Window of supervised optical flow.

  Attributes:
    window: Ticks between updates: pairs of frames in a batch.
  """

  window: int = 8

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("flow", self.window)


class Flow(Objective):
  """Loss and scores of supervised optical flow; `flow@0` is from the frame before to the newest."""

  name, config_type = "flow", Config
  look_ahead = 1
  needs = ("pixels", "flow")

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    self.outputs = {"flow": model.modalities["flow"]}

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model is no Perceiver IO for flow, a sentence; None if it is one."""
    fits = isinstance(model.config, perceiver_flow.Config)
    return None if fits else "It is no Perceiver IO for flow."

  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the mean end-point error of one window, with its other results."""
    del rng
    frames = {name: value for name, value in window.items() if not name.startswith("flow")}
    states, _ = self.model.observe(params, jax.lax.stop_gradient(state), frames)
    merge = lambda x: x[1:].reshape(-1, *x.shape[2:])  # noqa: E731
    predicted = self.model.predict(params, jax.tree.map(merge, states), (0,))["flow"][:, 0]
    predicted = predicted.reshape(window["flow"][1:].shape)
    target, known = window["flow"][:-1], jnp.all(jnp.isfinite(window["flow"][:-1]), axis=-1)
    target = self.outputs["flow"].preprocess(target)
    observed = flag(window, "pixels")
    valid = flag(window, "flow")[:-1] & observed[:-1] & observed[1:]
    valid = valid & same_recording(window, 1, self.config.window) & jnp.any(known, axis=(2, 3))
    error = _end_point_error(predicted, target, known)
    scale = self.outputs["flow"].config.scale
    baselines = {"zero_flow": scale * _end_point_error(jnp.zeros_like(target), target, known)}
    score = Score(scale * error, baselines, valid)
    next_state = jax.tree.map(lambda x: x[self.config.window - 1], states)
    found = next_state, {str(ScoreKey("flow", 0)): score}, {}
    return mean_where(error, valid), Aux(*jax.lax.stop_gradient(found))


def _end_point_error(
  flow: Float[Array, "K B H W 2"], target: Float[Array, "K B H W 2"], known: Bool[Array, "K B H W"]
) -> Float[Array, "K B"]:
  """Returns the mean distance over the known pixels, smooth at zero."""
  distance = jnp.sqrt(jnp.sum(jnp.square(flow - target), axis=-1) + 1e-12)
  count = jnp.maximum(jnp.sum(known.astype(jnp.float32), axis=(2, 3)), 1.0)
  return jnp.sum(jnp.where(known, distance, 0.0), axis=(2, 3)) / count
