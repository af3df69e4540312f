"""Loading and saving of models: our own files, and the published files of every family."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from perceiver_stream import zoo
from perceiver_stream.files import array_files, limits, parameter_files
from perceiver_stream.models.base import Model
from perceiver_stream.models.family import Card
from perceiver_stream.models.mapping import (
  Detected,
  Shape,
  check_names,
  flat_shapes,
  flatten,
  import_params,
  unflatten,
)
from perceiver_stream.utils.paths import user_path
from perceiver_stream.utils.renamed_fields import successor
from perceiver_stream.version import __version__
from perceiver_stream.zoo import bundled, configs
from perceiver_stream.zoo import hub as hub_files
from perceiver_stream.zoo.hugging_face import recognise_hugging_face
from perceiver_stream.zoo.published import detect

FORMAT = "perceiver_stream model 1"
READOUTS = "readouts/"  # prefix of the arrays and configs of read-outs in files


class Readout(NamedTuple):
  """A read-out trained on a model's frozen states.

  Attributes:
    config: Config that it is built from.
    params: Its parameters.
  """

  config: Any
  params: PyTree


def load(path: str | pathlib.Path, **changes: Any) -> tuple[Model, PyTree]:
  """Returns a model and its parameters from a file, or from bundled weights by name.

  Reads our own .safetensors, the flat .npz files of MooG and RVM, DeepMind's Perceiver pickles, and
  Hugging Face Perceivers (.safetensors with config.json in the same folder, or that folder).
  Nothing in a file is executed.

  Args:
    path: The file, a folder of `save` or of Hugging Face, an address of the Hugging Face Hub
      (`"hf://OWNER/NAME"`, see `zoo.hub.fetch`), or the name of bundled weights, such as
      `"stream_perceiver/tiny_world"`.
    changes: Fields of the model's config to change; for example those that a published file does
      not contain, such as `height`, `width` or `num_latents`.

  Raises:
    FileNotFoundError: There is no such file; the bundled names are listed.
    ValueError: The file has an unknown format, is damaged or hostile, or does not match the model:
      missing, extra and misshaped arrays are listed.
  """
  path = find(path)
  flat, metadata = parameter_files.read(path)
  if metadata.get("format") == FORMAT:
    return _load_ours(flat, metadata, path, changes)
  if metadata.get("format") == zoo.clip_encoders.FORMAT:
    raise ValueError(
      f"{path}: an encoder of clips, no recurrent model; load it with zoo.clip_encoders.load."
    )
  kind = array_files.kind_of(path)
  has_config = (path.parent / "config.json").is_file()
  if kind == "safetensors" and not has_config:
    raise ValueError(
      f"{path}: no config.json in its folder, and the file was not saved by this package "
      f"(its format is {metadata.get('format')!r}); put the model's config.json into the folder."
    )
  if kind in ("safetensors", "torch") and has_config:
    found = recognise_hugging_face(flat, path.parent / "config.json")
  else:
    found = detect(flat, str(path))
  return _build(found, flat, path, changes)


def find(path: str | pathlib.Path) -> pathlib.Path:
  """Returns the file for a path or a name of bundled weights.

  Raises:
    FileNotFoundError: There is no such file; the bundled names are listed.
  """
  file = hub_files.local_path(path)
  file = file / hub_files.WEIGHTS if file.is_dir() else file
  if file.is_file():
    return file
  if known := bundled.path_of(bundled.current(str(path))):
    return known
  raise FileNotFoundError(
    f"{file}: there is no such file, and no bundled weights of that name; bundled are "
    f"{', '.join(bundled.names())}."
  )


def save(
  path: str | pathlib.Path,
  model: Model,
  params: PyTree,
  *,
  card: Card | None = None,
  readouts: Mapping[str, Readout] | None = None,
  hub: str = "",
) -> None:
  """Writes parameters, config and card of a model of the zoo into one .safetensors file.

  Args:
    path: File to write, ending in .safetensors; or a folder, without an ending or one that exists: it
      gets `model.safetensors`, `config.json` and a card, as repositories of the Hugging Face Hub have.
    model: Model built by the zoo.
    params: Parameters of the model.
    card: Card to store; default: that of the model's family.
    readouts: Read-outs of its states, by name; see `load_readout`.
    hub: `OWNER/NAME` on the Hugging Face Hub, to upload the folder to; a new repository is public. ""
      uploads nothing.

  Raises:
    ValueError, ImportError: As `check_target`.
    OSError: The file cannot be written, or the repository cannot be reached.
  """
  path = check_target(path, hub)
  readouts = readouts or {}
  card = card or card_of(model)
  metadata = {
    "format": FORMAT,
    "version": __version__,
    "config": configs.to_json(model.config),
    "card": json.dumps(dataclasses.asdict(card) if card else {}),
    **{f"{READOUTS}{name}": configs.to_json(one.config) for name, one in readouts.items()},
  }
  arrays = dict(flatten(params))
  for name, one in readouts.items():
    arrays |= {f"{READOUTS}{name}/{k}": v for k, v in flatten(one.params).items()}
  if _is_file(path):
    array_files.write_safetensors(path, arrays, metadata)
    return
  path.mkdir(parents=True, exist_ok=True)
  array_files.write_safetensors(path / hub_files.WEIGHTS, arrays, metadata)
  hub_files.write_config_and_card(path, metadata["config"], json.loads(metadata["card"]), hub)
  if hub:
    hub_files.upload(path, hub)


def check_target(path: str | pathlib.Path, hub: str = "") -> pathlib.Path:
  """Returns the path that `save` would write to, after all checks that need no model.

  Args:
    path: As in `save`.
    hub: As in `save`.

  Raises:
    ValueError: It is neither a .safetensors file nor a folder, a folder of something else such as a
      run, or a file that is to be uploaded; or `hub` is no repository.
    ImportError: A repository is given, and `huggingface_hub` is not installed (extra `hub`).
  """
  path = user_path(path)
  if hub:
    hub_files.check_repository(hub)
  if _is_file(path):
    if hub:
      raise ValueError(
        f"save: {path} is one file, and {hub} gets a folder; give a path without .safetensors."
      )
  elif path.suffix and not path.is_dir():
    raise ValueError(
      f"save: target '{path}' must end in .safetensors, or be a folder (make one with an ending first)."
    )
  elif not hub_files.is_model_folder(path):
    raise ValueError(
      f"save: {path} has a config.json of something else, such as a run; give another folder."
    )
  return path


def _is_file(path: pathlib.Path) -> bool:
  return path.suffix == ".safetensors" and not path.is_dir()


def load_readout(path: str | pathlib.Path, name: str) -> Readout:
  """Returns the trained read-out of a model's states, from the model's file.

  Args:
    path: As in `load`; a file written by `save`.
    name: Name of the read-out, such as `"points"`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: The file has no read-out of that name.
  """
  file = find(path)
  flat, metadata = _read_file(file)
  start = f"{READOUTS}{name}"
  if start not in metadata:
    raise ValueError(
      f"{file}: holds no read-out '{name}', but {_readouts(metadata) or 'none'}; train one and write it with "
      f"perceiver-stream export."
    )
  config = configs.from_json(metadata[start], str(file))
  arrays = {k.removeprefix(f"{start}/"): v for k, v in flat.items() if k.startswith(f"{start}/")}
  return Readout(config, unflatten(jax.device_put(arrays)))


def readout_names(path: str | pathlib.Path) -> list[str]:
  """Returns the names of the read-outs in a model's file; raises as `load_readout` does."""
  return _readouts(_read_file(find(path))[1])


def _read_file(file: pathlib.Path) -> tuple[Any, dict[str, str]]:
  """Returns arrays and metadata of a file that `save` wrote; both are empty for other formats."""
  kind = array_files.kind_of(file)
  return array_files.read_safetensors(file) if kind == "safetensors" else ({}, {})


def _readouts(metadata: Mapping[str, str]) -> list[str]:
  return sorted(key.removeprefix(READOUTS) for key in metadata if key.startswith(READOUTS))


def read_config(path: str | pathlib.Path) -> Any:
  """Returns the config in a file written by `save`; None in a file of another format."""
  metadata = _read_file(find(path))[1]
  return configs.from_json(metadata["config"], str(path)) if "config" in metadata else None


def read_card(path: str | pathlib.Path) -> dict[str, str]:
  """Returns the card in a file written by `save`, as a dict."""
  _, metadata = array_files.read_safetensors(find(path))
  return limits.parse_json(metadata.get("card", "{}"), f"{path}: card")


def card_of(model: Model) -> Card | None:
  """Returns the card of a model's family; None if it has none."""
  kinds = {family.config: family.card for family in zoo.FAMILIES.values()}
  return kinds.get(type(model.config))


def blank_tick(model: Model, num_rows: int = 1) -> dict[str, np.ndarray]:
  """Returns one tick of zeros for all inputs of a model, `[B, ...]`."""
  read = {name: m.spec for name, m in model.modalities.items() if m.config.use_input}
  return {n: np.zeros((num_rows, *spec.shape), spec.dtype) for n, spec in read.items()}


def template(model: Model) -> PyTree:
  """Returns shapes and dtypes of a model's parameters, without creating them."""
  return jax.eval_shape(model.init, jax.random.key(0), blank_tick(model))


def shapes(model: Model) -> dict[str, Shape]:
  """Returns the shapes of a model's parameters by name, without creating them."""
  return flat_shapes(template(model))


def _load_ours(
  flat: array_files.Flat, metadata: dict[str, str], path: pathlib.Path, changes: dict[str, Any]
) -> tuple[Model, PyTree]:
  config = changed(configs.from_json(metadata.get("config", ""), str(path)), changes)
  model, params = _built(config, str(path))
  wanted = flat_shapes(params)
  flat = {name: x for name, x in flat.items() if not name.startswith(READOUTS)}
  check_names(flat, wanted, source=str(path))
  return model, unflatten(jax.device_put({name: flat[name] for name in wanted}))


def _build(
  found: Detected, flat: array_files.Flat, path: pathlib.Path, changes: dict[str, Any]
) -> tuple[Model, PyTree]:
  configs.check_sizes(found.config, str(path))
  config = changed(found.config, changes)
  model, wanted = _built(config, str(path))
  params = import_params(flat, wanted, found.rules(config), source=str(path), ignore=found.ignore)
  return model, jax.device_put(params)


def _built(config: Any, source: str) -> tuple[Model, PyTree]:
  """Returns a model and its template; ValueError if sizes from a file do not match each other."""
  try:
    model = zoo.build(config)
    return model, template(model)
  except (TypeError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
    raise ValueError(f"{source}: its config makes no model ({error}).") from error


def changed(config: Any, changes: Mapping[str, Any]) -> Any:
  """Returns a model's config with some fields changed.

  Raises:
    ValueError: The config has no such field; the fields are listed.
  """
  known = {field.name for field in dataclasses.fields(config)}
  for name in sorted(set(changes) - known):
    if new := successor(type(config), name):
      raise ValueError(f"load: {name} is now {new}; change it in the config, and build the model.")
  if unknown := set(changes) - known:
    raise ValueError(
      f"load: {sorted(unknown)} are no fields of the config; it has {sorted(known)}."
    )
  return dataclasses.replace(config, **changes)
