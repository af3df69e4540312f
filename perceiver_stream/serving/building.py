"""Sessions and their sources from an experiment or a trained model."""

import dataclasses
from typing import Any

import jax

from perceiver_stream import streams, zoo
from perceiver_stream.inference.cli import stream_for
from perceiver_stream.inference.model_loading import Loaded, blank_tick
from perceiver_stream.inference.pretrained import load_tracker
from perceiver_stream.models.point_readout import Tracker
from perceiver_stream.serving.learning import OnlineLearner
from perceiver_stream.serving.session import Session
from perceiver_stream.serving.sources import BrowserSource, FileSource, LiveSource, Source
from perceiver_stream.streams import live, video
from perceiver_stream.training import objectives
from perceiver_stream.training.config import ExperimentConfig
from perceiver_stream.training.parts import blank, fit
from perceiver_stream.types import ModalitySpec
from perceiver_stream.utils.paths import user_path
from perceiver_stream.zoo.loading import readout_names


def stream_config(source: str, like: Any, *, loops: bool = False) -> streams.StreamConfig:
  """Returns the config of a stream of a file, camera or address.

  Args:
    source: Path of a file or folder, or a source as `streams.live` takes it; "" for a browser.
    like: Config of a stream with the sizes and rates to use.
    loops: Whether a file starts again at its end.

  Raises:
    ValueError: It is neither.
  """
  sizes = {
    name: getattr(like, name) for name in ("height", "width", "rate_hz", "audio_rate_hz", "crop")
  }
  if source and user_path(source).exists():
    return video.Config(path=source, loops=-1 if loops else 1, **sizes)
  config = live.Config(source=source, **sizes)
  if source:
    streams.open_rows(config)  # checks the source, opens nothing
  return config


def make_source(stream: Any, specs: dict[str, ModalitySpec]) -> Source:
  """Returns the source of a stream; `specs` are those of the model's inputs."""
  if isinstance(stream, live.Config):
    return LiveSource(stream) if stream.source else BrowserSource(specs, stream.rate_hz)
  return FileSource(stream)


def experiment_of(loaded: Loaded, like: ExperimentConfig, source: str) -> ExperimentConfig:
  """Returns the experiment of a trained model on a source.

  Args:
    loaded: The model.
    like: Gives optimiser, window and crop where the model has no run of its own.
    source: See `stream_config`.
  """
  sizes = stream_for(loaded, source)
  rate_hz = sizes.rate_hz or like.stream.rate_hz
  stream = dataclasses.replace(
    like.stream,
    height=sizes.height,
    width=sizes.width,
    rate_hz=rate_hz,
    audio_rate_hz=sizes.audio_rate_hz if "audio" in loaded.model.modalities else 0,
  )
  objective = loaded.config.objective if loaded.config else like.objective
  optimizer = loaded.config.optimizer if loaded.config else like.optimizer
  return dataclasses.replace(
    like, model=loaded.model.config, stream=stream, objective=objective, optimizer=optimizer
  )


def make_session(
  config: ExperimentConfig,
  loaded: Loaded | None = None,
  *,
  learns: bool = True,
  waits: bool = False,
  weights: str = "",
) -> Session:
  """Returns a session before its first tick.

  Args:
    config: The experiment; its model is fitted to its stream where it has no parameters yet.
    loaded: A trained model; None starts with random parameters.
    learns: Whether the session has a learner.
    waits: See `OnlineLearner`.
    weights: File or bundled name of `loaded`, which may hold a tracker of points too.

  Raises:
    ValueError: The model does not fit the stream, or cannot learn by the objective; the file of
      the tracker is damaged.
  """
  specs = streams.specs(config.stream)
  if loaded is None:
    config = dataclasses.replace(config, model=fit(config.model, specs))
    model = zoo.build(config.model)
    params = model.init(jax.random.PRNGKey(config.seed), blank_tick(model))
    loaded = Loaded(model, params, None, f"{zoo.family(config.model).name}, from random weights")
  model = loaded.model
  tracker = _tracker(weights)
  learner = None
  if learns:
    config = dataclasses.replace(config, num_rows=1)
    objective = objectives.make(model, config.objective)
    names = {name for name, m in model.modalities.items() if name in specs and m.config.use_input}
    observation = blank(specs, names, 1)
    learner = OnlineLearner(config, objective, observation, loaded.params, waits=waits)
  return Session(loaded, config, learner=learner, tracker=tracker)


def _tracker(weights: str) -> tuple[Tracker, Any] | None:
  """Returns the trained read-out of points in a model's file; None if it has none."""
  if not (weights and _has_tracker(weights)):
    return None
  learner, params = load_tracker(weights)
  return learner.readout, params


def _has_tracker(weights: str) -> bool:
  """Returns True if a model's file has a tracker of points; raises ValueError if it is damaged."""
  try:
    return "points" in readout_names(weights)
  except FileNotFoundError:  # the folder of a run
    return False
