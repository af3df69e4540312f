"""`Objective`, its loss's results, and helpers that find the pairs of ticks that count."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num, PyTree

from perceiver_stream.modalities import Modality
from perceiver_stream.models.base import Model
from perceiver_stream.models.mapping import check_names, flatten
from perceiver_stream.types import IS_FIRST, Observation, valid_key
from perceiver_stream.zoo import loading
from perceiver_stream.zoo.hub import SCHEME


class Score(NamedTuple):
  """Errors of one modality at one displacement, for each target tick of a window.

  Attributes:
    model: Error of the prediction, in the modality's metric.
    baselines: Errors of the baselines, by name. Gains are over `copy` (the last observation) if
      there is one, otherwise over the first by name.
    valid: True if the pair counts: target and source were observed, in the same recording.
  """

  model: Float[Array, "K B"]
  baselines: dict[str, Float[Array, "K B"]]
  valid: Bool[Array, "K B"]

  def errors(self) -> dict[str, Any]:
    """Returns all by name, as they are logged."""
    return {"model": self.model, **self.baselines, "valid": self.valid}


class Aux(NamedTuple):
  """Results of a window besides its loss.

  Attributes:
    next_state: State after the window's first `window` ticks, where the next window starts.
    scores: By `"<modality>@<displacement>"`.
    predictions: By `"<output>@<displacement>"`, `[K, B, ...]`, for the window's last K ticks;
      `pixels_flow@4` is the decoded flow.
  """

  next_state: PyTree
  scores: dict[str, Score]
  predictions: dict[str, Array]


class Objective(abc.ABC):
  """Loss of a window, and the parameters and state that it is a function of.

  A subclass defines `loss` and usually sets `outputs`. By default the model's parameters are trained,
  from its own initial ones, by the derivative of `loss`; override `init_params` and `initial_state`
  to train something else, `loss_and_grad` for another gradient.

  Attributes:
    name: Of the objective, in messages.
    config_type: Type of its config, a dataclass with `window` (ticks from one window to the next)
      and `validate`; the type of `config.objective` chooses the objective.
    model: The model, fitted to the stream.
    config: A `config_type`.
    look_ahead: Ticks of a window beyond `config.window`.
    outputs: Modalities that are scored, by name.
    needs: Names that the stream must have.
    labels: Of keys of the stream that are no modality of the model but are used for scores or
      learning: name of the score and of its metric.
    baseline_displacements: Displacements at which `outputs` can be compared with the host's
      baselines: predictions from input that is at least that many ticks old.
  """

  name: ClassVar[str] = ""
  config_type: ClassVar[type]

  model: Model
  config: Any
  look_ahead: int = 0
  outputs: dict[str, Modality]
  needs: tuple[str, ...] = ()
  labels: Mapping[str, tuple[str, str]] = {}
  baseline_displacements: tuple[int, ...] = ()

  def __init__(self, model: Model, config: Any):
    """Checks the config; raises ValueError."""
    config.validate()
    self.model, self.config, self.outputs = model, config, {}

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model cannot be trained by this objective, a sentence; None if it can."""
    del model
    return None

  @property
  def num_ticks(self) -> int:
    """Ticks in a window, W."""
    return self.config.window + self.look_ahead

  def load_params(self, weights: str) -> PyTree:
    """Returns parameters to start from instead of those of `init_params`.

    Args:
      weights: A file, or the name of bundled weights.

    Raises:
      ValueError: They belong to another model; the names that differ are listed.
    """
    return model_params(self.model, weights)

  def init_params(self, rng: Array, observation: Observation) -> PyTree:
    """Returns the parameters before the first step, for one tick `[B, ...]`."""
    return self.model.init(rng, observation)

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> PyTree:
    """Returns the state before the first window, rows first."""
    return self.model.initial_state(params, batch_size, rng)

  @abc.abstractmethod
  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the loss of one window `[window + look_ahead, B, ...]`, with its other results."""

  def watched_state(self, before: PyTree, after: PyTree) -> PyTree:
    """Returns the state after a window that changes no parameters; by default `next_state`.

    Args:
      before: State before the window.
      after: `next_state` of the loss.
    """
    del before
    return after

  def loss_and_grad(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[tuple[Float[Array, ""], Aux], PyTree]:
    """Returns the results of `loss`, and its gradient with respect to the parameters."""
    return jax.value_and_grad(self.loss, has_aux=True)(params, state, window, rng)


def model_params(model: Model, weights: str) -> PyTree:
  """Returns trained parameters for a model.

  Args:
    model: As fitted to the stream.
    weights: A file, or the name of bundled weights; "" makes random ones, the control.

  Raises:
    ValueError: They belong to another model; the names that differ are listed.
  """
  if not weights:
    return model.init(jax.random.key(0), loading.blank_tick(model))
  if weights.startswith(SCHEME):  # a config may be a stranger's
    raise ValueError(
      f"weights={weights!r}: a config names a file or bundled weights and downloads nothing; get it by "
      f"`hf download OWNER/NAME`, and give its path."
    )
  _, params = loading.load(weights)
  check_names(flatten(params), loading.shapes(model), source=f"{weights}, for this stream")
  return params


def check_window(name: str, window: int) -> None:
  """Raises ValueError if the number of ticks between updates is none."""
  if window < 1:
    raise ValueError(f"{name}: window={window} ticks; use at least 1.")


def reconstructs_motion(model: Model) -> bool:
  """Returns True if a model's frames at displacement 0 are warps of the previous ones."""
  pixels = model.modalities.get("pixels")
  return bool(getattr(pixels and pixels.config, "reconstruct_motion", False))


def same_recording(window: Mapping[str, Array], displacement: int, num: int) -> Bool[Array, "K B"]:
  """Returns True where no recording starts in (t, t + displacement], for the last `num` targets."""
  if IS_FIRST not in window or displacement == 0:
    rows = next(iter(window.values())).shape[1]
    return jnp.ones((num, rows), bool)
  recording = jnp.cumsum(window[IS_FIRST].astype(jnp.int32), axis=0)
  before = recording[recording.shape[0] - num - displacement : recording.shape[0] - displacement]
  return recording[-num:] == before


def flag(window: Mapping[str, Array], name: str) -> Bool[Array, "W B"]:
  """Returns the validity flags of a modality at every tick."""
  leading = window[name].shape[:2]
  return jnp.asarray(window.get(valid_key(name), jnp.ones(leading, bool)), bool)


def whole_rows(
  window: Mapping[str, Array], names: Sequence[str], first: int = 0
) -> Bool[Array, " B"]:
  """Returns True for rows that lack no observation from tick `first` on, in one recording."""
  found = jnp.stack([jnp.all(flag(window, name)[first:], axis=0) for name in names]).all(axis=0)
  if IS_FIRST not in window:
    return found
  return found & ~jnp.any(jnp.asarray(window[IS_FIRST], bool)[first + 1 :], axis=0)


def known(target: Num[Array, "N ..."], valid: Bool[Array, " N"]) -> Num[Array, "N ..."]:
  """Returns targets with zeros where they are not valid.

  Missing observations may be NaN, which must not reach a gradient.
  """
  usable = valid.reshape((-1,) + (1,) * (target.ndim - 1))
  return jnp.where(usable, target, jnp.zeros_like(target))


def mean_where(values: Float[Array, "..."], valid: Bool[Array, "..."]) -> Float[Array, ""]:
  """Returns the mean of the valid values; 0 if there are none."""
  count = jnp.maximum(jnp.sum(valid.astype(jnp.float32)), 1.0)
  return jnp.sum(jnp.where(valid, values, 0.0)) / count
