"""What a run is put together from: model, objective, windows and baselines of a config."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from perceiver_stream import streams, zoo
from perceiver_stream.training.beside import Baselines, PixelBaselines
from perceiver_stream.training.config import ExperimentConfig
from perceiver_stream.training.objectives import FuturePrediction
from perceiver_stream.types import ModalitySpec


class Parts(NamedTuple):
  """The parts of a run.

  Attributes:
    config: The experiment, the model's sizes fitted to the stream.
    model: With `init` and `initial_state`.
    objective: With `loss(params, state, window, rng) -> (loss, aux)`, and `config.window`.
    windows: Iterable of dicts `[W, B, ...]`; its iterators have `get_state` and `set_state`.
    observation: One tick as it comes, `[B, ...]`; names and shapes count, values do not.
    metric_names: Of each modality's error.
    baselines: What is scored beside the model, or None.
  """

  config: ExperimentConfig
  model: Any
  objective: Any
  windows: Iterable[Mapping[str, np.ndarray]]
  observation: dict[str, np.ndarray]
  metric_names: dict[str, str]
  baselines: Baselines | None = None


def make_parts(config: ExperimentConfig) -> Parts:
  """Returns the parts that a config describes.

  Raises:
    ValueError: Model and stream share no modality, or the stream cannot be opened.
  """
  specs = streams.specs(config.stream)
  model_config = fit(config.model, specs)
  config = dataclasses.replace(config, model=model_config)
  model = zoo.build(model_config)
  objective = FuturePrediction(model, config.objective)
  rows = streams.open_rows(config.stream, config.num_rows)
  windows = streams.windows(rows, config.objective.window, max(model.displacements))
  baselines = None
  if config.use_baselines and "pixels" in objective.outputs:
    shape = specs["pixels"].shape
    hop = config.objective.window
    baselines = PixelBaselines(model.displacements, hop, shape, config.num_rows)
  return Parts(
    config=config,
    model=model,
    objective=objective,
    windows=streams.prefetch(windows, config.prefetch),
    observation=blank(specs, model.modalities, config.num_rows),
    metric_names={name: m.metric_name for name, m in model.modalities.items()},
    baselines=baselines,
  )


def fit(model: Any, specs: Mapping[str, ModalitySpec]) -> Any:
  """Returns the model's config, or that of the model so named, with the sizes of the stream."""
  model = zoo.config(model) if isinstance(model, str) else model
  for family in zoo.FAMILIES.values():
    if isinstance(model, family.Config):
      return family.fitted(model, specs)
  raise TypeError(f"config.model is a {type(model).__name__}; the zoo has {zoo.names()}.")


def blank(
  specs: Mapping[str, ModalitySpec], names: Iterable[str], num_rows: int
) -> dict[str, np.ndarray]:
  """Returns one tick of zeros, `[B, ...]`, of the named modalities."""
  return {n: np.zeros((num_rows, *specs[n].shape), specs[n].dtype) for n in names}
