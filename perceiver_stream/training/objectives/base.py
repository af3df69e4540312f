"""What all objectives share: scores, what a window gives, and which pairs of ticks count."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num, PyTree

from perceiver_stream.modalities import Modality
from perceiver_stream.models.base import Model
from perceiver_stream.types import IS_FIRST, Observation, valid_key


class Score(NamedTuple):
  """Errors of one modality at one displacement, for each target tick of a window.

  Attributes:
    model: Error of the prediction, in the modality's metric.
    baselines: Error of what the model must beat, by name. Gains are over `copy` (the last
      observation) where there is one, else over the first by name.
    valid: Whether the pair counts: target and source were observed, in the same recording.
  """

  model: Float[Array, "K B"]
  baselines: dict[str, Float[Array, "K B"]]
  valid: Bool[Array, "K B"]

  def errors(self) -> dict[str, Any]:
    """Returns all by name, as they are logged."""
    return {"model": self.model, **self.baselines, "valid": self.valid}


class Aux(NamedTuple):
  """What a window gives besides its loss.

  Attributes:
    next_state: State after the window's first `window` ticks, where the next window starts.
    scores: By `"<modality>@<displacement>"`.
    predictions: By `"<output>@<displacement>"`, `[K, B, ...]`, for the window's last K ticks;
      `pixels_flow@4` is the decoded flow.
  """

  next_state: PyTree
  scores: dict[str, Score]
  predictions: dict[str, Array]


@runtime_checkable
class Objective(Protocol):
  """What the loop, the evaluator and the report ask of an objective.

  One that reads something out of a model that only watches also has `learner`: what learns in its
  place, with `init` and `initial_state`. One that uses labels which are no modality of the model
  has `labels`: by name in the stream, the name of their score and its metric.

  Attributes:
    config: With `window`: ticks from one window to the next.
    look_ahead: Ticks that a window holds beyond that.
    outputs: Modalities it scores, by name.
    needs: Names that the stream must give.
    baseline_displacements: Displacements at which its outputs can be compared with the host's
      baselines: predictions from nothing later than so many ticks before.
  """

  config: Any
  look_ahead: int
  outputs: dict[str, Modality]
  needs: tuple[str, ...]
  baseline_displacements: tuple[int, ...]

  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the loss of one window `[window + look_ahead, B, ...]`, and what else it tells."""
    ...


def check_window(name: str, window: int) -> None:
  """Raises ValueError if the number of ticks between updates is none."""
  if window < 1:
    raise ValueError(f"{name}: window={window} ticks; use at least 1.")


def reconstructs_motion(model: Model) -> bool:
  """Returns whether a model's frames at displacement 0 are those before them, warped."""
  pixels = model.modalities.get("pixels")
  return bool(getattr(pixels and pixels.config, "reconstruct_motion", False))


def same_recording(window: Mapping[str, Array], displacement: int, num: int) -> Bool[Array, "K B"]:
  """Returns whether no recording starts in (t, t + displacement], for the last `num` targets."""
  if IS_FIRST not in window or displacement == 0:
    rows = next(iter(window.values())).shape[1]
    return jnp.ones((num, rows), bool)
  recording = jnp.cumsum(window[IS_FIRST].astype(jnp.int32), axis=0)
  before = recording[recording.shape[0] - num - displacement : recording.shape[0] - displacement]
  return recording[-num:] == before


def flag(window: Mapping[str, Array], name: str) -> Bool[Array, "W B"]:
  """Returns which ticks of a modality were observed."""
  leading = window[name].shape[:2]
  return jnp.asarray(window.get(valid_key(name), jnp.ones(leading, bool)), bool)


def known(target: Num[Array, "N ..."], valid: Bool[Array, " N"]) -> Num[Array, "N ..."]:
  """Returns targets with zeros where they are not valid.

  What was not observed may hold anything, NaN included: it must not reach a gradient.
  """
  usable = valid.reshape((-1,) + (1,) * (target.ndim - 1))
  return jnp.where(usable, target, jnp.zeros_like(target))


def mean_where(values: Float[Array, "..."], valid: Bool[Array, "..."]) -> Float[Array, ""]:
  """Returns the mean of the valid values; 0 if there are none."""
  count = jnp.maximum(jnp.sum(valid.astype(jnp.float32)), 1.0)
  return jnp.sum(jnp.where(valid, values, 0.0)) / count
