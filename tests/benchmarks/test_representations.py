"""Rows, recordings and the table of `benchmarks/representations.py`."""

import importlib
import json
import pathlib

import numpy as np
import pytest

from perceiver_stream import training
from perceiver_stream.models.self_supervised import METHODS

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(FOLDER)
  return importlib.import_module("representations")


def test_every_method_has_a_row_and_an_ablation_that_differs(script):
  rows = script.rows_of()
  names = [*METHODS, script.BRAVE, script.UNTRAINED]
  assert {row.method for row in rows.values()} == set(names)
  assert {row.method for row in rows.values() if row.ablation} == set(script.ABLATIONS)
  assert set(script.ABLATIONS) == set(METHODS) - {script.SUPERVISED} | {script.BRAVE}
  for name, row in rows.items():
    if row.ablation:
      plain, ablated = (
        script.experiment_of(rows[key], 10, nano=False) for key in (row.method, name)
      )
      assert plain.objective != ablated.objective, name
      assert (plain.model, plain.optimizer) == (ablated.model, ablated.optimizer)


@pytest.mark.parametrize("method", ["moco", "brave"])
def test_rows_have_the_same_tower_of_clips_and_updates(script, method):
  rows, video = script.rows_of(), script.experiment_of(script.Row("clip"), 40, nano=False)
  found = script.experiment_of(rows[method], 40, nano=False)
  assert found.model.video == video.model.video and found.objective.window == 16
  assert (found.optimizer.warmup_steps, found.optimizer.decay_steps) == (2, 40)


def test_recordings_are_those_of_the_stream_by_seed(script):
  config = training.load_config("self_supervised:mmv").stream
  one, same, other = (script.recordings(config, 3, seed) for seed in (1, 1, 2))
  assert one.ticks["pixels"].shape == (3, 16, 16, 16, 3) and one.labels.shape == (3,)
  assert set(one.ticks) == {"pixels", "audio", "caption", "label"}
  np.testing.assert_array_equal(one.ticks["audio"], same.ticks["audio"])
  assert not np.array_equal(one.ticks["pixels"], other.ticks["pixels"])
  np.testing.assert_array_equal(one.first(2).labels, one.labels[:2])


def test_pools_are_by_the_fields_that_a_method_changes(script):
  rows = script.rows_of()
  keys = {name: script.pool_key(row) for name, row in rows.items()}
  assert keys["clip"] == keys["brave"] == keys["untrained"] == ""
  assert keys["mmv"] == keys["mil_nce"] != keys["localise"] == keys["localise, shuffled sound"]
  sets = script.sets_of(4, 2, {keys["localise"]: METHODS["localise"].stream})
  assert set(sets.pools) == {"", keys["localise"]}
  assert len(sets.labelled.labels) == len(sets.test.labels) == 2


def test_the_table_has_spreads_and_ratios_to_chance(script):
  found = {
    "untrained": script.Found([30.0, 40.0], [0.0, 0.0], [0.1, 0.1], []),
    "localise": script.Found([50.0], [10.0], [0.02], [80.0]),
  }
  rows = script.table(found, "").rows
  assert rows[0] == ["untrained", "35.0 (30.0 to 40.0)", None, 0.0, None, 1.4]
  assert rows[1] == ["localise", "50.0", "80.0", 10.0, 20.0, 2.0]
  assert rows[2] == ["chance", "25.0", "50.0", None, None, 1.0]


def test_rows_are_kept_for_the_same_sizes_only(script, tmp_path):
  path, sizes = tmp_path / "rows.json", {"steps": 2}
  assert script.kept(path, sizes) == {}
  found = {"clip": script.Found([1.0], [2.0], [3.0], [])}
  path.write_text(json.dumps({"sizes": sizes, "rows": found}))
  assert script.kept(path, sizes) == found
  assert script.kept(path, {"steps": 3}) == {}
  assert list(script.chosen(script.rows_of(), "moco.*")) == ["moco", "moco, no slow encoder"]
  with pytest.raises(ValueError, match="--only='moko' matches no row; there are untrained"):
    script.chosen(script.rows_of(), "moko")
