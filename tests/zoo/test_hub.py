"""Models on the Hugging Face Hub, from a cache folder and with a stand-in for the network."""

import importlib
import json
import pathlib
import shutil
import time
from types import SimpleNamespace
from typing import Any

import extras
import jax
import numpy as np
import pytest

import perceiver_stream
from perceiver_stream import zoo
from perceiver_stream.inference import model_loading
from perceiver_stream.models.mapping import flatten
from perceiver_stream.training.objectives.base import model_params
from perceiver_stream.zoo import configs, hub, loading

extras.need("huggingface_hub")
huggingface_hub: Any = importlib.import_module("huggingface_hub")
constants = importlib.import_module("huggingface_hub.constants")
errors: Any = importlib.import_module("huggingface_hub.errors")

NAME = "stream_perceiver/nano"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Returns a folder of `save`, and the parameters in it."""
  path = tmp_path_factory.mktemp("saved") / "mine"
  model = zoo.build(NAME)
  params = model.init(jax.random.key(0), loading.blank_tick(model))
  zoo.save(path, model, params)
  return path, params


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """Returns an empty cache of the Hub; the network is off."""
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  return tmp_path / "cache"


def put(cache: pathlib.Path, repository: str, folder: pathlib.Path) -> None:
  """Puts a folder's files into a cache as the Hub's own client stores them."""
  there = cache / f"models--{repository.replace('/', '--')}"
  snapshot = there / "snapshots" / COMMIT
  shutil.copytree(folder, snapshot)
  (there / "refs").mkdir()
  (there / "refs" / "main").write_text(COMMIT)


def same(one, other):
  one, other = flatten(one), flatten(other)
  assert set(one) == set(other)
  for name in one:
    np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_folder_has_weights_config_and_card(folder) -> None:
  path, params = folder
  assert sorted(p.name for p in path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
  content = json.loads((path / "config.json").read_text())
  assert content["library_name"] == "perceiver_stream"
  assert configs.from_json(json.dumps(content["config"])) == zoo.config(NAME)
  card = (path / "README.md").read_text()
  assert card.startswith("---\nlibrary_name: perceiver_stream\n")
  assert loading.read_card(path)["summary"] in card
  same(perceiver_stream.load(path)[1], params)


def test_a_card_that_was_edited_is_kept(folder, tmp_path) -> None:
  (tmp_path / "README.md").write_text("mine")
  model, params = zoo.load(folder[0])
  zoo.save(tmp_path, model, params)
  assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("ending", ["", "@main", f"@{COMMIT}", "/model.safetensors"])
def test_a_cached_model_loads_without_the_network(folder, cache, ending) -> None:
  put(cache, "someone/model", folder[0])
  address = f"hf://someone/model{ending}"
  same(perceiver_stream.load(address)[1], folder[1])
  loaded = model_loading.load(address)
  assert loaded.about == address and loaded.model.config == zoo.config(NAME)


@pytest.mark.parametrize("address", ["hf://someone/other", "hf://someone/model/other.safetensors"])
def test_what_is_not_cached_says_so_offline(folder, cache, address) -> None:
  put(cache, "someone/model", folder[0])
  with pytest.raises(FileNotFoundError, match=r"neither in the cache.*check the name and the net"):
    perceiver_stream.load(address)


@pytest.mark.parametrize(
  "address", ["hf://", "hf://model", "hf://a/b/../../c", "hf://a/b@", "hf://a/b c", "hf://../b"]
)
def test_what_is_no_address_is_refused(address) -> None:
  with pytest.raises(ValueError, match="is no address of a model; use hf://OWNER/NAME"):
    perceiver_stream.load(address)


class Network:
  """A stand-in for `hf_hub_download`: a folder behind a network, and an empty cache."""

  def __init__(self, folder: pathlib.Path):
    self.folder, self.calls, self.sizes, self.is_down = folder, [], {}, False

  def __call__(self, repository, file, *, revision=None, local_files_only=False, dry_run=False):
    if local_files_only:
      raise errors.LocalEntryNotFoundError("not cached")
    if self.is_down:
      raise errors.LocalEntryNotFoundError("no connection")
    if not (self.folder / file).is_file():
      raise errors.EntryNotFoundError(f"no {file}")
    if dry_run:
      return SimpleNamespace(file_size=self.sizes.get(file, 100))
    self.calls.append((repository, file, revision))
    return str(self.folder / file)


@pytest.fixture
def network(folder, monkeypatch) -> Network:
  there = Network(folder[0])
  monkeypatch.setattr(huggingface_hub, "hf_hub_download", there)
  return there


def test_a_download_takes_the_config_first_and_then_the_weights(folder, network) -> None:
  same(perceiver_stream.load("hf://someone/model@v1")[1], folder[1])
  files = ("config.json", "model.safetensors")
  assert network.calls == [("someone/model", file, "v1") for file in files]


def test_a_repository_without_a_config_loads_too(folder, network, tmp_path) -> None:
  shutil.copy(folder[0] / "model.safetensors", tmp_path)
  network.folder = tmp_path
  same(perceiver_stream.load("hf://someone/model")[1], folder[1])
  assert [file for _, file, _ in network.calls] == ["model.safetensors"]


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize(("size", "stated"), [(2**40, "1099511627776 bytes"), (None, "unknown")])
def test_large_files_are_not_downloaded(network, file, size, stated) -> None:
  network.sizes[file] = size
  with pytest.raises(ValueError, match=f"hf://someone/model/{file}: .*{stated}.* refused"):
    perceiver_stream.load("hf://someone/model")
  assert all(name != file for _, name, _ in network.calls)


def test_a_network_that_fails_is_an_error_and_not_a_missing_config(network) -> None:
  network.is_down = True
  with pytest.raises(FileNotFoundError, match=r"LocalEntryNotFoundError: no connection"):
    perceiver_stream.load("hf://someone/model")


def test_without_a_server_the_error_is_one_of_files(tmp_path, monkeypatch) -> None:
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
  monkeypatch.setattr(time, "sleep", lambda _: None)  # between the library's attempts, 23 s in all
  monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")  # a name that never resolves
  monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "https://hub.invalid/{repo_id}")
  with pytest.raises(FileNotFoundError, match="hf://a/b: model.safetensors of a/b is neither"):
    hub.fetch("hf://a/b")


def test_a_config_downloads_nothing() -> None:
  model = zoo.build(NAME)
  with pytest.raises(ValueError, match="weights='hf://a/b': a config names a file"):
    model_params(model, "hf://a/b")


class Api:
  """A stand-in for `huggingface_hub.HfApi`."""

  calls: list[Any] = []

  def __init__(self, **_):
    pass

  def create_repo(self, name, *, exist_ok):
    self.calls.append((name, exist_ok))

  def upload_folder(self, **what):
    self.calls.append(what)
    if what["repo_id"] == "me/refused":
      raise RuntimeError("403 Forbidden")


def test_saving_uploads_the_three_files(folder, tmp_path, monkeypatch) -> None:
  monkeypatch.setattr(huggingface_hub, "HfApi", Api)
  monkeypatch.setattr(Api, "calls", [])
  model, params = zoo.load(folder[0])
  zoo.save(tmp_path / "out", model, params, hub="me/mine@v1")
  assert Api.calls[0] == ("me/mine", True)
  what = Api.calls[1]
  assert what["repo_id"] == "me/mine" and what["revision"] == "v1"
  assert what["folder_path"] == tmp_path / "out"
  assert set(what["allow_patterns"]) == {p.name for p in (tmp_path / "out").iterdir()}
  assert "hf://me/mine@v1" in (tmp_path / "out" / "README.md").read_text()
  with pytest.raises(OSError, match=r"out is written, and was not uploaded to me/refused .*403"):
    zoo.save(tmp_path / "out", model, params, hub="me/refused")


def test_targets_that_cannot_be_are_refused_before_anything_is_written(folder, tmp_path) -> None:
  model, params = zoo.load(folder[0])
  run = tmp_path / "run"
  run.mkdir()
  (run / "config.json").write_text('{"seed": 0}')
  for target, repository, message in (
    ("a.safetensors", "me/mine", r"a.safetensors is one file, and me/mine gets a folder"),
    ("out", "mine", "is no address of a model"),
    ("out", "me/mine/x.npz", "'me/mine/x.npz' names a file"),
    ("a.npz", "", r"a.npz' must end in .safetensors, or be a folder"),
    ("run", "", "has a config.json of something else, such as a run"),
  ):
    with pytest.raises(ValueError, match=message):
      zoo.save(tmp_path / target, model, params, hub=repository)
  assert [p.name for p in tmp_path.iterdir()] == ["run"]
  assert (run / "config.json").read_text() == '{"seed": 0}'


def test_parts_of_an_address() -> None:
  assert hub.parse("hf://a/b") == ("a/b", None, "model.safetensors")
  assert hub.parse("hf://a/b.c@v1.0/sub/x.npz") == ("a/b.c", "v1.0", "sub/x.npz")
