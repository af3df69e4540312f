"""Files of trained models and their read-outs, exported from runs and loaded."""

import dataclasses
import pathlib

from jaxtyping import PyTree

from perceiver_stream import zoo
from perceiver_stream.inference.model_loading import fitting, restore
from perceiver_stream.models import dense_readout, point_readout
from perceiver_stream.models.dense_readout import Reader
from perceiver_stream.models.family import Card
from perceiver_stream.models.mapping import check_names, flatten
from perceiver_stream.training import objectives
from perceiver_stream.training.config import read_config
from perceiver_stream.training.objectives.point_tracking import TrackerLearner
from perceiver_stream.training.objectives.readout_base import (
  ReadoutLearner,
  ReadoutObjective,
  why_unreadable,
)
from perceiver_stream.utils.paths import user_path
from perceiver_stream.zoo.loading import (
  Readout,
  card_of,
  check_target,
  find,
  load_readout,
  shapes,
)


def load_tracker(
  name_or_path: str | pathlib.Path, num_slots: int = 64, follows: str = "points"
) -> tuple[TrackerLearner, PyTree]:
  """Returns a frozen model with a trained tracker on its states, and the tracker's parameters.

  Args:
    name_or_path: A file that `export` wrote, or the name of bundled weights.
    num_slots: Points tracked at a time.
    follows: `"points"` or `"boxes"`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: The file has no model of this package, or no tracker.
  """
  file = find(name_or_path)
  model, params = zoo.load(file)
  if reason := why_unreadable(model):
    raise ValueError(f"{name_or_path} cannot track {follows}. {reason}")
  readout = load_readout(file, follows)
  tracker = point_readout.build(readout.config)
  learner = TrackerLearner(model, params, tracker, num_slots=num_slots)
  return learner, fitting(readout, learner, file)


def load_reader(name_or_path: str | pathlib.Path) -> tuple[ReadoutLearner[Reader], PyTree]:
  """Returns a frozen model with a trained dense read-out, and the read-out's parameters.

  Args:
    name_or_path: As in `load_tracker`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: The file has no model of this package, or no dense read-out.
  """
  file = find(name_or_path)
  model, params = zoo.load(file)
  readout = load_readout(file, "dense")
  learner = ReadoutLearner(model, params, dense_readout.build(readout.config))
  return learner, fitting(readout, learner, file)


def export(
  run: str | pathlib.Path,
  target: str | pathlib.Path,
  note: str = "",
  name: str = "",
  hub: str = "",
) -> str:
  """Writes the newest parameters of a run into one file or a folder, and returns a description.

  The file holds the model, and the read-out if the run trained one.

  Args:
    run: Folder of the run.
    target: Path of the file, ending in .safetensors, or of a folder without an ending; see `zoo.save`.
    note: Text for the card about the training.
    name: Of the zoo, for the config of the file, for example with more latents than the run; "" is
      the config of the run.
    hub: `OWNER/NAME` on the Hugging Face Hub, to upload the folder to; "" uploads nothing.

  Raises:
    CheckpointError: The run has no complete checkpoint.
    ValueError: The target has another ending, or the parameters do not fit the model of that name.
  """
  folder, target = user_path(run), check_target(target, hub)
  config = read_config(folder)
  model = zoo.build(config.model)
  objective = objectives.make(model, config.objective)
  params, about = restore(folder, model, objective.init_params)
  readouts: dict[str, Readout] = {}
  if isinstance(objective, ReadoutObjective):
    params, readout = objective.learner.split(params)
    readouts[objective.readout_name] = Readout(config.objective.readout, readout)
  card = card_of(model) or Card(summary="", paper="", inputs="")
  card = dataclasses.replace(card, weights=note) if note else card
  if name:
    model = zoo.build(name)
    check_names(flatten(params), shapes(model), source=str(run))
  zoo.save(target, model, params, card=card, readouts=readouts, hub=hub)
  return about
