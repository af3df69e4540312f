"""Readouts: modules trained on the states of a model that is frozen, or fine-tuned with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.models.base import Model
from perceiver_stream.models.dense_readout import Reader
from perceiver_stream.models.motion_readout import Odometer
from perceiver_stream.models.point_readout import Features, Tracker
from perceiver_stream.training.objectives.base import Objective, reconstructs_motion
from perceiver_stream.types import IS_FIRST, Observation, valid_key
from perceiver_stream.utils import moved


@dataclass(kw_only=True)
class ReadoutConfig:
  """Fields that the configs of all readouts have.

  Attributes:
    weights: Of the model: a file, or the name of bundled weights; "" is random weights, the control.
    finetune: If True, the model is trained too: gradients reach it through the ticks of a window.
  """

  weights: str = ""
  finetune: bool = False


R = TypeVar("R", Tracker, Reader, Odometer)


@dataclass(frozen=True)
class ReadoutLearner(Generic[R]):
  """A model with given parameters, and a readout of its states.

  Attributes:
    model: The model.
    params: Its parameters; if `finetune`, those that it starts from.
    readout: The readout.
    finetune: If True, what is trained holds the model's parameters too.
  """

  model: Model
  params: PyTree
  readout: R
  finetune: bool = False

  @property
  def use_flow(self) -> bool:
    """If True, features hold the motion that the model decodes from its latents."""
    return False

  def init_params(self, rng: Array, observation: Observation) -> PyTree:
    """Returns the parameters that are trained: of a new readout, with the model's if `finetune`.

    The model's are copies, since a training step writes into its arguments.
    """
    features = first_features(self.model, self.params, observation, flow=self.use_flow)
    readout = self.readout.init(rng, features)
    return {**jax.tree.map(jnp.array, self.params), **readout} if self.finetune else readout

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> PyTree:
    """Returns the state before the first window; by default the model's, which needs no `params`."""
    del params
    return self.model.initial_state(self.params, batch_size, rng)

  def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the parameters of the model, and those of the readout, from what is trained."""
    if not self.finetune:
      return self.params, params
    model = {name: params[name] for name in self.params}
    return model, {name: x for name, x in params.items() if name not in model}

  def observe(self, params: PyTree, state: PyTree, window: Observation) -> tuple[Features, PyTree]:
    """Returns features of the states of a window `[W, B, ...]`, and the model's state after it.

    Args:
      params: Of the model; see `split`.
      state: Of the model, before the window.
      window: The model's inputs, and labels, which it does not observe.
    """
    inputs = [name for name, m in self.model.modalities.items() if m.config.use_input]
    names = {IS_FIRST, *inputs, *map(valid_key, inputs)}
    observed = {name: value for name, value in window.items() if name in names}
    return observe_features(self.model, params, state, observed, flow=self.use_flow)


class ReadoutObjective(Objective, Generic[R]):
  """Trains a readout; the model stays as it is, unless `config.finetune`.

  Attributes:
    learner: The model with the readout.
    readout_name: Of the readout in a file of a model.
  """

  learner: ReadoutLearner[R]
  readout_name: str

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why nothing can be read out of a model's states, a sentence; None if it can."""
    return why_unreadable(model)

  def load_params(self, weights: str) -> PyTree:
    """Raises ValueError: the readout has no other start, and the model has weights of its own."""
    raise ValueError(
      f"config.weights={weights!r} are of a model, and {self.name} trains a readout; set "
      f"config.objective.weights."
    )

  def init_params(self, rng: Array, observation: Observation) -> PyTree:
    """Returns the learner's."""
    return self.learner.init_params(rng, observation)

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> PyTree:
    """Returns the learner's."""
    return self.learner.initial_state(params, batch_size, rng)


def first_features(
  model: Model, params: PyTree, observation: Observation, *, flow: bool = False
) -> Features:
  """Returns the features of the state after a first tick, `[B, ...]`."""
  rows = next(iter(observation.values())).shape[0]
  once = {n: jnp.asarray(observation[n])[None] for n in model.modalities if n in observation}
  features, _ = observe_features(model, params, model.initial_state(params, rows), once, flow=flow)
  return jax.tree.map(lambda x: x[0], features)


def observe_features(
  model: Model,
  params: PyTree,
  state: PyTree,
  observations: Mapping[str, Any],
  *,
  flow: bool = False,
) -> tuple[Features, PyTree]:
  """Returns features of the states of T ticks, and the state after them.

  Frames are those that the state remembers under "pixels", if it does. `flow` also decodes the motion
  of each pixel.

  Raises:
    ValueError: `flow`, and the model was not trained to reconstruct motion.
  """
  states, after = model.observe(params, state, observations)
  latents = model.latents(params, states)
  memory = getattr(states, "memory", {}).get("pixels")
  frames = (memory.last, memory.previous) if memory is not None else (None, None)
  return Features(latents, *frames, flow_of(model, params, states) if flow else None), after


def flow_of(model: Model, params: PyTree, states: PyTree) -> Float[Array, "T B H W 2"]:
  """Returns the position of each pixel one tick before, (x, y) pixels, as decoded from the latents.

  Raises:
    ValueError: The model was not trained to reconstruct motion.
  """
  if not reconstructs_motion(model):
    raise ValueError(
      "read-out: use_flow=True reads the motion that the model decodes, and this one reconstructs "
      "none; use one trained with pixels.Config.reconstruct_motion, or use_flow=False."
    )
  ticks, rows = jax.tree.leaves(states)[0].shape[:2]
  flat = jax.tree.map(lambda x: x.reshape(ticks * rows, *x.shape[2:]), states)
  flow = model.predict(params, flat, (0,))["pixels_flow"][:, 0]
  return flow.reshape(ticks, rows, *flow.shape[1:])


def why_unreadable(model: Model) -> str | None:
  """Returns why nothing can be read out of a model's states, a sentence; None if it can."""
  if "pixels" not in model.modalities or not model.modalities["pixels"].config.use_input:
    return "It does not observe pixels."
  return None if max(model.displacements, default=0) > 0 else "It does not carry its state."


__getattr__ = moved.renamed_names(
  __name__,
  {
    "first_sight": "training.objectives.readout_base.first_features",
    "look": "training.objectives.readout_base.observe_features",
  },
)
