import dataclasses
import json

import pytest
from training_fakes import make_config

from perceiver_stream import streams, zoo
from perceiver_stream.files.codec import from_dict, to_dict
from perceiver_stream.streams import live, synthetic
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
from perceiver_stream.utils.suggest import check_choice


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


def test_files_have_no_credentials_and_a_run_is_resumed_with_them(config):
  config.stream = live.Config(source="rtsp://me:secret@camera/1?token=pin")
  text = to_json(config)
  assert "rtsp://***@camera/1?***" in text and "secret" not in text and "pin" not in text
  assert differences(json.loads(text), to_dict(config)) == []
  assert differences(to_dict(config), to_dict(config)) == []  # of a run of an earlier version
  other = dataclasses.replace(config, stream=live.Config(source="rtsp://me:secret@door/1"))
  (changed,) = differences(json.loads(text), to_dict(other))
  assert changed == "stream.source: rtsp://***@camera/1?*** -> rtsp://***@door/1"
  for address in ("rtsp://me:secret@camera/1", "http://camera/video?channel=2"):
    config.stream = live.Config(source=address)
    with pytest.raises(ValueError, match="without its user, password or query, .* give the whole"):
      streams.open_rows(from_json(to_json(config)).stream)


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
  del old["weights"], old["model"]["core"]["latent_embedding"]
  assert differences(old, to_dict(config)) == []
  config.weights, config.model.core.latent_embedding = "moog/tiny_world", "learned"
  found = ["model.core.latent_embedding: none -> learned", "weights:  -> moog/tiny_world"]
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


def test_fields_set_beside_resume_are_those_of_the_run(config, tmp_path):
  with pytest.raises(FileNotFoundError, match="there is no run; .*config.json does not exist"):
    flags.resume_config(str(tmp_path), ["--config.seed=1"])
  (tmp_path / "config.json").write_text(to_json(config))
  changes = ["--config.max_windows=7", "--config.model.core.num_latents", "4"]
  found = flags.resume_config(str(tmp_path), changes)
  assert found.model.core.num_latents == 4
  assert found.max_windows == 7 and found.run_dir == str(tmp_path)
  config.model.core.num_latents = 4
  assert to_dict(found)["model"] == to_dict(config)["model"]
  with pytest.raises(ValueError, match="no key 'max_window'.*'max_windows'"):
    flags.resume_config(str(tmp_path), [*changes, "--config.max_window=7"])


def test_keys_reach_into_dicts_and_stop_at_values(config):
  flags.check_key(config, "model.modalities.pixels.patch")
  with pytest.raises(ValueError, match="config.model.modalities has no key 'pixel'.*'pixels'"):
    flags.check_key(config, "model.modalities.pixel.patch")
  with pytest.raises(ValueError, match="config.seed is a single value, 3; it has no key 'a'"):
    flags.check_key(config, "seed.a")


def test_config_files_are_loaded_with_their_variant(tmp_path):
  path = tmp_path / "online.py"
  path.write_text("def get_config(variant='a'):\n  return variant * 2\n")
  assert flags.load_config(str(path)) == "aa"
  assert flags.load_config(f"{path}:tiny") == "tinytiny"
  path.write_text("")
  with pytest.raises(ValueError, match="has no function get_config"):
    flags.load_config(str(path))
  with pytest.raises(FileNotFoundError, match="no file .*other.py. Found there: .*online.py"):
    flags.load_config(str(tmp_path / "other.py"))
  path.unlink()
  with pytest.raises(FileNotFoundError, match="online.py. The package has --config=online. Found"):
    flags.load_config(f"{path}:tiny")


def test_a_config_that_moved_to_its_family_is_found_at_its_old_path():
  with pytest.warns(FutureWarning, match="--config=configs/moog.py is now --config=moog; version"):
    assert flags.load_config("configs/moog.py:nano") == flags.load_config("moog:nano")


@pytest.mark.parametrize("folder", ["mine/configs", "./mine/configs", "/none/configs"])
def test_a_file_that_is_missing_elsewhere_is_not_the_one_of_the_package(folder):
  with pytest.raises(FileNotFoundError, match="no file .*online.py. The package has --config=onl"):
    flags.load_config(f"{folder}/online.py:nano")


def test_configs_of_the_package_go_by_name():
  assert flags.load_config("synthetic:nano") == flags.load_config("configs/synthetic.py:nano")
  assert flags.load_config("synthetic").run_dir == "runs/synthetic_tiny"
  with pytest.raises(ValueError, match="--config='onlin' is not known. Did you mean 'online'"):
    flags.load_config("onlin:tiny")


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (["--config.optimizer.cadense=2"], "config.optimizer has no key 'cadense'.*'cadence'"),
    (["--config.optimizer.cadense", "2"], "config.optimizer has no key 'cadense'"),
    (["--config.optimizer.cadence=two"], "invalid literal for int|cadence=two"),
    (["--confg.seed=2"], "Unknown command line flag 'confg.seed'"),
    (["--config.seed=2", "seed"], "'seed' is not an option; options look like --config.seed=1"),
  ],
)
def test_overrides_that_do_not_fit_are_one_message(config, overrides, message):
  with pytest.raises(ValueError, match=message):
    flags.changed(config, overrides)


def test_overrides_have_the_types_of_their_fields(config):
  overrides = ["--config.optimizer.cadence=2", "--noconfig.logging.use_report"]
  overrides += ["--config.model.displacements=(1, 2)", "--config.run_dir=a=b"]
  found = flags.changed(config, overrides)
  assert found.optimizer.cadence == 2 and found.run_dir == "a=b"
  assert found.logging.use_report is False and found.model.displacements == (1, 2)
  found = flags.changed(config, ["--config.optimizer.learning_rate=1", "--config.seed=7"])
  assert isinstance(found.optimizer.learning_rate, float) and found.seed == 7


def test_every_field_of_the_experiment_is_documented():
  doc = ExperimentConfig.__doc__ or ""
  assert all(f"    {f.name}: " in doc for f in dataclasses.fields(ExperimentConfig))


def test_the_json_is_readable(config):
  assert json.loads(to_json(config))["optimizer"]["name"] == "adamw"


def test_names_without_a_near_one_are_listed():
  with pytest.raises(ValueError, match="^thing='zzz' is not known. Valid: a, b.$"):
    check_choice("thing", "zzz", ["a", "b"])
