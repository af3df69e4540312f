"""Objectives written before `Objective` was a class to extend; not supported from version 0.2 on."""

from collections.abc import Callable
from typing import Any

from perceiver_stream.models.base import Model
from perceiver_stream.training.objectives.base import Objective
from perceiver_stream.training.objectives.readout_base import ReadoutObjective
from perceiver_stream.utils.warn import warn

Misfit = Callable[[Model], str]  # why a model cannot be trained, or ""


def as_objective(kind: Any, misfit: Misfit | None = None) -> type[Objective]:
  """Returns a class as a subclass of `Objective`: itself, or with a DeprecationWarning an adapted one.

  Args:
    kind: A subclass of `Objective`, or a class of a model and a config with `loss` and `look_ahead`.
    misfit: The function that `check_model` replaced.

  Raises:
    TypeError: It is no class.
  """
  if not isinstance(kind, type):
    raise TypeError(
      f"objectives.register: objective={kind!r} is no class; give a subclass of objectives.Objective."
    )
  if issubclass(kind, Objective) and misfit is None:
    return kind
  warn(
    f"objectives.register: let {kind.__name__} extend objectives.Objective, with check_model instead "
    f"of misfit; version 0.2 will take nothing else.",
    DeprecationWarning,
  )

  class Adapted(kind, Objective):  # type: ignore[misc]
    """The class, with the methods of `Objective` that it lacks."""

    def __init__(self, model: Model, config: Any):
      self.model = model
      super().__init__(model, config)

    @classmethod
    def check_model(cls, model: Model) -> str | None:
      """Returns the result of `misfit`, or None."""
      return misfit(model) or None if misfit else super().check_model(model)

  Adapted.__name__ = kind.__name__
  return Adapted


def check_attributes(objective: Objective) -> None:
  """Raises TypeError for an objective that sets attributes which are methods now."""
  old = {"gradient"} if isinstance(objective, ReadoutObjective) else {"gradient", "learner"}
  if old & vars(objective).keys():
    raise TypeError(
      f"objective {type(objective).__name__}: extend objectives.Objective, and define init_params "
      f"and initial_state instead of learner, loss_and_grad instead of gradient."
    )
