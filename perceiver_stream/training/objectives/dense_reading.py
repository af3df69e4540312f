"""Training a readout of depth, flow, segmentation, or any other modality on a model's states.

Targets are the stream's labels at the same tick; the loss is that of each modality. The
baseline is each modality's prior: the best guess without any input.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.models import dense_readout
from perceiver_stream.models.base import Model
from perceiver_stream.models.dense_readout import Reader
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.objectives.base import (
  Aux,
  Score,
  check_window,
  flag,
  known,
  mean_where,
  model_params,
)
from perceiver_stream.training.objectives.readout_base import (
  ReadoutConfig,
  ReadoutLearner,
  ReadoutObjective,
)
from perceiver_stream.types import Observation


@dataclass(kw_only=True)
class Config(ReadoutConfig):
  """Window and read-out of dense labels.

  Attributes:
    window: Ticks between updates.
    readout: The read-out, with its modalities.
  """

  window: int = 8
  readout: dense_readout.Config = field(default_factory=dense_readout.Config)

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("dense_reading", self.window)
    self.readout.validate()


class DenseReading(ReadoutObjective[Reader]):
  """Loss and scores; `depth@0` is the depth of the newest tick."""

  name, config_type = "dense_reading", Config
  readout_name = "dense"

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    reader = dense_readout.build(config.readout)
    self.outputs = dict(reader.modalities)
    self.needs = ("pixels", *reader.modalities)
    params = model_params(model, config.weights)
    self.learner = ReadoutLearner(model, params, reader, config.finetune)

  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the loss of a window `[W, B, ...]`, with its other results."""
    del rng
    own, readout = self.learner.split(params)
    features, after = self.learner.observe(own, state, window)
    ticks, rows = features.latents.shape[:2]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), features)
    total, scores, shown = jnp.float32(0.0), {}, {}
    for name, prediction in self.learner.readout.read(readout, flat).items():
      modality, raw = self.outputs[name], jnp.asarray(window[name])
      valid = flag(window, name)
      target = modality.target(modality.preprocess(raw.reshape(-1, *raw.shape[2:])))
      target = known(target, valid.reshape(-1))
      loss = mean_where(modality.loss(prediction, target), valid.reshape(-1))
      total = total + modality.config.loss_weight * loss
      prior = modality.prior(len(target))
      errors = {
        "model": modality.metric(prediction, target),
        "prior": modality.metric(prior, target),
      }
      errors = {k: v.reshape(ticks, rows) for k, v in errors.items()}
      key = str(ScoreKey(name, 0))
      scores[key] = Score(errors["model"], {"prior": errors["prior"]}, valid)
      shown[key] = prediction.reshape(ticks, rows, *prediction.shape[1:])
    return total, Aux(*jax.lax.stop_gradient((after, scores, shown)))
