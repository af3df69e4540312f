"""The loss of a batch of clips, as an `Objective` of the trainer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.lab.learners import Learner, Prediction
from perceiver_stream.lab.masking import Masking, mask_inputs, raw_inputs
from perceiver_stream.nn import roughness
from perceiver_stream.training.objectives import Aux, Objective
from perceiver_stream.types import Observation

PICTURES = "pictures@0"  # key of the predictions


class Batch(NamedTuple):
  """A batch of clips; images in [0, 1]."""

  frames: Float[Array, "T B H W 3"]
  pictures: Float[Array, "T B H W 3"]
  counts: Bool[Array, "T B"]
  is_first: Bool[Array, "T B"]


class ClipPrediction(Objective):
  """Mean squared error of the images predicted for a batch of clips.

  Its windows are those of `Batch`, by name. Row 0 is the new clip of the stream, the other rows are
  replayed: state and predictions are those of row 0. Scores are left to the task, which adds up sums.
  """

  def __init__(
    self, learner: Learner, masking: Masking, *, carry: bool, hints: bool, smoothness: float
  ):
    """Keeps the fields of `running.Program`; there is neither model nor config of the zoo."""
    self.learner, self.masking = learner, masking
    self.carry, self.hints, self.smoothness = carry, hints, smoothness

  def init_params(self, rng: Array, observation: Observation) -> PyTree:
    """Returns the learner's parameters, for one batch of clips."""
    frames = raw_inputs(observation["frames"], self.hints)
    return self.learner.init(rng, frames, observation["is_first"])

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> PyTree:
    """Returns the learner's state before a clip."""
    del rng
    return self.learner.initial_state(params, batch_size)

  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the loss of a batch, with state and predictions of its new clip.

    Raises:
      ValueError: The loss needs flow, and the learner predicts none.
    """
    assert rng is not None
    batch = Batch(**window)
    before = self.initial_state(params, batch.frames.shape[1])
    if self.carry:
      before = jax.tree.map(lambda a, b: a.at[:1].set(b), before, state)
    inputs, weight = mask_inputs(self.masking, batch.frames, batch.pictures, rng, self.hints)
    predicted, after = self.learner.predict_frames(params, before, inputs, batch.is_first)
    counts = batch.counts.astype(jnp.float32)
    weight = weight * jax.lax.broadcast_in_dim(counts, weight.shape, (0, 1))
    error = jnp.mean(jnp.square(predicted.pictures - batch.pictures), -1)
    loss = jnp.sum(weight * error) / jnp.maximum(jnp.sum(weight), 1)
    if self.smoothness:
      loss = loss + self.smoothness * roughness(self._flow_of(predicted))
    after = jax.tree.map(lambda x: x[:1], after)
    return loss, Aux(after, {}, {PICTURES: predicted.pictures[:, :1]})

  def _flow_of(self, predicted: Prediction) -> Float[Array, "T B H W 2"]:
    if predicted.flow is None:
      raise ValueError(f"smoothness={self.smoothness}, but this learner predicts no flow; use 0.")
    return predicted.flow
