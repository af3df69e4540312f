"""Checkpoint folders that are odd, changed, or of another version."""

import gc
import json
import os
import shutil
from contextlib import nullcontext

import pytest
from saved_trees import restore, save, trees

from perceiver_stream.training.checkpoints import CheckpointConfig, CheckpointError, Checkpoints
from perceiver_stream.training.run_folder import steps
from perceiver_stream.version import __version__

# Orbax leaves callbacks of a failed read behind; they are collected here, not in a later test.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collect():
  yield
  gc.collect()


def edit_meta(path, change):
  """Changes what lies beside the arrays of a checkpoint."""
  meta = json.loads((path / "meta" / "metadata").read_text())
  change(meta)
  (path / "meta" / "metadata").write_text(json.dumps(meta))


def fifo_for_metadata(folder):
  shutil.copytree(folder / "1", folder / "7")
  (folder / "7" / "meta" / "metadata").unlink()
  os.mkfifo(folder / "7" / "meta" / "metadata")


ODD = {
  "empty": lambda folder: (folder / "102").mkdir(),
  "only folders": lambda folder: (folder / "102" / "params").mkdir(parents=True),
  "a fifo": lambda folder: ((folder / "102").mkdir(), os.mkfifo(folder / "102" / "x")),
  "fifo for metadata": fifo_for_metadata,
  "orbax's list is none": lambda folder: (
    shutil.copytree(folder / "1", folder / "7"),
    (folder / "7" / "_CHECKPOINT_METADATA").write_text("[1]"),
  ),
  "huge number": lambda folder: (folder / ("9" * 30)).mkdir(),
}
NOT_OURS = {
  "²": lambda folder: (folder / "²").mkdir(),
  "٣": lambda folder: (folder / "٣").mkdir(),
  "007": lambda folder: shutil.copytree(folder / "1", folder / "007"),
  "-1": lambda folder: (folder / "-1").mkdir(),
  "1_0": lambda folder: shutil.copytree(folder / "1", folder / "1_0"),
  "a file": lambda folder: (folder / "102").write_text("x"),
}


@pytest.mark.parametrize("kind", [*ODD, *NOT_OURS])
def test_odd_folders_neither_block_nor_hang_a_run(tmp_path, kind):
  folder = save(tmp_path, [1])
  (ODD | NOT_OURS)[kind](folder)
  catch = pytest.warns(UserWarning, match="It is set aside") if kind in ODD else nullcontext()
  with catch, Checkpoints(tmp_path, CheckpointConfig()) as store:
    assert store.restore(trees()).step == 1
    store.save(102 if kind != "a file" else 103, trees(), {}, 0.0)
  assert steps(folder) == [1, 103 if kind == "a file" else 102]


def test_an_odd_checkpoint_that_is_the_only_one_is_an_error_and_stays(tmp_path):
  folder = save(tmp_path, [1])
  os.mkfifo(folder / "1" / "x")
  with pytest.raises(CheckpointError, match="No checkpoint in .* can be read.*regular file"):
    Checkpoints(tmp_path, CheckpointConfig())
  assert steps(folder) == [1]
  (folder / "1" / "x").unlink()
  assert restore(tmp_path).step == 1  # and the folder is not held any more


@pytest.mark.parametrize(
  "change",
  [
    lambda meta: meta.update(checksums=[1]),
    lambda meta: meta["checksums"].update(params="x"),
    lambda meta: meta.pop("checksums"),
    lambda meta: meta.update(score=1.0),
    lambda meta: meta["stream"].update(at=3),
  ],
)
def test_what_lies_beside_the_arrays_has_a_checksum_too(tmp_path, change):
  edit_meta(save(tmp_path, [1, 2]) / "2", change)
  with pytest.warns(UserWarning, match="2 is damaged: the checksum of 'meta' is wrong"):
    assert restore(tmp_path).step == 1


def with_version(path, version, kind=None):
  def change(meta):
    meta["version"], meta["format"] = version, kind or meta["format"]
    meta["checksums"].pop("meta")

  edit_meta(path, change)


@pytest.mark.parametrize("version", ["9.0.0", "0.1.1", "10"])
def test_a_checkpoint_of_a_later_version_is_told(tmp_path, version):
  with_version(save(tmp_path, [1]) / "1", version)
  with pytest.warns(UserWarning, match=f"written by perceiver_stream {version}, which is later"):
    assert restore(tmp_path).step == 1


@pytest.mark.parametrize("version", [__version__, f"{__version__}rc1", "0.0.9", None, "unknown"])
def test_a_checkpoint_of_this_or_an_earlier_version_is_not(tmp_path, version):
  with_version(save(tmp_path, [1]) / "1", version)
  assert restore(tmp_path).step == 1


def test_a_later_format_is_not_called_foreign(tmp_path):
  with_version(save(tmp_path, [1]) / "1", "3.0", "perceiver_stream checkpoint 2")
  with pytest.raises(CheckpointError, match="is a perceiver_stream checkpoint 2; this .* Use the"):
    restore(tmp_path)
