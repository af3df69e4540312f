"""Masked future, RVM's objective: reconstruct a future frame from a few of its patches.

The sources are a window's ticks; each target is 1 to `look_ahead` ticks after the last of them.
With a look-ahead of at most `window` no frame is a target twice, so that scores are prequential.
Scores are means over the pixels of the masked patches.
"""

from dataclasses import dataclass

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.models import rvm
from perceiver_stream.models.base import Model
from perceiver_stream.models.rvm import model as rvm_model
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.objectives.base import (
  Aux,
  Objective,
  Score,
  check_window,
  flag,
  mean_where,
)
from perceiver_stream.types import IS_FIRST, Observation


@dataclass(kw_only=True)
class Config:
  """Window, displacements and targets of masked futures; the masked share is `model.mask_ratio`.

  Attributes:
    window: Ticks between updates: the source frames.
    displacements: Ticks from the last source to a target; empty takes the model's.
    num_targets: Targets per window and row, each at a displacement drawn anew.
  """

  window: int = 8
  displacements: tuple[int, ...] = ()
  num_targets: int = 2

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("masked_future", self.window)
    if self.num_targets < 1:
      raise ValueError(f"masked_future: num_targets={self.num_targets}; use at least 1.")
    if self.displacements and min(self.displacements) < 1:
      raise ValueError(f"masked_future: displacements={self.displacements}; use 1 or more.")


class MaskedFuture(Objective):
  """Loss and scores of predicting the hidden patches of future frames."""

  name, config_type = "masked_future", Config
  needs = ("pixels",)

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    self.displacements = tuple(config.displacements or model.displacements)
    self.look_ahead = max(self.displacements)
    self.outputs = {"pixels": model.modalities["pixels"]}
    self._apply = hk.transform(self._watch).apply

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model is no RVM, a sentence; None if it is one."""
    return None if isinstance(model.config, rvm.Config) else "It is no RVM."

  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the mean squared error of the masked patches, with its other results."""
    return self._apply(params, rng, jax.lax.stop_gradient(state), window)

  def _watch(self, state: PyTree, window: Observation) -> tuple[Array, Aux]:
    config, num = self.model.config, self.config.num_targets
    network = rvm_model.RvmNetwork(config, self.outputs)
    sources = {name: value[: self.config.window] for name, value in window.items()}
    states, last = network.observe(state, sources)
    rows = window["pixels"].shape[1]
    deltas = self._draw(num * rows)
    target, valid = self._targets(window, deltas.reshape(num, rows))
    rows_, columns = config.grid()
    order = rvm.draw_orders(hk.next_rng_key(), num * rows, rows_ * columns)
    memory = jnp.tile(states.latents, (1, num, 1, 1))
    predicted = network.net.predict_frames(memory, target, order, deltas)
    hidden = rvm.mask_of(order, config.num_visible())
    guesses = {
      "model": predicted,
      "same_place": jnp.tile(last.memory["pixels"].last, (num, 1, 1, 1)),
      "visible_mean": self._visible_mean(target, hidden),
    }
    errors = {n: self._error(x, target, hidden).reshape(num, rows) for n, x in guesses.items()}
    valid = valid & last.memory["pixels"].seen[None]
    loss = mean_where(errors["model"], valid)
    found = last, self._scores(errors, valid, deltas.reshape(num, rows)), {}
    return loss, Aux(*jax.lax.stop_gradient(found))

  def _draw(self, count: int) -> Int[Array, " N"]:
    picked = jax.random.randint(hk.next_rng_key(), (count,), 0, len(self.displacements))
    return jnp.asarray(self.displacements, jnp.int32)[picked]

  def _targets(
    self, window: Observation, deltas: Int[Array, "R B"]
  ) -> tuple[Float[Array, "N H W 3"], Bool[Array, "R B"]]:
    """Returns the target frames, and the mask of those observed in the recording of their sources."""
    at = self.config.window - 1 + deltas
    row = jnp.broadcast_to(jnp.arange(deltas.shape[1])[None], deltas.shape)
    frames = self.outputs["pixels"].preprocess(window["pixels"][at, row])
    valid = flag(window, "pixels")[at, row]
    if IS_FIRST in window:
      recording = jnp.cumsum(window[IS_FIRST].astype(jnp.int32), axis=0)
      valid = valid & (recording[at, row] == recording[self.config.window - 1][None])
    return frames.reshape(-1, *frames.shape[2:]), valid

  def _patches(self, frames: Float[Array, "N H W 3"]) -> Float[Array, "N P F"]:
    cells = self.outputs["pixels"].split(frames)
    return cells.reshape(*cells.shape[:2], -1)

  def _visible_mean(
    self, target: Float[Array, "N H W 3"], hidden: Float[Array, "N P"]
  ) -> Float[Array, "N H W 3"]:
    """Returns the mean of the visible patches, everywhere."""
    patches, shown = self._patches(target), (1 - hidden)[..., None]
    mean = jnp.sum(patches * shown, axis=1) / jnp.maximum(jnp.sum(shown, axis=1), 1)
    (rows, columns), p = self.model.config.grid(), self.model.config.patch
    mean = mean.reshape(-1, p, p, 3)
    return jnp.tile(mean, (1, rows, columns, 1))

  def _error(self, guess: Array, target: Array, hidden: Array) -> Float[Array, " N"]:
    error = jnp.mean(self._patches(jnp.square(guess - target)), axis=-1)
    return jnp.sum(error * hidden, axis=1) / jnp.maximum(jnp.sum(hidden, axis=1), 1)

  def _scores(self, errors: dict[str, Array], valid: Array, deltas: Array) -> dict[str, Score]:
    baselines = {name: error for name, error in errors.items() if name != "model"}
    return {
      str(ScoreKey("pixels", d)): Score(errors["model"], baselines, valid & (deltas == d))
      for d in self.displacements
    }
