"""Experiments on the command line: `--config=configs/online.py:tiny --config.stream.path=MY.mp4`."""

import contextlib
import dataclasses
import importlib.util
import sys
import typing
from collections.abc import Mapping
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from perceiver_stream.files.codec import unknown_key
from perceiver_stream.training import resumed
from perceiver_stream.utils.options import NONE, current_names
from perceiver_stream.utils.paths import user_path

FLAG, RESUME = "--config", "--resume"
HELP = ("-h", "-help", "--help", "--helpshort")


def define_config(help_text: str) -> Any:
  """Defines the flag `--config` and all its `--config.a.b=…`; its `.value` is the experiment."""
  return config_flags.DEFINE_config_file("config", help_string=help_text)


def parse_flags(argv: list[str], *, renamed: Mapping[str, str] = NONE) -> list[str]:
  """Parses flags for `absl.app.run(main, flags_parser=parse_flags)`.

  A key that the config does not have ends the program with the nearest name. `--resume=RUN` is
  `--config` with the config of that run: the same keys can be set beside it. `--help` ends the
  program with success, which absl does not.

  Args:
    argv: The script's name and its arguments.
    renamed: New names of flags by old ones.
  """
  if any(arg.partition("=")[0] in HELP for arg in argv[1:]):
    app.usage(shorthelp=True, writeto_stdout=True)
    sys.exit(0)
  argv = [argv[0], *current_names(argv[1:], renamed)]
  try:
    argv = with_config_of_run(argv)
    check_keys(argv)
  except (OSError, ValueError) as error:
    sys.exit(f"{user_path(argv[0]).name}: {error}")
  rest = app.parse_flags_with_usage(argv)
  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every file it moves
  return rest


def with_config_of_run(argv: list[str]) -> list[str]:
  """Returns the arguments with `--config` where they have `--resume` alone.

  Raises:
    ValueError: Both are given.
  """
  runs = [_value(argv, i) for i, arg in enumerate(argv) if arg.split("=")[0] == RESUME]
  if not runs or not runs[-1]:
    return argv
  if any(arg.split("=")[0] == FLAG for arg in argv):
    raise ValueError(f"give either {FLAG}=configs/online.py:tiny or {RESUME}=RUN_DIR, not both.")
  return [argv[0], f"{FLAG}={resumed.__file__}:{runs[-1]}", *argv[1:]]


def load_config(path_and_variant: str) -> Any:
  """Returns what the config file's `get_config(variant)` makes.

  Args:
    path_and_variant: `"configs/online.py"` or `"configs/online.py:tiny"`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It has no `get_config`, or no such variant.
  """
  name, _, variant = path_and_variant.partition(":")
  path = user_path(name)
  if not path.is_file():
    beside = sorted(str(p) for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
    raise FileNotFoundError(
      f"{FLAG}={path_and_variant}: there is no file {path}. "
      f"Found there: {', '.join(beside) or 'no config'}."
    )
  spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, "get_config"):
    raise ValueError(f"{FLAG}={path_and_variant}: {path} has no function get_config(variant).")
  return module.get_config(variant) if variant else module.get_config()


def check_keys(argv: list[str]) -> None:
  """Raises ValueError if an override names a key that the config file's config does not have."""
  files = [_value(argv, i) for i, arg in enumerate(argv) if arg.split("=")[0] == FLAG]
  if not files:
    return
  config = load_config(files[-1])
  _strip_ranges(config)
  for arg in argv[1:]:
    name = arg.split("=")[0]
    if name.startswith((f"{FLAG}.", "--noconfig.")):
      check_key(config, name.removeprefix("--noconfig.").removeprefix(f"{FLAG}."))


def check_key(config: Any, key: str, where: str = "config") -> None:
  """Raises ValueError, with the nearest name, unless `config` has the dotted `key`."""
  name, _, rest = key.partition(".")
  if dataclasses.is_dataclass(config):
    valid = [f.name for f in dataclasses.fields(config)]
    inner = getattr(config, name, None)
  elif isinstance(config, Mapping):
    valid, inner = list(config), config.get(name)
  else:
    raise ValueError(f"{where} is a single value, {config!r}; it has no key {key!r}.")
  if name not in valid:
    raise ValueError(unknown_key(f"{where}.{name}", valid))
  if rest:
    check_key(inner, rest, f"{where}.{name}")


def _strip_ranges(config: Any) -> None:
  """Leaves plain types in the fields of a config's classes: config_flags knows no `Annotated`.

  What `files.codec` checks is in the classes' annotations, which stay as they are.
  """
  if isinstance(config, Mapping):
    for value in config.values():
      _strip_ranges(value)
  elif dataclasses.is_dataclass(config):
    plain = {}
    with contextlib.suppress(NameError):  # of one's own class, that names what is imported nowhere
      plain = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
      field.type = plain.get(field.name, field.type)
      _strip_ranges(getattr(config, field.name))


def _value(argv: list[str], index: int) -> str:
  name, equals, value = argv[index].partition("=")
  return value if equals else argv[index + 1]
