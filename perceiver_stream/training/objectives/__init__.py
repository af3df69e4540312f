"""Objectives: one class each, listed here; the type of its config chooses it.

Those of one family of models are in its folder, named by `Family.objective`. One from outside the package is registered with `register(name, Config, Class)`, best in the file that
`--config` names.
"""

import dataclasses
import importlib
from typing import Any, NamedTuple

from perceiver_stream import zoo
from perceiver_stream.files import codec
from perceiver_stream.models.base import Model
from perceiver_stream.training.objectives import legacy
from perceiver_stream.training.objectives.autoencoding import Autoencoding
from perceiver_stream.training.objectives.base import Aux as Aux
from perceiver_stream.training.objectives.base import Objective as Objective
from perceiver_stream.training.objectives.base import Score as Score
from perceiver_stream.training.objectives.base import same_recording as same_recording
from perceiver_stream.training.objectives.dense_reading import DenseReading
from perceiver_stream.training.objectives.ego_motion import EgoMotion
from perceiver_stream.training.objectives.flow import Flow
from perceiver_stream.training.objectives.future_prediction import Config as ObjectiveConfig
from perceiver_stream.training.objectives.future_prediction import FuturePrediction
from perceiver_stream.training.objectives.latent_prediction import LatentPrediction
from perceiver_stream.training.objectives.online_prediction import OnlinePrediction
from perceiver_stream.training.objectives.pieces import Pieces
from perceiver_stream.training.objectives.point_tracking import PointTracking

OBJECTIVES: tuple[type[Objective], ...] = (
  FuturePrediction,
  Flow,
  Autoencoding,
  PointTracking,
  DenseReading,
  OnlinePrediction,
  Pieces,
  LatentPrediction,
  EgoMotion,
)


class _Kind(NamedTuple):
  name: str
  objective: type[Objective]


_REGISTERED: dict[type, _Kind] = {}  # from outside the package, by the type of their config


def register(
  name: str,
  config: type,
  objective: type,
  misfit: legacy.Misfit | None = None,
) -> None:
  """Registers an objective from outside this package for use as `config.objective`.

  Call it where the objective is defined, so that it runs before a run's config is read back.

  Args:
    name: Of the config in a run's config.json; an identifier.
    config: A dataclass with a `window`; may extend the config of another objective.
    objective: Subclass of `Objective`.
    misfit: Deprecated; define `Objective.check_model`.

  Raises:
    TypeError: `config` is not a dataclass, or `objective` no class that can be an `Objective`.
    ValueError: The name is no identifier, or name or config belong to an objective of this package.
  """
  if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
    raise TypeError(f"objectives.register: config={config!r} is not a dataclass; decorate it.")
  ours = _of_this_package()
  names = [kind.name for kind in ours.values()]
  if not name.isidentifier() or name in names:
    raise ValueError(
      f"objectives.register: name={name!r}; use an identifier other than {', '.join(names)}."
    )
  if config in ours:
    raise ValueError(
      f"objectives.register: {ours[config].name}.Config is in use; subclass it, and register that."
    )
  _REGISTERED[config] = _Kind(name, legacy.as_objective(objective, misfit))
  codec.register(name, config)


def _of_this_package() -> dict[type, _Kind]:
  """Returns our objectives by the type of their config, those of model families included."""
  kinds = {o.config_type: _Kind(o.name, o) for o in OBJECTIVES}
  for family in (*zoo.FAMILIES.values(), *zoo.OF_CLIPS.values()):
    if family.objective:  # imported late: it imports this package
      module, _, name = family.objective.rpartition(".")
      objective: type[Objective] = getattr(importlib.import_module(module), name)
      kind = _Kind(vars(objective).get("name", family.name), objective)
      kinds.setdefault(objective.config_type, kind)
  return kinds


def _kinds() -> dict[type, _Kind]:
  return _of_this_package() | _REGISTERED


def make(model: Model, config: Any) -> Objective:
  """Returns the objective that a config describes, for a model.

  Raises:
    TypeError: No objective has exactly this type of config.
    ValueError: The model cannot be trained by it; the message names the objectives for it.
  """
  kinds = _kinds()
  if type(config) not in kinds:
    ours = ", ".join(kind.name for kind in _of_this_package().values())
    raise TypeError(
      f"config.objective is a {type(config).__module__}.{type(config).__qualname__}, which belongs "
      f"to no objective; use the Config of one of {ours}, or call objectives.register(name, Config, "
      f"YourObjective)."
    )
  name, objective = kinds[type(config)]
  if reason := objective.check_model(model):
    raise ValueError(
      f"objective {name} cannot train {zoo.family(model.config).name}: {reason} Objectives for it: "
      f"{', '.join(fitting(model)) or 'none'}; set config.objective."
    )
  found = objective(model, config)
  if not hasattr(found, "model"):
    raise TypeError(
      f"objective {name}: {objective.__name__}.__init__ does not call super().__init__(model, config)."
    )
  legacy.check_attributes(found)
  return found


def fitting(model: Model) -> list[str]:
  """Returns the names of the objectives that can train a model."""
  return [kind.name for kind in _kinds().values() if not kind.objective.check_model(model)]


def default(model: Model) -> Any:
  """Returns the config of the first objective that fits, those of families after the others;
  `ObjectiveConfig()` if none does."""
  fit = (c for c, kind in _kinds().items() if not kind.objective.check_model(model))
  return next(fit, ObjectiveConfig)()
