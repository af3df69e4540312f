"""Clips, methods and the bitwise check of `benchmarks/prompts.py`."""

import dataclasses
import importlib
import pathlib

import haiku as hk
import jax
import numpy as np
import pytest

from perceiver_stream.zoo import clip_encoders

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(FOLDER)
  return importlib.import_module("prompts")


@pytest.fixture
def small(script, monkeypatch):
  """The script with an encoder of one block."""
  config = dataclasses.replace(script.ENCODER.config, num_layers=1)
  monkeypatch.setattr(script, "ENCODER", clip_encoders.build(config))
  monkeypatch.setattr(script, "LAYERS", 1)
  return script


def test_labels_are_the_number_of_balls_and_the_direction_of_the_first(script):
  images, counts, turns = script.clips(24, 5, 4)
  assert images.shape == (24, 2, 24, 24, 3) and images.min() >= 0 and images.max() <= 1
  assert sorted(set(counts)) == [0, 1, 2, 3] and len(set(turns)) == 4
  lit = (images[:, 0].max(axis=-1) > 0.5).sum(axis=(1, 2))
  assert np.corrcoef(lit, counts)[0, 1] > 0.3
  single, zero, turns = script.clips(16, 6, 1)
  assert not zero.any()
  y, x = np.indices((24, 24)) + 0.5
  weights = single.sum(axis=-1) - single.sum(axis=-1).min()
  centre = [(weights * axis).sum((2, 3)) / weights.sum((2, 3)) for axis in (x, y)]
  moved = np.stack([c[:, 1] - c[:, 0] for c in centre], axis=-1)
  angle = np.angle(np.exp(1j * (np.arctan2(moved[:, 1], moved[:, 0]) - turns * np.pi / 2)))
  assert np.all(np.abs(angle) < np.pi / 4 + 0.1)


def test_versions_invert_every_second_clip_and_its_answer(script):
  data = script.Data(*script.clips(6, 5, 4)[:2])
  same, two = (script.version_of(data, version) for version in script.VERSIONS)
  assert same is data
  np.testing.assert_array_equal(two.clips[::2], data.clips[::2])
  np.testing.assert_array_equal(two.clips[1::2], 1 - data.clips[1::2])
  np.testing.assert_array_equal(two.labels[::2], data.labels[::2])
  np.testing.assert_array_equal(two.labels[1::2], 3 - data.labels[1::2])


def test_each_method_has_its_own_parameters_and_no_others(small):
  x = jax.ShapeDtypeStruct((1, 2, 24, 24, 3), np.float32)
  modules = {}
  for method in small.METHODS:
    net = small.Trainer(method, 1, 2).net
    names = jax.eval_shape(net.init, jax.random.key(0), x, x)
    modules[method] = {name.split("/")[0] for name in names}
  assert modules["linear probe"] == modules["full finetuning"] == {"vivit", "answer"}
  assert modules["pixel border"] == {"vivit", "answer", "pixel_border"}
  assert modules["VPT shallow"] == {"vivit", "answer", "visual_prompts"}
  assert modules["IIP"] == {"vivit", "answer", "independent_prompts", "generated_prompts"}
  assert {"logits", "stem", "generated_prompts", "vivit"} < modules["PGN"]
  assert "vivit" not in modules["PGN's network alone"]


def test_prompts_of_deep_and_generated_methods(script):
  clips = jax.ShapeDtypeStruct((3, 2, 24, 24, 3), np.float32)

  def shapes(method):
    given = {}
    run = hk.transform(lambda clips: given.update(script.prompts_of(method, clips, 17)))
    jax.eval_shape(run.init, jax.random.key(0), clips)
    return {k: v if k == "position" else v.shape for k, v in given.items() if v is not None}

  assert shapes("VPT shallow") == {"prompts": (3, 8, 32)}
  assert shapes("VPT deep") == {"prompts": (3, 8, 32), "deep": (script.LAYERS - 1, 8, 32)}
  assert shapes("IIP") == shapes("PGN") == {"prompts": (3, 8, 32), "position": 17}
  assert shapes("linear probe") == {}


def test_the_encoder_is_the_same_bit_by_bit_after_training_prompts(small, monkeypatch):
  data = small.Data(*small.clips(4, 5, 4)[:2])
  trainer = small.Trainer("VPT shallow", 2, 2)
  encoder = small.first_encoder(1)
  sets = small.Sets(data, data, data)
  found = small.measured(trainer, [encoder], sets)
  assert found.rate in small.RATES and len(found.right) == 1 and found.other == []
  assert found.trained == 8 * 32 + 32 * 4 + 4
  trained, frozen = trainer.train(encoder, data, 0.1, 0)
  assert small.same_bits(frozen, encoder) and not trained.keys() & encoder.keys()
  assert not small.same_bits(trained, {"answer": trainer.split(encoder, 0)[0]["answer"]})
  monkeypatch.setattr(small, "same_bits", lambda *_: False)
  with pytest.raises(RuntimeError, match="VPT shallow: the encoder is changed after training"):
    small.measured(trainer, [encoder], sets)


def test_a_table_compares_with_the_linear_probe(script):
  made = lambda *right: script.Found(0.01, list(right), [], 7)  # noqa: E731
  found = {"one rendering": {"linear probe": made(40.0), "PGN": made(50.0, 70.0)}}
  table = script.table(found, {"one rendering": 20.0}, "note")
  assert [row[-1] for row in table.rows] == [1.0, 1.5, 0.5]
  assert [row[2] for row in table.rows] == ["40.0", "60.0 (50.0 to 70.0)", "20.0"]
  assert table.columns[3] == "other prompts, one rendering, %" and table.rows[0][3] is None
