"""Programs run without this package, and give what `model.step` gives."""

import json
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.inference.jax_export import FORMAT, export_step
from perceiver_stream.zoo.loading import blank_tick

PAGE = pathlib.Path(__file__).parents[2] / "docs/checkpoints.md"
MODELS = ("image_rnn/nano", "stream_perceiver/nano")
ROWS, TICKS = 2, 2
# Follows the block of the page: more ticks, and everything kept.
MORE = """
ticks = np.load("ticks.npz")
state = first
kept = {}
for n in range(2):
  inputs = {name: ticks[f"{n}/{name}"] for name in spec["inputs"]}
  outputs, state = step(params, state, inputs)
  kept |= {f"{n}/{name}": np.asarray(x) for name, x in outputs["predictions"].items()}
  kept[f"{n}/latents"] = np.asarray(outputs["latents"])
np.savez("outputs.npz", **kept)
assert not [n for n, m in sys.modules.items() if m and n.startswith(("perceiver_stream.", "haiku"))]
"""


def observations(model):
  """Returns ticks with a row that has no image at the second."""
  rng, ticks = np.random.default_rng(0), []
  for number in range(TICKS):
    tick = {}
    for name, zeros in blank_tick(model, ROWS).items():
      tick[name] = (rng.random(zeros.shape) * (255 if zeros.dtype == np.uint8 else 1)).astype(
        zeros.dtype
      )
      tick[f"{name}_valid"] = np.array([True, number == 0])
    ticks.append(tick | {"is_first": np.full(ROWS, number == 0)})
  return ticks


@pytest.mark.parametrize("name", MODELS)
def test_the_page_runs_a_program_without_this_package(name, tmp_path):
  model = zoo.build(name)
  params = model.init(jax.random.key(0), blank_tick(model, ROWS))
  spec = export_step(model, params, tmp_path / "model.npz", batch_size=ROWS, note="random")
  ticks = observations(model)
  np.savez(
    tmp_path / "ticks.npz", **{f"{n}/{k}": v for n, t in enumerate(ticks) for k, v in t.items()}
  )
  block = re.search(r"```python run_exported.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
  assert block
  hidden = "import sys\nsys.modules['perceiver_stream'] = sys.modules['haiku'] = None\n"
  code = block[1].replace("inputs = {", "first = state\ninputs = {", 1)
  done = subprocess.run(
    [sys.executable, "-c", hidden + code + MORE], cwd=tmp_path, capture_output=True, text=True
  )
  assert not done.returncode, done.stderr
  assert str([*model.displacements]) in done.stdout
  found, state = np.load(tmp_path / "outputs.npz"), model.initial_state(params, ROWS)
  for n, tick in enumerate(ticks):
    outputs, state = model.step(params, state, tick)
    for key, wanted in {**outputs.predictions, "latents": outputs.latents}.items():
      np.testing.assert_allclose(found[f"{n}/{key}"], wanted, rtol=1e-5, atol=1e-5, err_msg=key)
      described = {"latents": spec["outputs"]["latents"], **spec["outputs"]["predictions"]}[key]
      assert described == {"shape": [*wanted.shape], "dtype": str(wanted.dtype)}
  assert [x["shape"] for x in spec["state"]] == [[*x.shape] for x in jax.tree.leaves(state)]
  assert spec["inputs"]["pixels"]["maximum"] == 255 and spec["note"] == "random"


def test_wrong_arguments_are_refused_before_anything_is_computed(tmp_path):
  model, path = zoo.build(MODELS[0]), tmp_path / "a.npz"
  for fields, message in (
    ({"target": tmp_path / "a.bin"}, "a.bin of a program must end in .npz"),
    ({"batch_size": 0}, "batch_size=0; use at least 1"),
    ({"platforms": ()}, r"platforms=\[\]; use some of"),
    ({"platforms": ("cpu", "abacus")}, r"platforms=\['cpu', 'abacus'\]; use some of"),
  ):
    with pytest.raises(ValueError, match=message):
      export_step(model, {}, **{"target": path} | fields)
  assert not path.exists()


def test_the_command_writes_a_program_for_several_platforms(tmp_path, monkeypatch, capsys):
  from perceiver_stream import cli

  monkeypatch.chdir(tmp_path)
  model = zoo.build(MODELS[0])
  params = model.init(jax.random.key(0), blank_tick(model))
  zoo.save("model.safetensors", model, params)
  cli.main("export model.safetensors --output=a.npz --format=jax --platforms=cpu,cuda,tpu".split())
  assert "a.npz: " in capsys.readouterr().out
  with np.load("a.npz", allow_pickle=False) as file:
    spec = json.loads(file["spec"].tobytes())
    assert spec["format"] == FORMAT and spec["platforms"] == ["cpu", "cuda", "tpu"]
    leaves = jax.tree.leaves(params)
    for n, leaf in enumerate(leaves):
      np.testing.assert_array_equal(file[f"params/{n}"], leaf)
    assert f"params/{len(leaves)}" not in file
    assert spec["params"][0]["name"].startswith("['")
