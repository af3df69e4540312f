"""The read-outs of the released file, found and measured by their arrays alone."""

import numpy as np
import pytest
from golden import Golden
from published import golden_files

from perceiver_stream.inference import moog_heads


@pytest.fixture(scope="module", params=golden_files("moog_readouts"))
def golden(request):
  return Golden(request.param)


@pytest.fixture(scope="module")
def released(golden, tmp_path_factory):
  path = tmp_path_factory.mktemp("released") / "moog.npz"
  np.savez(path, **{f"m/{name}": array for name, array in golden.part("params/").items()})
  return path


@pytest.mark.parametrize("kind", ["points", "boxes"])
def test_the_heads_give_the_released_numbers(golden, released, kind):
  head = moog_heads.load_head(released, kind)
  arrays, hyper = golden.arrays, golden.hyper
  assert head.config.num_frames == hyper["frames"]
  assert head.config.num_octaves == hyper[kind]["query_fourier_bases"]
  assert head.config.num_heads == hyper[kind]["num_heads"]
  features, queries = arrays["inputs/features"], arrays[f"inputs/query_{kind}"]
  raw = np.asarray(
    head.points(features, queries).values if kind == "points" else head(features, queries)
  )
  golden.close(f"outputs/{kind}/values", raw, 5e-2)  # float32 octaves


def test_a_missing_head_is_named(released, golden, tmp_path):
  arrays = golden.part("params/")
  boxes = {name: array for name, array in arrays.items() if name.startswith("boxes_head")}
  np.savez(tmp_path / "b.npz", **boxes)
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
