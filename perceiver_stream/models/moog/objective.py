"""Next frame, MooG's objective: each frame is decoded from the state predicted before it.

That state has no information from the frame, so windows need no look-ahead, and every prediction is
prequential. The loss is that of the released code, on sampled pixels; scores
and images are of whole frames.
"""

from dataclasses import dataclass

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.models import moog
from perceiver_stream.models.base import Model
from perceiver_stream.models.moog import model as moog_model
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.objectives.base import Aux, Objective, Score, check_window, flag
from perceiver_stream.types import IS_FIRST, Observation


@dataclass(kw_only=True)
class Config:
  """Window of next-frame prediction; the number of sampled pixels is `model.sample`.

  Attributes:
    window: Ticks between updates, as far as gradients reach back.
    detach_prob: Probability, per row and tick, that the gradient into the past is cut.
    score_ticks: Ticks of a window, its last ones, that are decoded completely and scored; 0 is all.
  """

  window: int = 8
  detach_prob: float = 0.0
  score_ticks: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("next_frame", self.window)
    if not 0 <= self.detach_prob <= 1:
      raise ValueError(f"next_frame: detach_prob={self.detach_prob} is not in [0, 1].")
    if not 0 <= self.score_ticks <= self.window:
      raise ValueError(
        f"next_frame: score_ticks={self.score_ticks}; use 0 (all) to window={self.window}."
      )


class NextFrame(Objective):
  """Loss and scores of predicting the next frame."""

  name, config_type = "next_frame", Config
  needs = ("pixels",)
  baseline_displacements = (1,)

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    self.outputs = {"pixels": model.modalities["pixels"]}
    self._apply = hk.transform(self._watch).apply

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model is not a MooG with a decoder, a sentence; None if it is one."""
    if not isinstance(model.config, moog.Config):
      return "It is no MooG."
    return None if model.config.decoder else "This MooG has no decoder (config.decoder is None)."

  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the mean squared error of the sampled pixels, with its other results."""
    return self._apply(params, rng, jax.lax.stop_gradient(state), window)

  def _watch(self, state: PyTree, window: Observation) -> tuple[Array, Aux]:
    network = moog_model.MoogNetwork(self.model.config, self.outputs)
    loss, steps, states = moog_model.sampled_loss(network, state, window, self.config.detach_prob)
    num = self.config.score_ticks or self.config.window
    latents = jax.lax.stop_gradient(steps.predicted[-num:])
    flat = latents.reshape(-1, *latents.shape[2:])
    predicted = network.picture(flat).reshape(*latents.shape[:2], *window["pixels"].shape[2:])
    next_state = jax.tree.map(lambda x: x[-1], states)
    score = self._score(predicted, state, states, window)
    key = str(ScoreKey("pixels", 1))
    found = next_state, {key: score}, {key: predicted}
    return loss, Aux(*jax.lax.stop_gradient(found))

  def _score(self, predicted: Array, state: PyTree, states: PyTree, window: Observation) -> Score:
    num, rows = predicted.shape[:2]
    before, after = state.memory["pixels"], states.memory["pixels"]
    shift = lambda old, new: jnp.concatenate([old[None], new[:-1]])[-num:]  # noqa: E731
    copy, observed = shift(before.last, after.last), shift(before.seen, after.seen)
    first = window.get(IS_FIRST, jnp.zeros((num, rows), bool))[-num:]
    valid = flag(window, "pixels")[-num:] & observed & ~jnp.asarray(first, bool)
    error = lambda x: jnp.mean(jnp.square(x - after.last[-num:]), axis=(2, 3, 4))  # noqa: E731
    return Score(error(predicted), {"copy": error(copy)}, valid)
