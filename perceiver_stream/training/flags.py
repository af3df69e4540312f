"""Experiments on the command line: `--config=online:tiny --config.stream.path=MY.mp4`."""

import contextlib
import dataclasses
import importlib.util
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from perceiver_stream.files.codec import unknown_key
from perceiver_stream.reporting.run_files import CONFIG
from perceiver_stream.training.config import read_config
from perceiver_stream.utils.paths import user_path
from perceiver_stream.utils.renamed_fields import successor
from perceiver_stream.utils.suggest import check_choice
from perceiver_stream.utils.warn import warn

FLAG = "--config"
PACKAGE = pathlib.Path(__file__).parents[1]
RENAMED = {"painters": "frame_predictors"}  # of configs, accepted until version 0.2
CONFIG_HELP = (
  "config of the package, as online:tiny, or Python file with get_config(variant); "
  "any of its fields: --config.FIELD=VALUE"
)


def config_files() -> dict[str, pathlib.Path]:
  """Returns the configs in the package, by name: of `configs`, and of model families."""
  files = {path.stem: path for path in PACKAGE.glob("configs/[!_]*.py")}
  files |= {path.parent.name: path for path in PACKAGE.glob("models/*/experiments.py")}
  return dict(sorted(files.items()))


def load_config(source: str, overrides: Sequence[str] = ()) -> Any:
  """Returns the experiment of `get_config(variant)` of a config.

  Args:
    source: A config of the package, `"online"`, or the path of a Python file, `"configs/mine.py"`;
      with or without a variant, `"online:tiny"`.
    overrides: Fields to set, `["--config.optimizer.learning_rate=3e-4"]`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: There is no such config, `get_config`, variant or field, or a value is not of the
      field's type.
  """
  name, _, variant = source.partition(":")
  path = _file_of(name)
  spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, "get_config"):
    raise ValueError(f"{FLAG}={source}: {path} has no function get_config(variant).")
  return changed(module.get_config(variant) if variant else module.get_config(), overrides)


def resume_config(run_dir: str, overrides: Sequence[str] = ()) -> Any:
  """Returns the experiment of a run, whose folder may have moved since.

  Args:
    run_dir: Folder of the run.
    overrides: Fields to set; see `load_config`.

  Raises:
    FileNotFoundError: There is no run.
    ValueError: Its config cannot be read, or a field cannot be set.
  """
  path = user_path(run_dir) / CONFIG
  if not path.is_file():
    raise FileNotFoundError(f"--resume={run_dir}: there is no run; {path} does not exist.")
  config = read_config(path.parent)
  config.run_dir = run_dir
  return changed(config, overrides)


def changed(config: Any, overrides: Sequence[str]) -> Any:
  """Returns a config with fields changed by arguments such as `--config.seed=1`.

  Raises:
    ValueError: An argument is none of these, the config has no such field (the nearest name is
      given), or a value is not of the field's type.
  """
  if not overrides:
    return config
  _strip_ranges(config)
  for argument in overrides:
    name = argument.partition("=")[0]
    if name.startswith((f"{FLAG}.", "--noconfig.")):
      check_key(config, name.partition(".")[2])
  values, argv = flags.FlagValues(), ["", *overrides]
  try:
    holder = config_flags.DEFINE_config_dataclass(
      "config", config, flag_values=values, sys_argv=argv
    )
    rest = values(argv)[1:]
  except flags.Error as error:
    raise ValueError(str(error)) from error
  if rest:
    raise ValueError(f"{rest[0]!r} is not an option; options look like {FLAG}.seed=1.")
  return holder.value


def check_key(config: Any, key: str, where: str = "config") -> None:
  """Raises ValueError, with the new or the nearest name, unless `config` has the dotted `key`."""
  name, _, rest = key.partition(".")
  if dataclasses.is_dataclass(config):
    valid = [f.name for f in dataclasses.fields(config)]
    inner = getattr(config, name, None)
  elif isinstance(config, Mapping):
    valid, inner = list(config), config.get(name)
  else:
    raise ValueError(f"{where} is a single value, {config!r}; it has no key {key!r}.")
  if name not in valid:
    if new := successor(type(config), name):
      raise ValueError(f"{where}.{name} is now {where}.{new}.")
    raise ValueError(unknown_key(f"{where}.{name}", valid))
  if rest:
    check_key(inner, rest, f"{where}.{name}")


def _strip_ranges(config: Any) -> None:
  """Leaves plain types in the fields of a config's classes, because config_flags has no `Annotated`.

  What `files.codec` checks is in the classes' annotations, which stay as they are.
  """
  if isinstance(config, Mapping):
    for value in config.values():
      _strip_ranges(value)
  elif dataclasses.is_dataclass(config):
    plain = {}
    # A class of the user's own may have annotations that are imported nowhere.
    with contextlib.suppress(NameError):
      plain = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
      field.type = plain.get(field.name, field.type)
      _strip_ranges(getattr(config, field.name))


def _file_of(name: str) -> pathlib.Path:
  """Returns the file of a config: its path, or the name of one in the package."""
  old = pathlib.PurePath(name).name.removesuffix(".py")
  if old in RENAMED and (old == name or not user_path(name).is_file()):
    warn(
      f"{FLAG}={old} is now {FLAG}={RENAMED[old]}, with another run_dir; resume an old run with "
      f"--resume=FOLDER. Version 0.2 will not know the old name.",
      FutureWarning,
    )
    name = RENAMED[old]
  if not name.endswith(".py"):
    check_choice(FLAG, name, config_files())
    return config_files()[name]
  path = user_path(name)
  if path.is_file():
    return path
  own = f" The package has {FLAG}={path.stem}." if path.stem in config_files() else ""
  if pathlib.PurePath(name) == pathlib.PurePath("configs", path.name) and own:
    warn(
      f"{FLAG}={name} is now {FLAG}={path.stem}; version 0.2 will not know the old path.",
      FutureWarning,
    )
    return config_files()[path.stem]
  nearby = sorted(str(p) for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
  raise FileNotFoundError(
    f"{FLAG}={name}: there is no file {path}.{own} Found there: {', '.join(nearby) or 'no config'}."
  )
