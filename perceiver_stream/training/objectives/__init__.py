"""What can be learnt: one file each, listed here; the type of its config chooses it.

An objective's file holds `OBJECTIVE`: its config, its class `(model, config) -> base.Objective`, and
`misfit(model)`, which says why a model cannot learn it, or nothing.
"""

from typing import Any

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


def make(model: Model, config: Any) -> Objective:
  """Returns the objective that a config describes, for a model.

  Raises:
    TypeError: The config is that of no objective.
    ValueError: The model cannot learn it; the message names those that it can.
  """
  for module in OBJECTIVES:
    kind, objective, misfit = module.OBJECTIVE
    if isinstance(config, kind):
      if why := misfit(model):
        raise ValueError(
          f"objective {_name(module)}: {_family(model)} cannot learn it: {why}. It can learn by "
          f"{', '.join(fitting(model)) or 'none of our objectives'}; set config.objective."
        )
      return objective(model, config)
  raise TypeError(
    f"config.objective is a {type(config).__name__}; use the Config of one of "
    f"{', '.join(map(_name, OBJECTIVES))} in perceiver_stream.training.objectives."
  )


def fitting(model: Model) -> list[str]:
  """Returns the names of the objectives that a model can learn by."""
  return [_name(module) for module in OBJECTIVES if not module.OBJECTIVE[2](model)]


def default(model: Model) -> Any:
  """Returns the config of the first objective that fits; `ObjectiveConfig()` if none does."""
  fit = [module for module in OBJECTIVES if not module.OBJECTIVE[2](model)]
  return fit[0].OBJECTIVE[0]() if fit else ObjectiveConfig()


def _name(module: Any) -> str:
  return module.__name__.rsplit(".", 1)[-1]


def _family(model: Model) -> str:
  return type(model.config).__module__.rsplit(".", 1)[-1]
