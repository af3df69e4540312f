import importlib.util
import pathlib
import sys

import jax
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.models import mapping as translation
from perceiver_stream.models.rvm import weights as rvm_weights
from perceiver_stream.zoo import loading

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "convert.py"


@pytest.fixture
def convert(monkeypatch):
  spec = importlib.util.spec_from_file_location("convert", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)

  def run(*args):
    monkeypatch.setattr(sys, "argv", ["convert.py", *map(str, args)])
    module.main()

  return run


@pytest.fixture
def published(tmp_path):
  """A small file with the names of the released RVM."""
  config = zoo.config("rvm/nano")
  shapes = loading.template(zoo.build(config))
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
  path = tmp_path / "rvm.npz"
  np.savez(path, **translation.export_params(params, rvm_weights.rules(config)))
  return path, params


def test_converted_weights_are_the_weights(convert, published, tmp_path, capsys):
  path, params = published
  target = tmp_path / "rvm.safetensors"
  convert(path, f"--output={target}", "--set", "height=16", "width=16", "base_grid=(4,4)")
  assert f"{target}: rvm, " in capsys.readouterr().out
  model, back = zoo.load(target)
  assert (model.config.height, model.config.base_grid) == (16, (4, 4))
  jax.tree.map(np.testing.assert_array_equal, back, params)
  assert "Recurrent Video Masked" in loading.read_card(target)["paper"]


def test_mistakes_are_one_message(convert, published, tmp_path, capsys):
  path, _ = published
  with pytest.raises(SystemExit, match="is no|are no fields of the config"):
    convert(path, f"--output={tmp_path / 'x.safetensors'}", "--set", "wings=2")
  with pytest.raises(SystemExit):
    convert(path, f"--output={tmp_path / 'x.npz'}")
  assert "must end in .safetensors" in capsys.readouterr().err
  with pytest.raises(SystemExit):
    convert(path, f"--output={tmp_path / 'x.safetensors'}", "--set", "height")
  assert "'height' is not name=value" in capsys.readouterr().err
