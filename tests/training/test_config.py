import dataclasses
import json

import absl.flags
import pytest
from ml_collections import config_flags
from training_fakes import make_config

from perceiver_stream import zoo
from perceiver_stream.files.codec import from_dict, to_dict
from perceiver_stream.streams import synthetic
from perceiver_stream.training import flags
from perceiver_stream.training.config import (
  CHANGEABLE,
  FREE,
  ExperimentConfig,
  differences,
  from_json,
  logged_changes,
  to_json,
)
from perceiver_stream.utils.suggest import check_name


@pytest.fixture
def config():
  config = make_config("runs/x", seed=3)
  config.model = zoo.config("stream_perceiver/nano")
  return config


def test_json_round_trip(config):
  again = from_json(to_json(config))
  assert again == config and type(again.model) is type(config.model)
  assert isinstance(again.model.displacements, tuple)
  assert to_json(again) == to_json(config)


@pytest.mark.parametrize(
  "place, key, text",
  [
    ((), "sead", "config has no key 'sead'. Did you mean 'seed'"),
    (("optimizer",), "learning_rat", "config.optimizer has no key .* 'learning_rate'"),
    (("model", "core"), "latent_dims", "config.model.core has no key .* 'latent_dim'"),
  ],
)
def test_unknown_keys_are_refused_with_the_nearest(config, place, key, text):
  data = to_dict(config)
  inner = data
  for name in place:
    inner = inner[name]
  inner[key] = 1
  with pytest.raises(ValueError, match=text):
    from_dict(data)
  with pytest.raises(ValueError, match=text):
    flags.check_key(config, ".".join((*place, key)))


def test_what_is_no_experiment_is_refused(config):
  with pytest.raises(ValueError, match="config: a Config, expected that of an experiment"):
    from_json(json.dumps(to_dict(config.model)))
  with pytest.raises(ValueError, match="config: a dict, expected that of an experiment"):
    from_json("{}")


@pytest.mark.parametrize("value", [None, True, -1, 1.5, 1e18, 10**18, "x", [], {}])
def test_odd_values_of_run_configs_name_the_field(config, value):
  config.stream = synthetic.Config()
  for place in (("num_rows",), ("checkpoints", "every"), ("stream", "height"), ("prefetch",)):
    data = to_dict(config)
    inner = data
    for name in place[:-1]:
      inner = inner[name]
    inner[place[-1]] = value
    with pytest.raises(ValueError, match=rf"{place[-1]}\b"):
      from_json(json.dumps(data))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, True, "0.1", None])
def test_numbers_that_are_none_are_refused_before_a_run_starts(config, value):
  config.optimizer.learning_rate = value
  with pytest.raises(ValueError, match="config.optimizer.learning_rate is .*; expected a number"):
    config.validate()


def test_differences_name_the_keys_and_leave_out_what_may_change(config):
  other = from_json(to_json(config))
  other.run_dir, other.max_windows, other.logging.print_every = "y", 9, 1
  assert differences(to_dict(config), to_dict(other)) == []
  other.optimizer.b1, other.model.core.num_latents = 0.5, 99
  assert differences(to_dict(config), to_dict(other)) == [
    "model.core.num_latents: 8 -> 99",
    "optimizer.b1: 0.9 -> 0.5",
  ]
  assert logged_changes(to_dict(config), to_dict(other)) == {}


@pytest.mark.parametrize("key", CHANGEABLE)
def test_what_may_change_is_there_and_its_change_is_told(config, key):
  name = key.removeprefix("optimizer.")
  other = from_json(to_json(config))
  before, after = getattr(config.optimizer, name), {"schedule": "cosine"}.get(name, 7)
  setattr(other.optimizer, name, after)
  assert differences(to_dict(config), to_dict(other)) == []
  assert logged_changes(to_dict(config), to_dict(other)) == {key: f"{before} -> {after}"}


@pytest.mark.parametrize("key", FREE)
def test_what_nothing_depends_on_is_a_field(config, key):
  assert hasattr(config, key)


def test_a_field_that_was_added_since_has_its_default(config):
  old = to_dict(config)
  del old["weights"], old["model"]["core"]["identity"]
  assert differences(old, to_dict(config)) == []
  config.weights, config.model.core.identity = "moog/tiny_world", True
  found = ["model.core.identity: False -> True", "weights:  -> moog/tiny_world"]
  assert differences(old, to_dict(config)) == found


@pytest.mark.parametrize(
  "fields, text",
  [
    ({"num_rows": 0}, "config.num_rows is 0; expected a whole number from 1 to 65536"),
    ({"max_windows": -1}, "config.max_windows is -1; expected a whole number from 0 to"),
    ({"run_dir": ""}, "run_dir is empty"),
  ],
)
def test_wrong_values_are_named(fields, text):
  with pytest.raises(ValueError, match=text):
    ExperimentConfig(**({"model": None, "stream": None} | fields))


def test_validate_sees_overrides_of_the_parts(config):
  config.optimizer.cadence = 0
  with pytest.raises(ValueError, match="optimizer.cadence=0"):
    config.validate()
  config.optimizer.cadence, config.logging.print_every = 1, 0
  with pytest.raises(ValueError, match="print_every=0"):
    config.validate()


@pytest.mark.parametrize(
  ("argv", "given"),
  [
    (["t", "--config=a.py", "--config.seed=1"], None),
    (["t", "--resume=", "--config=a.py"], None),
    (["t", "--resume=runs/a:b", "--config.seed=1"], "runs/a:b"),
    (["t", "--config.seed=1", "--resume", "runs/a"], "runs/a"),
  ],
)
def test_resume_is_the_config_of_the_run_to_which_fields_are_added(argv, given):
  got = flags.with_config_of_run(argv)
  if given is None:
    assert got == argv
  else:
    assert got[1].startswith("--config=") and got[1].endswith(f"resumed.py:{given}")
    assert [argv[0], *argv[1:]] == [got[0], *got[2:]]


def test_resume_beside_a_config_and_of_no_run_are_errors(tmp_path):
  with pytest.raises(ValueError, match="give either --config=.* or --resume=RUN_DIR, not both"):
    flags.with_config_of_run(["t", "--resume=a", "--config=b"])
  argv = flags.with_config_of_run(["t", f"--resume={tmp_path}", "--config.seed=1"])
  with pytest.raises(FileNotFoundError, match="there is no run; .*config.json does not exist"):
    flags.check_keys(argv)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
def test_fields_set_beside_resume_are_those_of_the_run(config, tmp_path):
  (tmp_path / "config.json").write_text(to_json(config))
  argv = flags.with_config_of_run(["t", f"--resume={tmp_path}", "--config.max_windows=7"])
  argv.append("--config.model.core.num_latents=4")
  flags.check_keys(argv)
  values = absl.flags.FlagValues()
  holder = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
  absl.flags.DEFINE_string("resume", "", "", flag_values=values)
  values(argv)
  assert holder.value.model.core.num_latents == 4
  assert holder.value.max_windows == 7 and holder.value.run_dir == str(tmp_path)
  config.model.core.num_latents = 4
  assert to_dict(holder.value)["model"] == to_dict(config)["model"]
  with pytest.raises(ValueError, match="no key 'max_window'.*'max_windows'"):
    flags.check_keys([*argv, "--config.max_window=7"])


def test_keys_reach_into_dicts_and_stop_at_values(config):
  flags.check_key(config, "model.modalities.pixels.patch")
  with pytest.raises(ValueError, match="config.model.modalities has no key 'pixel'.*'pixels'"):
    flags.check_key(config, "model.modalities.pixel.patch")
  with pytest.raises(ValueError, match="config.seed is a single value, 3; it has no key 'a'"):
    flags.check_key(config, "seed.a")


def test_config_files_are_loaded_with_their_variant(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text("def get_config(variant='a'):\n  return variant * 2\n")
  assert flags.load_config(str(path)) == "aa"
  assert flags.load_config(f"{path}:tiny") == "tinytiny"
  path.write_text("")
  with pytest.raises(ValueError, match="has no function get_config"):
    flags.load_config(str(path))
  with pytest.raises(
    FileNotFoundError, match="there is no file .*other.py. Found there: .*mine.py"
  ):
    flags.load_config(str(tmp_path / "other.py"))


def test_command_lines_are_checked_against_their_config_file(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "from perceiver_stream.training.optimizers import OptimizerConfig\n"
    "def get_config(variant=''):\n  return OptimizerConfig()\n"
  )
  flags.check_keys(["x", f"--config={path}", "--config.cadence=2", "--noconfig.name"])
  flags.check_keys(["x", "--other"])
  for argv in (
    ["x", f"--config={path}", "--config.cadense=2"],
    ["x", "--config", str(path), "--config.cadense", "2"],
  ):
    with pytest.raises(ValueError, match="config has no key 'cadense'. Did you mean 'cadence'"):
      flags.check_keys(argv)
  with pytest.raises(SystemExit, match="train.py: config has no key 'cadense'"):
    flags.parse_flags(["scripts/train.py", f"--config={path}", "--config.cadense=2"])


def test_every_field_of_the_experiment_is_documented():
  doc = ExperimentConfig.__doc__ or ""
  assert all(f"    {f.name}: " in doc for f in dataclasses.fields(ExperimentConfig))


def test_the_json_is_readable(config):
  assert json.loads(to_json(config))["optimizer"]["name"] == "adamw"


def test_names_without_a_near_one_are_listed():
  with pytest.raises(ValueError, match="^thing='zzz' is not known. Valid: a, b.$"):
    check_name("thing", "zzz", ["a", "b"])
