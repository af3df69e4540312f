"""The parts of a run, model, objective, windows and baselines, built from a config."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from perceiver_stream import streams, zoo
from perceiver_stream.evaluation.baselines import FrameBaselines
from perceiver_stream.evaluation.past_means import depth_means, sound_means
from perceiver_stream.modalities import Modality, audio, depth
from perceiver_stream.models.base import Model
from perceiver_stream.training import objectives
from perceiver_stream.training.baselines import Baseline, BaselineSet
from perceiver_stream.training.config import ExperimentConfig
from perceiver_stream.training.distributed import Rows
from perceiver_stream.training.mesh import make_mesh, own_rows
from perceiver_stream.training.objectives import Objective
from perceiver_stream.training.pipelined_training import pipelined
from perceiver_stream.types import ModalitySpec


class Parts(NamedTuple):
  """The parts of a run.

  Attributes:
    config: The experiment, the model's sizes fitted to the stream.
    objective: The objective, with its model.
    windows: Iterable of dicts `[W, B, ...]`, of the rows of this process; its iterators have
      `get_state` and `set_state`.
    observation: One tick of the stream, `[B, ...]`; names and shapes are used, values are not.
    metric_names: Of each modality's error.
    baselines: The baselines of the rows of this process, or None.
    modalities: Inputs of the model and the objective, by name; observations of them that are not
      finite count as not valid.
    params: Parameters to start from; None is random ones.
  """

  config: ExperimentConfig
  objective: Objective
  windows: Iterable[Mapping[str, np.ndarray]]
  observation: dict[str, np.ndarray]
  metric_names: dict[str, str]
  baselines: BaselineSet | None = None
  modalities: Mapping[str, Modality] = MappingProxyType({})
  params: PyTree | None = None

  @property
  def model(self) -> Model:
    """The model that the objective trains, or reads out of."""
    return self.objective.model


def make_parts(config: ExperimentConfig) -> Parts:
  """Returns the parts that a config describes.

  Raises:
    ValueError: Model and stream share no modality, the objective fits one of them not, the stream
      cannot be opened, or the weights to start from are of another model.
  """
  specs = streams.specs(config.stream)
  model_config = fit(config.model, specs)
  config = dataclasses.replace(config, model=model_config)
  model = zoo.build(model_config)
  objective = pipelined(objectives.make(model, config.objective), config)
  params = objective.load_params(config.weights) if config.weights else None
  check_needs(objective, specs)
  rows = own_rows(make_mesh(config.mesh, config.num_rows), config.num_rows)
  opened = streams.open_rows(config.stream, config.num_rows, rows)
  windows = streams.windows(
    opened,
    config.objective.window,
    objective.look_ahead,
    goes_on=jax.process_count() > 1,
  )
  baselines = None
  if config.use_baselines and (kinds := baselines_of(objective, specs)):
    baselines = BaselineSet(kinds, config.objective.window, Rows(rows, config.num_rows))
  names = {*model.modalities, *objective.needs, *objective.labels} & set(specs)
  metric_names = {name: m.metric_name for name, m in objective.outputs.items()}
  return Parts(
    config=config,
    objective=objective,
    windows=streams.prefetch(windows, config.prefetch),
    observation=blank(specs, names, config.num_rows),
    metric_names=metric_names | dict(objective.labels.values()),
    baselines=baselines,
    modalities={**objective.outputs, **model.modalities},
    params=params,
  )


def baselines_of(
  objective: Objective, specs: Mapping[str, ModalitySpec]
) -> dict[str, Callable[[], Baseline]]:
  """Returns functions that make the baselines of one row for an objective, by modality."""
  ahead = tuple(d for d in objective.baseline_displacements if d > 0)
  kinds: dict[str, Callable[[], Baseline]] = {}
  for name, modality in objective.outputs.items() if ahead else ():
    if name not in specs:
      continue
    if name == "pixels":
      kinds[name] = functools.partial(FrameBaselines, ahead, *specs[name].shape[:2])
    elif isinstance(modality, depth.Depth):
      kinds[name] = functools.partial(depth_means, modality.config, ahead)
    elif isinstance(modality, audio.Audio) and modality.config.predict == "log_mel":
      kinds[name] = functools.partial(sound_means, modality.config, ahead)
  return kinds


def check_needs(objective: Objective, specs: Mapping[str, ModalitySpec]) -> None:
  """Raises ValueError if the stream lacks a name that an objective needs."""
  if missing := sorted(set(objective.needs) - set(specs)):
    raise ValueError(
      f"{type(objective).__name__} needs {missing}, but the stream gives {sorted(specs)}; choose "
      f"another stream or another objective."
    )


def fit(model: Any, specs: Mapping[str, ModalitySpec]) -> Any:
  """Returns the config of a model, given or by name, with the sizes of the stream."""
  model = zoo.config(model) if isinstance(model, str) else model
  return zoo.family(model).fit(model, specs)


def blank(
  specs: Mapping[str, ModalitySpec], names: Iterable[str], num_rows: int
) -> dict[str, np.ndarray]:
  """Returns one tick of zeros, `[B, ...]`, of the named modalities."""
  return {n: np.zeros((num_rows, *specs[n].shape), specs[n].dtype) for n in sorted(names)}
