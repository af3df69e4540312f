"""Golden files are found by what they hold, whatever they are called."""

import json

import golden
import numpy as np
import pytest


def test_our_folder_has_every_kind():
  assert set(golden.kinds_in(golden.OURS).values()) == {*golden.KINDS, None}
  unknown = {p.stem for p, kind in golden.kinds_in(golden.OURS).items() if kind is None}
  assert unknown == {"top_k"}, "a file that no test of a kind reads"


def test_every_file_of_the_folder_is_of_a_kind():
  unknown = [path.name for path, kind in golden.kinds_in(golden.FOLDER).items() if kind is None]
  assert all("top_k" in name for name in unknown), (
    f"add their kinds to tests/support/golden.py: {unknown}"
  )


def test_the_names_of_our_files_do_not_matter(tmp_path):
  for path, kind in golden.kinds_in(golden.OURS).items():
    about = json.loads(path.read_text())
    if kind is None or "model" not in about:
      continue
    (tmp_path / "B.json").write_text(json.dumps({"model": about["model"]}))
    assert golden.kind_of(tmp_path / "B.json") == kind


def test_a_file_without_a_model_is_known_by_its_name(tmp_path):
  for name, kind in (("B_vjepa", "vjepa"), ("vjepa", "vjepa"), ("my_moog_repo", "moog_repo")):
    (tmp_path / f"{name}.json").write_text("{}")
    assert golden.kind_of(tmp_path / f"{name}.json") == kind
  (tmp_path / "other.json").write_text("{}")
  assert golden.kind_of(tmp_path / "other.json") is None


def test_comparisons_can_fail(tmp_path):
  (tmp_path / "a.json").write_text(json.dumps({"suggested_atol": 1e-3, "order": [["x", [2]]]}))
  np.savez(tmp_path / "a.npz", **{"outputs/a": np.array([1.0, 100.0]), "outputs/b": np.zeros(2)})
  file = golden.Golden(tmp_path / "a.json")
  file.close("outputs/a", [1.0005, 100.05])
  with pytest.raises(AssertionError, match="not compared: .*outputs/b"):
    file.all_compared()
  file.flat("outputs/b", "order", {"x": np.full(2, 1e-4)})
  file.all_compared()
  for wrong in ([1.002, 100], [1, 100.2], [1, np.nan], [1.0]):
    with pytest.raises(AssertionError):
      file.close("outputs/a", wrong)
  file.gradient("outputs/a", [1.19, 100])
  with pytest.raises(AssertionError):
    file.gradient("outputs/a", [1.21, 100])
