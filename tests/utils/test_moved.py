"""Modules and names of earlier versions still work for one version, with a warning at the caller's line."""

import importlib
import subprocess
import sys

import pytest

from perceiver_stream import inference, training
from perceiver_stream.files import codec
from perceiver_stream.training import LogConfig
from perceiver_stream.utils.moved import MovedModules

TABLES = [finder.places for finder in sys.meta_path if isinstance(finder, MovedModules)]
PLACES = {old: new for table in TABLES for old, new in table.items()}
NAMES = (
  "evaluate",
  "extract_latents",
  "load",
  "predict_movie",
  "read_shards",
  "untrained",
  "watch",
)


@pytest.mark.parametrize("old", PLACES)
def test_a_moved_module_is_found_under_its_old_name(old: str) -> None:
  new = importlib.import_module(f"perceiver_stream.{PLACES[old]}")
  spec = new.__spec__
  sys.modules.pop(f"perceiver_stream.{old}", None)
  with pytest.warns(DeprecationWarning, match=f"{old} is now perceiver_stream.{PLACES[old]};"):
    assert importlib.import_module(f"perceiver_stream.{old}") is new
  assert new.__spec__ is spec and new.__name__ == f"perceiver_stream.{PLACES[old]}"


@pytest.mark.parametrize("name", NAMES)
def test_names_of_training_that_are_now_of_inference(name: str) -> None:
  with pytest.warns(
    DeprecationWarning, match=f"training.{name} is now .*inference.{name}"
  ) as found:
    assert getattr(training, name) is getattr(inference, name)
  assert found[0].filename == __file__


def test_the_warning_of_an_import_is_shown_at_the_line_of_the_script() -> None:
  code = "from perceiver_stream.reporting import logs\nfrom perceiver_stream.training.logs import JsonLines\nassert JsonLines is logs.JsonLines"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert "<string>:2: DeprecationWarning: perceiver_stream.training.logs is now" in done.stderr


def test_a_module_that_never_was_is_not_found() -> None:
  with pytest.raises(ModuleNotFoundError, match="training.no_such"):
    importlib.import_module("perceiver_stream.training.no_such")


def test_a_config_of_a_run_of_an_earlier_version_names_the_old_module() -> None:
  old = {"_type": "perceiver_stream.training.logs.LogConfig", "print_every": 3}
  assert codec.from_dict(old) == LogConfig(print_every=3)
  assert codec.type_name(LogConfig) == "perceiver_stream.training.LogConfig"
