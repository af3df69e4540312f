"""The loop with all its real parts."""

import jax
import numpy as np
import pytest
from training_fakes import Beside, make_config

from perceiver_stream import zoo
from perceiver_stream.inference.evaluating import evaluate, table
from perceiver_stream.inference.model_loading import blank_tick, load
from perceiver_stream.reporting import run_files
from perceiver_stream.streams import synthetic
from perceiver_stream.training.arrays import CheckpointError, flatten
from perceiver_stream.training.loop import train
from perceiver_stream.training.parts import fit, make_parts

AHEAD = 4


def make(folder, **fields):
  config = make_config(folder, **fields)
  config.model = zoo.config("stream_perceiver/nano")
  config.model.displacements = (1, AHEAD)
  names = ("pixels", "audio")
  config.stream = synthetic.Config(height=16, width=16, max_ticks=50, modalities=names)
  return make_parts(config)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """A run of a whole stream, and one that was stopped after two windows."""
  folder = tmp_path_factory.mktemp("runs")
  whole = make(folder / "whole")
  train(whole.config, whole)
  for max_windows in (2, 0):
    parts = make(folder / "parts", max_windows=max_windows)
    train(parts.config, parts)
  return folder


def test_resumed_is_never_stopped(runs):
  logs_of = [(runs / name / run_files.METRICS).read_bytes() for name in ("whole", "parts")]
  assert logs_of[0] == logs_of[1]
  params = [flatten(load(runs / name).params) for name in ("whole", "parts")]
  for name in params[0]:
    np.testing.assert_array_equal(params[0][name], params[1][name], err_msg=name)


def test_the_log_scores_each_modality_at_each_displacement(runs):
  records = run_files.read_lines(runs / "whole" / run_files.METRICS).records
  assert set(records[0]["scores"]) == {"pixels@1", "pixels@4", "audio@1", "audio@4"}
  assert sum(r["scores"]["pixels@4"]["count"] for r in records) == 50 - AHEAD
  first = records[0]["scores"]["pixels@1"]
  assert {"extrap_psnr", "mix_psnr"} < set(first)
  assert first["count"] == 8
  assert first["model_psnr"] == pytest.approx(first["copy_psnr"], abs=0.01)  # untrained is copying


def test_a_run_is_loaded_by_its_folder(runs):
  loaded = load(runs / "whole")
  assert loaded.about.endswith("whole after 6 windows")
  assert loaded.config.model.displacements == (1, AHEAD)
  learnt = jax.tree.leaves(loaded.params)
  assert any(
    not np.array_equal(a, b)
    for a, b in zip(
      learnt,
      jax.tree.leaves(loaded.model.init(jax.random.PRNGKey(0), blank_tick(loaded.model))),
      strict=True,
    )
  )


def test_changes_to_the_config_of_a_run_are_applied_or_refused(runs):
  loaded = load(runs / "whole", displacements=(2,))
  assert loaded.model.displacements == loaded.config.model.displacements == (2,)
  with pytest.raises(ValueError, match=r"\['displacement'\] are no fields of the config"):
    load(runs / "whole", displacement=(2,))
  with pytest.raises(ValueError, match="whole: parameters do not fit the model. .*wrong shape"):
    load(runs / "whole", token_dim=32)


def test_a_run_without_checkpoint_says_so(runs, tmp_path):
  (tmp_path / "config.json").write_text((runs / "whole" / "config.json").read_text())
  with pytest.raises(CheckpointError, match="has no checkpoint yet"):
    load(tmp_path)


def test_evaluating_the_untrained_is_evaluating_copy(tmp_path):
  parts = make(tmp_path)._replace(
    baselines=Beside(lambda window: {"pixels@1": {"extrap": np.full((8, 1), 0.01)}})
  )
  params = parts.model.init(jax.random.PRNGKey(0), parts.observation)
  scores = evaluate(parts, params, max_windows=3)
  assert scores["pixels@1"]["count"] == 24
  assert scores["pixels@4"]["model"] == pytest.approx(scores["pixels@4"]["copy"], rel=1e-4)
  assert scores["pixels@1"]["extrap_psnr"] == pytest.approx(20)
  lines = table(scores, parts.metric_names).splitlines()
  assert [cell.strip() for cell in lines[0].split("|")[4:7]] == ["model", "copy", "extrap"]
  assert len(lines) == 2 + len(scores) and all(line.count("|") == 7 for line in lines)
  (line,) = (line for line in lines if "pixels@1" in line)
  assert "PSNR dB, higher is better" in line and "| 20 " in line


def test_models_are_fitted_to_the_stream():
  specs = {n: m.spec for n, m in zoo.build("stream_perceiver/tiny").modalities.items()}
  config = fit("stream_perceiver/nano", {"pixels": specs["pixels"]})
  assert set(config.modalities) == {"pixels"} and config.modalities["pixels"].height == 64
  with pytest.raises(TypeError, match="config of type builtins.int belongs to none of"):
    fit(3, specs)
