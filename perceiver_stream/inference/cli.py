"""Shared by the scripts: readable errors, and streams that fit a loaded model."""

import dataclasses
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perceiver_stream import streams
from perceiver_stream.inference.model_loading import Loaded, UntrainedWarning
from perceiver_stream.streams import shard_files, shards, video
from perceiver_stream.training import objectives
from perceiver_stream.training.config import ExperimentConfig
from perceiver_stream.utils import compile_cache
from perceiver_stream.utils.paths import user_path
from perceiver_stream.zoo.bundled import RenamedWarning

TRACEBACK = "PERCEIVER_STREAM_TRACEBACK"
SHOWN = (RenamedWarning, UntrainedWarning)  # printed by scripts, wherever they are raised
WATCHED = 8  # ticks of a window for a frozen model


@contextmanager
def readable_errors() -> Iterator[None]:
  """Ends the process with one message instead of a traceback for errors that the user can fix.

  Compiled programs are cached for the next start; see `utils.compile_cache`. Warnings about random
  weights and old names of models are one line, too.
  """
  compile_cache.enable()
  try:
    with _readable_warnings():
      yield
  except (ValueError, OSError, RuntimeError) as error:
    if os.environ.get(TRACEBACK):
      raise
    sys.exit(f"{os.path.basename(sys.argv[0])}: {error}\n(For the traceback set {TRACEBACK}=1.)")


@contextmanager
def _readable_warnings() -> Iterator[None]:
  with warnings.catch_warnings():
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
      if issubclass(category, SHOWN):
        print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
      elif repaired := compile_cache.repair(str(message)):
        print(repaired, file=sys.stderr)
      else:
        usual(message, category, *place)

    for category in SHOWN:
      warnings.simplefilter("always", category)
    warnings.filterwarnings("always", message=compile_cache.UNREADABLE)
    warnings.showwarning = show
    yield


def stream_for(loaded: Loaded, path: str) -> Any:
  """Returns the config of a stream of the video at `path`, with the sizes and rates of the model.

  Options of the run's own stream are kept if it was video too. A folder of shards is read once,
  as it was written.
  """
  if (user_path(path) / shard_files.INDEX).is_file():
    return shards.Config(path=path)
  specs = {name: modality.spec for name, modality in loaded.model.modalities.items()}
  own = loaded.config.stream if loaded.config else None
  base = own if isinstance(own, video.Config) else video.Config(path=path)
  sizes: dict[str, Any] = {"path": path}
  if "pixels" in specs:
    sizes |= {"height": specs["pixels"].shape[0], "width": specs["pixels"].shape[1]}
    sizes["rate_hz"] = specs["pixels"].rate_hz
  if "audio" in specs:
    sizes["audio_rate_hz"] = round(specs["audio"].rate_hz)
  return dataclasses.replace(base, **sizes)


def experiment_for(loaded: Loaded, path: str = "", num_rows: int = 1) -> ExperimentConfig:
  """Returns the experiment of a model over the video at `path`, or over its own run's stream.

  Raises:
    ValueError: The model was loaded by name, so it has no stream, and no path is given.
  """
  if not path and loaded.config is None:
    raise ValueError(f"{loaded.about} has no stream of its own; say which video with --path.")
  own = loaded.config or ExperimentConfig(
    model=loaded.model.config, stream=None, objective=objectives.default(loaded.model)
  )
  stream = stream_for(loaded, path) if path else own.stream
  return dataclasses.replace(own, stream=stream, num_rows=num_rows)


def watching(loaded: Loaded, path: str) -> tuple[Any, Any]:
  """Returns an iterator over windows of the video, without overlap, and the stream's config."""
  config = stream_for(loaded, path)
  windows = streams.windows(streams.open_rows(config, 1), WATCHED, 0)
  return iter(streams.prefetch(windows, 4)), config
