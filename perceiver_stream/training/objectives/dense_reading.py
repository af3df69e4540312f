"""Learning to read depth, flow, segmentation, or any other modality out of a model's states.

The model watches and stays as it is, unless `finetune`; the read-out learns, by the loss of each
modality, from what the stream gives at the same tick. Beside each: what one who has seen nothing
would say.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
)
from perceiver_stream.training.objectives.frozen import (
  FrozenConfig,
  check_sees,
  first_params,
  first_sight,
  frozen,
  look,
  seen,
  split,
)
from perceiver_stream.types import Observation


@dataclass(kw_only=True)
class Config(FrozenConfig):
  """What is read out.

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


class Watched(NamedTuple):
  """A model with a read-out, as the loop wants a model: `init` and `initial_state`."""

  model: Model
  params: PyTree
  reader: Reader
  finetune: bool = False

  def init(self, rng: Array, observation: Observation) -> PyTree:
    """Returns parameters of the read-out, with the model's if it learns too."""
    readout = self.reader.init(rng, first_sight(self.model, self.params, observation))
    return first_params(self, readout)

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> PyTree:
    """Returns the model's state before the first window; the read-out has none."""
    del params
    return self.model.initial_state(self.params, batch_size, rng)


class DenseReading:
  """Loss and scores; `depth@0` is the depth of the newest tick."""

  look_ahead = 0
  baseline_displacements: tuple[int, ...] = ()

  def __init__(self, model: Model, config: Config):
    config.validate()
    self.config = config
    reader = dense_readout.build(config.readout)
    self.outputs: dict[str, Any] = dict(reader.modalities)
    self.needs = ("pixels", *reader.modalities)
    self.learner = Watched(model, frozen(model, config.weights), reader, config.finetune)

  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the loss of a window `[W, B, ...]`, and what else it tells."""
    del rng
    watched = self.learner
    own, readout = split(watched, params)
    sight, after = look(watched.model, own, state, seen(watched.model, window))
    ticks, rows = sight.latents.shape[:2]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), sight)
    total, scores, shown = jnp.float32(0.0), {}, {}
    for name, prediction in watched.reader.read(readout, flat).items():
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


OBJECTIVE = (Config, DenseReading, check_sees)
