import gc
import os
import pathlib
import resource
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from saved_trees import restore, save, trees

from perceiver_stream.training.arrays import checksum, flatten, unflatten
from perceiver_stream.training.checkpoint_files import read
from perceiver_stream.training.checkpoints import (
  CheckpointConfig,
  CheckpointError,
  Checkpoints,
)
from perceiver_stream.training.run_folder import CHECKPOINTS, steps

# Orbax leaves callbacks of a failed read behind; they are collected here, not in a later test.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collect():
  yield
  gc.collect()


def damage(path: pathlib.Path):
  """Flips a byte in the middle of every data file."""
  for victim in (p for p in path.rglob("d/*") if p.is_file()):
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0xFF
    victim.write_bytes(bytes(data))


def test_what_is_saved_comes_back_to_the_bit(tmp_path):
  save(tmp_path, [5])
  restored = restore(tmp_path)
  assert restored.step == 5 and restored.meta["stream"] == {"at": 5}
  want = trees(5.0)
  assert jax.tree.structure(restored.trees) == jax.tree.structure(want)
  for got, expected in zip(jax.tree.leaves(restored.trees), jax.tree.leaves(want), strict=True):
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def test_saved_arrays_may_be_donated_at_once(tmp_path):
  store = Checkpoints(tmp_path, CheckpointConfig())
  state = trees(1.0)
  bump = jax.jit(lambda t: jax.tree.map(lambda x: x + x, t), donate_argnums=0)
  for number in range(1, 4):
    store.save(number, state, {}, 0.0)
    state = {"params": bump(state["params"]), "learner": state["learner"]}
  store.wait()
  store.close()
  assert float(restore(tmp_path).trees["params"]["net/~/linear"]["w"][0, 0]) == 4.0


def test_what_is_saved_beside_the_arrays_may_be_changed_at_once(tmp_path):
  """It is written in the background: a learning run goes on changing its running scores."""
  meta = {"journal": {"running": {"x@1": {"model": 1.0}}}}
  with Checkpoints(tmp_path, CheckpointConfig()) as store:
    write = store._manager.save

    def late(*args, **kwargs):
      meta["journal"]["running"]["x@1"]["model"] = 2.0
      return write(*args, **kwargs)

    store._manager.save = late
    store.save(1, trees(), meta, 0.0)
  assert restore(tmp_path).meta["journal"] == {"running": {"x@1": {"model": 1.0}}}


def test_nothing_saved_is_nothing_restored(tmp_path):
  assert restore(tmp_path) is None


def test_the_last_k_and_the_best_are_kept(tmp_path):
  folder = save(tmp_path, range(1, 7), {2: 9.0}, keep=2)
  assert steps(folder) == [2, 5, 6]


@pytest.mark.parametrize("keep", [1, 2])
def test_checkpoints_from_before_the_trouble_stay_however_long_it_lasts(tmp_path, keep):
  with Checkpoints(tmp_path, CheckpointConfig(keep=keep)) as store:
    for number in range(1, 9):
      bad_run = max(0, number - 4)
      store.save(number, trees(float(number)), {}, -float(bad_run), bad_run)
    store.wait()
  assert steps(tmp_path / CHECKPOINTS) == sorted({3, 4, *range(9 - keep, 9)})


def test_what_is_set_aside_is_renamed_and_its_number_is_free(tmp_path):
  with Checkpoints(tmp_path, CheckpointConfig(keep=4)) as store:
    for number in range(1, 5):
      store.save(number, trees(float(number)), {}, 0.0)
    assert store.set_aside_from(3, "diverged") == [3, 4] and store.newest() == 2
    store.save(3, trees(7.0), {}, 0.0)
  folder = tmp_path / CHECKPOINTS
  assert steps(folder) == [1, 2, 3] and {p.name for p in folder.glob("div*")} == {
    "diverged-3",
    "diverged-4",
  }
  assert float(restore(tmp_path).trees["params"]["net/~/linear"]["w"][0, 0]) == 7


def test_resuming_a_damaged_newest_takes_the_one_before_and_says_so(tmp_path):
  folder = save(tmp_path, [1, 2, 3], keep=3)
  damage(folder / "3")
  (folder / "2" / "meta" / "metadata").write_text("{")
  with pytest.warns(UserWarning, match="damaged.*Resuming from 1, the previous one") as caught:
    assert restore(tmp_path).step == 1
  assert len(caught) == 2
  assert steps(folder) == [1] and (folder / "damaged-3").is_dir()
  save(tmp_path, [3])  # its number is free again
  assert restore(tmp_path).step == 3


@pytest.mark.parametrize("part", ["params", "learner", "meta"])
def test_a_missing_part_is_damage(tmp_path, part):
  folder = save(tmp_path, [1, 2])
  shutil.rmtree(folder / "2" / part)
  with pytest.warns(UserWarning, match="2 is damaged"):
    assert restore(tmp_path).step == 1


def test_all_damaged_is_an_error_that_lists_them(tmp_path):
  folder = save(tmp_path, [1, 2])
  damage(folder / "1")
  damage(folder / "2")
  with pytest.raises(CheckpointError, match="No checkpoint in .* can be read.*2 is.*1 is"):
    restore(tmp_path)
  assert steps(folder) == [1, 2]  # nothing was thrown away


def test_a_foreign_checkpoint_is_refused_and_left_alone(tmp_path):
  with ocp.StandardCheckpointer() as writer:
    writer.save(tmp_path / CHECKPOINTS / "7", {"weights": np.ones(3)})
  with pytest.raises(CheckpointError, match="7 is not a checkpoint of perceiver_stream; point"):
    restore(tmp_path)
  assert steps(tmp_path / CHECKPOINTS) == [7]


def test_other_names_and_shapes_are_listed():
  arrays = flatten({"a": {"w": np.ones(2), "old": np.ones(1)}, "b": np.ones(3)})
  with pytest.raises(
    CheckpointError,
    match=r"Missing: a/new\. Not expected: a/old\. Different: b is float64\[3\], expected .*\[4\]",
  ):
    unflatten(arrays, {"a": {"w": np.ones(2), "new": np.ones(1)}, "b": np.ones(4)})


def test_the_check_sees_meta_first(tmp_path):
  save(tmp_path, [1])

  def check(meta):
    raise CheckpointError(f"at {meta['stream']['at']}")

  with pytest.raises(CheckpointError, match="at 1"):
    restore(tmp_path, check=check)


def test_an_unwritable_folder_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(
    CheckpointError, match="could not be written to .*file.*choose another --config.run_dir"
  ):
    Checkpoints(tmp_path / "file" / "run", CheckpointConfig())


def test_a_full_disk_is_a_clear_error_and_the_last_good_one_stays(tmp_path):
  folder = save(tmp_path, [1])
  store = Checkpoints(tmp_path, CheckpointConfig())
  big = {"params": {"w": np.random.default_rng(0).normal(size=2**16)}}
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, before[1]))  # no file may grow beyond: EFBIG
  try:
    with pytest.raises(
      CheckpointError, match="A checkpoint could not be.*The last good checkpoint is 1.*Free some"
    ):
      store.save(2, big, {}, 0.0)
      store.wait()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)
    store.close()
  assert steps(folder) == [1] and restore(tmp_path).step == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid(), reason="only root can mount")
def test_a_disk_that_is_full_and_then_read_only(tmp_path):
  disk = tmp_path / "disk"
  disk.mkdir()
  if os.system(f"mount -t tmpfs -o size=256k none {disk} 2>/dev/null"):
    pytest.skip("mounting is not allowed here")
  try:
    folder = save(disk, [1])
    store = Checkpoints(disk, CheckpointConfig())
    with pytest.raises(
      CheckpointError, match="A checkpoint could not be.*The last good checkpoint is 1.*Free some"
    ):
      store.save(2, {"params": {"w": np.random.default_rng(0).normal(size=2**16)}}, {}, 0.0)
      store.wait()
    store.close()
    assert steps(folder) == [1] and restore(disk).step == 1
    os.system(f"mount -o remount,ro {disk}")
    with pytest.raises(
      CheckpointError, match="could not be written to .*Read-only.*make the folder writabl"
    ):
      Checkpoints(disk, CheckpointConfig())
  finally:
    gc.collect()
    os.system(f"umount -l {disk}")


def test_two_runs_do_not_share_a_folder(tmp_path):
  first = Checkpoints(tmp_path, CheckpointConfig())
  with pytest.raises(CheckpointError, match="Another run is writing to .*Wait for it to end"):
    Checkpoints(tmp_path, CheckpointConfig())
  first.close()
  Checkpoints(tmp_path, CheckpointConfig()).close()


def test_arrays_larger_than_could_fit_are_refused_before_they_take_memory(tmp_path):
  store = Checkpoints(tmp_path, CheckpointConfig())
  big = trees() | {"params": {"net/~/linear": {"w": jnp.zeros((600, 900))}}}
  store.save(1, big, {}, 0.0)
  store.wait()
  store.close()
  allocated = []
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(np, "zeros", lambda *args: allocated.append(args))
    with pytest.raises(
      CheckpointError, match=r"w is float32\[600, 900\], expected float32\[2, 3\]"
    ):
      read(tmp_path / CHECKPOINTS, 1, {"params": trees()["params"]})
  assert not allocated


def test_a_write_cut_short_is_not_taken_for_a_checkpoint(tmp_path):
  folder = save(tmp_path, [1])
  half = folder / "2.orbax-checkpoint-tmp-0"
  half.mkdir()
  (half / "params").mkdir()
  assert restore(tmp_path).step == 1


def test_reading_only_parameters(tmp_path):
  folder = save(tmp_path, [4])
  got = read(folder, 4, {"params": trees()["params"]})
  assert set(got.trees) == {"params"}


def test_checksum_sees_values_names_and_shapes():
  base = {"a": np.arange(6.0), "b": np.zeros(2)}
  others = [
    {"a": np.arange(6.0) + 1e-9, "b": np.zeros(2)},
    {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(2)},
    {"c": np.arange(6.0), "b": np.zeros(2)},
    {"a": np.arange(6.0), "b": np.zeros(2, np.float32)},
  ]
  assert len({checksum(x) for x in [base, *others]}) == 5


@pytest.mark.parametrize("fields", [{"every": 0}, {"keep": 0}])
def test_wrong_settings_are_named(fields):
  with pytest.raises(ValueError, match=f"checkpoints.{next(iter(fields))}=0; use at least 1"):
    CheckpointConfig(**fields).validate()


def test_the_best_is_known_again_after_resuming(tmp_path):
  folder = save(tmp_path, [1, 2, 3], {1: 9.0})
  with Checkpoints(tmp_path, CheckpointConfig()) as store:
    for number in range(4, 8):
      store.save(number, trees(), {}, 0.0, bad_run=max(0, number - 4))
  assert steps(folder) == [1, 3, 4, 6, 7]
