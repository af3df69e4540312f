"""The read-outs of the released file, found and measured by their arrays alone."""

import json
import pathlib

import numpy as np
import pytest

from perceiver_stream.inference import moog_heads

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "moog_readouts_small"


@pytest.fixture(scope="module")
def golden():
  with np.load(GOLDEN.with_suffix(".npz")) as file:
    return dict(file)


@pytest.fixture(scope="module")
def released(golden, tmp_path_factory):
  path = tmp_path_factory.mktemp("released") / "moog.npz"
  names = [name for name in golden if name.startswith("params/")]
  np.savez(path, **{f"m/{n.removeprefix('params/')}": golden[n] for n in names})
  return path


@pytest.mark.parametrize("kind", ["points", "boxes"])
def test_the_heads_give_the_released_numbers(golden, released, kind):
  head = moog_heads.load_head(released, kind)
  hyper = json.loads(GOLDEN.with_suffix(".json").read_text())["hyperparameters"]
  assert head.config.num_frames == hyper["frames"]
  assert head.config.num_octaves == hyper[kind]["query_fourier_bases"]
  assert head.config.num_heads == hyper[kind]["num_heads"]
  features, queries = golden["inputs/features"], golden[f"inputs/query_{kind}"]
  raw = np.asarray(
    head.points(features, queries).values if kind == "points" else head(features, queries)
  )
  np.testing.assert_allclose(raw, golden[f"outputs/{kind}/values"], atol=5e-2)  # float32 octaves


def test_a_missing_head_is_named(released, golden, tmp_path):
  names = [name for name in golden if name.startswith("params/boxes_head")]
  np.savez(tmp_path / "b.npz", **{n.removeprefix("params/"): golden[n] for n in names})
  with pytest.raises(ValueError, match=r"no read-out of points; it has \['boxes'\]"):
    moog_heads.load_head(tmp_path / "b.npz", "points")
  with pytest.raises(FileNotFoundError):
    moog_heads.load_head(tmp_path / "gone.npz", "points")


def test_points_are_drawn_where_they_are_and_only_if_visible():
  frames = np.zeros((2, 10, 20, 3), np.uint8)
  positions = np.asarray([[[0.5, 0.2], [0.9, 0.9]]] * 2, np.float32)
  drawn = moog_heads.draw(frames, positions, np.asarray([[True, False], [False, False]]))
  assert drawn[0, 2, 10].any() and not drawn[0, 9, 18].any() and not drawn[1].any()
  moog_heads.draw(frames, positions * 9 - 4, np.ones((2, 2), bool))  # outside: nothing breaks
