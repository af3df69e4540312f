"""Models on the Hugging Face Hub, from a cache folder and with a stand-in for the network."""

import importlib
import json
import pathlib
import shutil
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


def test_a_download_takes_weights_and_config_and_checks_the_size(
  folder, cache, monkeypatch
) -> None:
  asked, size = [], [100]

  def download(repository: str, file: str, *, revision=None, local_files_only=False) -> str:
    asked.append((repository, file, revision, local_files_only))
    if local_files_only:
      raise errors.LocalEntryNotFoundError("not cached")
    return str(folder[0] / file)

  monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
  monkeypatch.setattr(
    huggingface_hub, "get_hf_file_metadata", lambda url: SimpleNamespace(size=size[0])
  )
  same(perceiver_stream.load("hf://someone/model@v1")[1], folder[1])
  assert asked == [
    ("someone/model", "model.safetensors", "v1", True),
    ("someone/model", "model.safetensors", "v1", False),
    ("someone/model", "config.json", "v1", False),
  ]
  size[0] = 2**40
  with pytest.raises(ValueError, match=r"hf://someone/model: 1099511627776 bytes is more than"):
    perceiver_stream.load("hf://someone/model")


def test_saving_uploads_the_three_files(folder, tmp_path, monkeypatch) -> None:
  calls = []

  class Api:
    def __init__(self, **_):
      pass

    def create_repo(self, name, *, exist_ok):
      calls.append((name, exist_ok))

    def upload_folder(self, **what):
      calls.append(what)

  monkeypatch.setattr(huggingface_hub, "HfApi", Api)
  model, params = zoo.load(folder[0])
  zoo.save(tmp_path / "out", model, params, hub="me/mine")
  assert calls[0] == ("me/mine", True)
  assert calls[1]["repo_id"] == "me/mine" and calls[1]["folder_path"] == tmp_path / "out"
  assert set(calls[1]["allow_patterns"]) == {p.name for p in (tmp_path / "out").iterdir()}
  with pytest.raises(ValueError, match=r"a.safetensors is one file, and me/mine gets a folder"):
    zoo.save(tmp_path / "a.safetensors", model, params, hub="me/mine")
  with pytest.raises(ValueError, match="is no address of a model"):
    zoo.save(tmp_path / "out", model, params, hub="mine")


def test_parts_of_an_address() -> None:
  assert hub.parse("hf://a/b") == ("a/b", None, "model.safetensors")
  assert hub.parse("hf://a/b.c@v1.0/sub/x.npz") == ("a/b.c", "v1.0", "sub/x.npz")
