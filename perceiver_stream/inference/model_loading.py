"""Models loaded from runs, files or names, and any model over a stream in bounded memory."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from perceiver_stream import zoo
from perceiver_stream.modalities import NonFinite
from perceiver_stream.models.base import Model, Outputs
from perceiver_stream.models.mapping import check_names, flat_shapes, flatten
from perceiver_stream.reporting.run_files import CHECKPOINTS, CONFIG
from perceiver_stream.training import checkpoint_files, objectives
from perceiver_stream.training.arrays import CheckpointError
from perceiver_stream.training.config import ExperimentConfig, read_config
from perceiver_stream.training.objectives.readout_base import ReadoutConfig, ReadoutLearner
from perceiver_stream.utils.suggest import did_you_mean
from perceiver_stream.utils.warn import warn
from perceiver_stream.zoo import bundled, hub, point_trackers
from perceiver_stream.zoo.loading import Readout, changed, shapes, template
from perceiver_stream.zoo.loading import blank_tick as blank_tick


class UntrainedWarning(UserWarning):
  """A model was loaded by a name without trained weights."""


class Loaded(NamedTuple):
  """A model with parameters.

  Attributes:
    model: Functions of the model.
    params: Parameters.
    config: Config of the run; None for a file or a name.
    about: Description of the source and the amount of training.
  """

  model: Model
  params: PyTree
  config: ExperimentConfig | None
  about: str


def load(source: str | pathlib.Path, *, seed: int = 0, **changes: Any) -> Loaded:
  """Returns the model of a run with its newest parameters, of a file, or by name.

  Args:
    source: Folder of a run; a file of weights, a folder or an address of the Hugging Face Hub
      (`"hf://OWNER/NAME"`), see `zoo.load`; or a name of the zoo such as
      `"stream_perceiver/tiny_world"`, for the weights that are bundled with the package. Under other
      names weights are random, with an `UntrainedWarning`; see `untrained`.
    seed: Of random weights.
    changes: Fields of the model's config to change; parameters must still fit.

  Raises:
    FileNotFoundError: It is none of these.
    ValueError: A file is of no known kind, damaged, hostile, or does not fit; there is no such
      field, or the parameters do not fit the changed config.
    CheckpointError: The run's checkpoints cannot be used.
  """
  folder = hub.local_path(source)
  if folder.is_file() or (folder / hub.WEIGHTS).is_file():
    about = str(source) if str(source).startswith(hub.SCHEME) else str(folder)
    return Loaded(*zoo.load(folder, **changes), None, about)
  if (folder / CONFIG).is_file():
    return _load_run(folder, changes)
  if folder.is_dir() or str(source) not in zoo.names():
    raise FileNotFoundError(
      f"{str(source)!r} is neither the folder of a run (it would hold {CONFIG}), nor a file of "
      f"weights, nor a model of the zoo.{did_you_mean(str(source), zoo.names())} The zoo has {', '.join(zoo.names())}."
    )
  name = bundled.current(str(source))
  if name in bundled.names():
    return Loaded(*zoo.load(name, **changes), None, f"{name}, as it comes with the package")
  warn_untrained(name)
  return untrained(name, seed=seed, **changes)


def untrained(name: str, *, seed: int = 0, **changes: Any) -> Loaded:
  """Returns a model of the zoo with random weights.

  Args:
    name: Of the zoo, such as `"rvm/nano"`.
    seed: Of the weights.
    changes: Fields of the model's config to change.

  Raises:
    ValueError: There is no such model, or no such field.
  """
  model = zoo.build(changed(zoo.config(name), changes))
  params = model.init(jax.random.PRNGKey(seed), blank_tick(model))
  return Loaded(model, params, None, f"{name}, untrained")


def fitting(readout: Readout, learner: ReadoutLearner[Any], source: str | pathlib.Path) -> PyTree:
  """Returns the parameters of a read-out from a file.

  Args:
    readout: As the file holds it.
    learner: The model with a read-out of its config.
    source: The file, for errors.

  Raises:
    ValueError: They do not fit, for example since an earlier version of this package wrote them.
  """
  tick = blank_tick(learner.model)
  expected = jax.eval_shape(learner.init_params, jax.random.key(0), tick)
  check_names(flatten(readout.params), flat_shapes(expected), source=f"{source}: its read-out")
  return readout.params


def warn_untrained(name: str) -> None:
  """Warns that a named model has random weights, and names the trained ones."""
  trackers = name in point_trackers.names()
  file = point_trackers.released(name) if trackers else zoo.released(name)
  trained = f"load {file} by its path" if file else f"bundled are {', '.join(bundled.names())}"
  warn(
    f"{name} has random weights, which is enough for a check but not for results. For trained "
    f"weights {trained}, or train it and load the run's folder. To want random weights, use "
    f"{'zoo.point_trackers' if trackers else 'perceiver_stream'}.build({name!r}) and its init.",
    UntrainedWarning,
  )


def watch(
  loaded: Loaded,
  windows: Iterable[Mapping[str, np.ndarray]],
  displacements: tuple[int, ...] = (),
  state: PyTree | None = None,
) -> Iterator[tuple[Mapping[str, np.ndarray], Outputs, PyTree]]:
  """Yields each window, `[T, B, ...]`, with the outputs of the model and its state after it.

  Observations that are not finite count as not valid, with one warning.

  Args:
    loaded: Model and parameters.
    windows: Successive windows of a stream, without overlap.
    displacements: Ticks ahead to predict; () predicts nothing.
    state: State to start from; None is the initial state.
  """
  unroll = lambda *args: loaded.model.unroll(*args, displacements)  # noqa: E731
  yield from _run(loaded, unroll, windows, state)


def watch_states(
  loaded: Loaded, windows: Iterable[Mapping[str, np.ndarray]], state: PyTree | None = None
) -> Iterator[tuple[Mapping[str, np.ndarray], PyTree, PyTree]]:
  """Yields each window with the states after each of its ticks and the state after it.

  Args:
    loaded: Model and parameters.
    windows: As in `watch`.
    state: As in `watch`.
  """
  yield from _run(loaded, loaded.model.observe, windows, state)


def _run(
  loaded: Loaded, run: Callable, windows: Iterable[Mapping[str, np.ndarray]], state: PyTree | None
) -> Iterator[tuple[Mapping[str, np.ndarray], Any, PyTree]]:
  """Yields each window, the result of `run(params, state, window)`, and the state after it."""
  model, params = loaded.model, loaded.params
  names, finite = set(model.modalities), NonFinite(model.modalities)
  for window in map(finite, windows):
    if state is None:
      state = model.initial_state(params, next(window[n] for n in names & set(window)).shape[1])
    known = {k: v for k, v in window.items() if not np.issubdtype(v.dtype, np.float64)}
    found, state = run(params, state, known)
    yield window, found, state


def ticks_left(window: Mapping[str, np.ndarray]) -> int:
  """Returns the number of ticks before all rows have ended; later ticks are padding."""
  ended = window.get("ended")
  return len(next(iter(window.values()))) if ended is None else int((~ended.all(axis=1)).sum())


def _load_run(folder: pathlib.Path, changes: Mapping[str, Any]) -> Loaded:
  config = read_config(folder)
  if isinstance(config.objective, ReadoutConfig):
    raise ValueError(
      f"{folder} trained a read-out of a model; perceiver-stream export writes both to a file."
    )
  model = zoo.build(config.model)
  init = objectives.make(model, config.objective).init_params
  if changes:
    learnt = flatten(template(model))
    config = dataclasses.replace(config, model=changed(config.model, changes))
    model = zoo.build(config.model)
    check_names(learnt, shapes(model), source=str(folder))
  trained, about = restore(folder, model, init)  # an objective may train more than the model
  return Loaded(model, {name: trained[name] for name in template(model)}, config, about)


def restore(folder: pathlib.Path, model: Model, init: Callable[..., PyTree]) -> tuple[PyTree, str]:
  """Returns the newest parameters of a run, and a description.

  Args:
    folder: Folder of the run.
    model: The model of the run.
    init: `(rng, observation) -> params`, of what was trained: `model.init`, or that of a read-out.

  Raises:
    CheckpointError: There is no complete checkpoint.
  """
  template = jax.eval_shape(init, jax.random.PRNGKey(0), blank_tick(model))
  restored, problems = checkpoint_files.newest_whole(
    folder.absolute() / CHECKPOINTS, {"params": template}
  )
  if restored is None:
    raise CheckpointError(f"{folder} has no checkpoint yet; let it train for longer.")
  about = f"{folder} after {restored.step} windows"
  if problems:
    about += f" (newer ones are damaged: {sorted(problems)})"
  return restored.trees["params"], about
