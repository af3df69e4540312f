"""What can be learnt: one file each, listed here; the type of its config chooses it.

An objective's file holds `OBJECTIVE`: its config, its class `(model, config) -> base.Objective`, and
`misfit(model)`, which says why a model cannot learn it, or nothing. One outside the package is made
known by `register(name, Config, Class)`; the file that `--config` names is a good place for both.
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from perceiver_stream import zoo
from perceiver_stream.files import codec
from perceiver_stream.models.base import Model
from perceiver_stream.training.objectives import (
  autoencoding,
  dense_reading,
  flow,
  future_prediction,
  masked_future,
  next_frame,
  point_tracking,
)
from perceiver_stream.training.objectives.base import Aux as Aux
from perceiver_stream.training.objectives.base import Objective as Objective
from perceiver_stream.training.objectives.base import Score as Score
from perceiver_stream.training.objectives.base import same_recording as same_recording
from perceiver_stream.training.objectives.future_prediction import Config as ObjectiveConfig
from perceiver_stream.training.objectives.future_prediction import (
  FuturePrediction as FuturePrediction,
)

OBJECTIVES = (
  future_prediction,
  next_frame,
  masked_future,
  flow,
  autoencoding,
  point_tracking,
  dense_reading,
)


Misfit = Callable[[Model], str]  # why a model cannot learn by an objective, or nothing


class _Kind(NamedTuple):
  name: str
  objective: Callable[[Model, Any], Objective]
  misfit: Misfit


_KINDS: dict[type, _Kind] = {
  m.OBJECTIVE[0]: _Kind(m.__name__.rsplit(".", 1)[-1], *m.OBJECTIVE[1:]) for m in OBJECTIVES
}
_OURS = tuple(kind.name for kind in _KINDS.values())


def register(
  name: str,
  config: type,
  objective: Callable[[Model, Any], Objective],
  misfit: Misfit = lambda model: "",
) -> None:
  """Makes an objective from outside this package usable as `config.objective`.

  Call it where the objective is defined, so that it runs before a run's config is read back.

  Args:
    name: How the config is called in a run's config.json; an identifier.
    config: A dataclass with a `window`; may extend the `Config` of another objective.
    objective: Makes the objective of a model and a config; see `base.Objective`.
    misfit: Returns why a model cannot learn by it, or nothing.

  Raises:
    TypeError: `config` is not a dataclass.
    ValueError: The name is no identifier, or name or config belong to an objective of this package.
  """
  if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
    raise TypeError(f"objectives.register: config={config!r} is not a dataclass; decorate it.")
  if not name.isidentifier() or name in _OURS:
    raise ValueError(
      f"objectives.register: name={name!r}; use an identifier other than {', '.join(_OURS)}."
    )
  if config in _KINDS and _KINDS[config].name in _OURS:
    raise ValueError(
      f"objectives.register: {_KINDS[config].name}.Config is in use; subclass it, and register that."
    )
  _KINDS[config] = _Kind(name, objective, misfit)
  codec.register(name, config)


def _kinds() -> dict[type, _Kind]:
  """Returns the objectives by the type of their config, those of model families included."""
  for family in zoo.FAMILIES.values():
    if family.objective:  # imported late: it imports this package
      config, *parts = importlib.import_module(family.objective).OBJECTIVE
      _KINDS.setdefault(config, _Kind(family.name, *parts))
  return _KINDS


def make(model: Model, config: Any) -> Objective:
  """Returns the objective that a config describes, for a model.

  Raises:
    TypeError: No objective has exactly this type of config.
    ValueError: The model cannot learn it; the message names those that it can.
  """
  if type(config) not in _kinds():
    raise TypeError(
      f"config.objective is a {type(config).__module__}.{type(config).__qualname__}, which belongs "
      f"to no objective; use the Config of one of {', '.join(_OURS)} in "
      f"perceiver_stream.training.objectives, or call objectives.register(name, Config, "
      f"YourObjective)."
    )
  kind = _KINDS[type(config)]
  if why := kind.misfit(model):
    raise ValueError(
      f"objective {kind.name}: {_family(model)} cannot learn it: {why}. It can learn by "
      f"{', '.join(fitting(model)) or 'none of our objectives'}; set config.objective."
    )
  return kind.objective(model, config)


def fitting(model: Model) -> list[str]:
  """Returns the names of the objectives that a model can learn by."""
  return [kind.name for kind in _kinds().values() if not kind.misfit(model)]


def default(model: Model) -> Any:
  """Returns the config of the first objective that fits; `ObjectiveConfig()` if none does."""
  fit = [module for module in OBJECTIVES if not module.OBJECTIVE[2](model)]
  return fit[0].OBJECTIVE[0]() if fit else ObjectiveConfig()


def _family(model: Model) -> str:
  return zoo.family(model.config).name
