"""SAVi's objective: the target is decoded from the slots, of the same tick or of later ones."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool

from perceiver_stream.modalities import Modality
from perceiver_stream.models.base import Model
from perceiver_stream.models.savi.streaming import StreamConfig
from perceiver_stream.training.objectives import future_prediction
from perceiver_stream.training.objectives.base import Score


@dataclass(kw_only=True)
class Config(future_prediction.Config):
  """As future prediction, of windows of 6 ticks; each should start a recording."""

  window: int = 6
  relative: bool = False


class SlotDecoding(future_prediction.FuturePrediction):
  """Loss and scores of the decoded target.

  With displacement 0, the baseline is `prior`: no flow, or the middle of the range.
  """

  name, config_type = "slot_decoding", Config
  config: Config

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    self.needs = tuple(model.modalities)
    self.baseline_displacements = tuple(d for d in self.displacements if d > 0)

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model cannot be trained, a sentence; None if it can."""
    return None if isinstance(model.config, StreamConfig) else "It is no SAVi."

  def _compare(
    self,
    modality: Modality,
    prediction: Array,
    copy: Array,
    target: Array,
    valid: Bool[Array, " N"],
  ) -> tuple[Array, Score]:
    if 0 not in self.displacements:
      return super()._compare(modality, prediction, copy, target, valid)
    prior = jnp.broadcast_to(modality.prior(1), copy.shape)
    loss, score = super()._compare(modality, prediction, prior, target, valid)
    return loss, score._replace(baselines={"prior": score.baselines["copy"]})
