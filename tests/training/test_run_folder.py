"""A run's folder: full, deleted, renamed, locked; what is resumed is what never stopped."""

import contextlib
import gc
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from training_fakes import DIM, HOP, Beside, Score, make_config, make_parts

from perceiver_stream.reporting import run_files, tensorboard
from perceiver_stream.training import journal, loop
from perceiver_stream.training.checkpoint_files import read
from perceiver_stream.training.checkpoints import CheckpointConfig, Checkpoints
from perceiver_stream.training.mesh import make_mesh
from perceiver_stream.training.run_folder import CHECKPOINTS, CheckpointError, RunFolder, steps
from perceiver_stream.training.step import StepInfo
from perceiver_stream.utils import atomic

# Orbax leaves files and callbacks of a failed write behind; they are collected here.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:checkpoint in .* was not completed"
)
DISK_KB, FIRST_KB, LAST_KB = 1024, 0, 300


class HostLearner:
  """Learns without a device or a compiler: sessions that only write take milliseconds."""

  def __init__(self, parts):
    self.mesh = make_mesh(parts.config.mesh, parts.config.num_rows)
    self.state = SimpleNamespace(params={"w": np.zeros(DIM, np.float32)}, skipped=0)

  def learn(self, window, update=True):
    assert update
    x, w = window["x"], self.state.params["w"]
    w = self.state.params["w"] = np.float32(0.9) * w + np.float32(0.1) * x[:HOP].mean((0, 1))
    error, copy = np.square(x[1:] - w).mean(-1), np.square(x[1:] - x[:-1]).mean(-1)
    scores = {"x@1": Score(error, {"copy": copy}, np.ones(error.shape, bool))}
    counters = np.float32(1), np.bool_(True), np.int32(0), np.int32(0)
    return StepInfo(error.mean(), *counters, scores, {"x@1": np.broadcast_to(w, x[1:].shape)})

  def trees(self):
    return {"params": dict(self.state.params)}

  def load(self, trees):
    self.state.params = dict(trees["params"])


@pytest.fixture(autouse=True)
def host_learner(monkeypatch):
  monkeypatch.setattr(loop, "Learner", HostLearner)
  report = lambda run_dir: atomic.write_text(pathlib.Path(run_dir) / "report.html", "x" * 40_000)  # noqa: E731
  monkeypatch.setattr(loop, "write_report", report)


def go(folder, baselines=None, windows=6, **fields):
  config = make_config(folder, max_windows=windows, **fields)
  config.checkpoints.every = 2
  config.logging.print_every = config.logging.strips_every = 2
  config.logging.use_tensorboard = config.logging.use_report = True
  return loop.train(config, make_parts(config, baselines=baselines))


def contents(folder):
  """Returns all that a run leaves and that does not depend on the clock."""
  newest = steps(folder / CHECKPOINTS)[-1]
  params = read(folder / CHECKPOINTS, newest, {"params": {"w": np.zeros(DIM, np.float32)}})
  timing = [line["window"] for line in run_files.read_lines(folder / run_files.TIMING).records]
  assert timing == sorted(set(timing)), "a session has no rate yet at its first windows; no more"
  strips = {}
  for strip in run_files.find_strips(folder):
    arrays = run_files.read_strip(strip.paths)
    strips[strip.number] = {name: array.tobytes() for name, array in arrays.items()}
  assert not list(folder.rglob(".part*"))
  lines = (folder / run_files.METRICS).read_bytes()
  return newest, params.trees["params"]["w"].tobytes(), strips, lines


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
  """Yields a disk of `DISK_KB`; filled up, it is full for everything that writes."""
  path = tmp_path_factory.mktemp("disk")
  command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KB}k", "none", str(path)]
  if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
    pytest.skip("NOT TESTED: full disks. Only root may mount a small one; run the tests as root.")
  try:
    yield path
  finally:
    gc.collect()
    subprocess.run(["umount", "-l", str(path)], check=True)


def check_full_disk(disk, free_kb, whole):
  """Runs with so much space, then with enough; returns whether there was too little."""
  folder, filler = disk / "run", disk / "filler"
  filler.write_bytes(b"x" * 1024 * (DISK_KB - free_kb))
  error = None
  try:
    go(folder)
  except CheckpointError as found:  # any other error fails the test
    error = str(found)
  filler.unlink()
  if error is not None:
    named = re.search(r"The last good checkpoint is (\d+), and it is kept|no checkpoint yet", error)
    assert str(folder) in error and "Free some space" in error and named, error
    there = steps(folder / CHECKPOINTS)
    assert named[1] is None or int(named[1]) in there, (error, there)
    time.sleep(
      0.2
    )  # a user's next command is another process; here threads of the failed save linger
    go(folder)
  assert contents(folder) == whole, free_kb
  shutil.rmtree(folder)
  return error is not None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp("whole")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, "Learner", HostLearner)
    patch.setattr(loop, "write_report", lambda run_dir: None)
    go(folder)
  return contents(folder)


# A tmpfs gives space by pages of 4 kB: these are all sizes there are.
@pytest.mark.parametrize(
  "sizes",
  [
    range(FIRST_KB, LAST_KB + 1, 36),
    pytest.param(range(FIRST_KB, LAST_KB + 1, 4), marks=pytest.mark.slow),
  ],
  ids=["some", "all"],
)
def test_a_full_disk_is_one_error_wherever_it_strikes_and_nothing_is_lost(disk, whole, sizes):
  failed = [check_full_disk(disk, free_kb, whole) for free_kb in sizes]
  assert failed[0] and not failed[-1] and sum(failed) > len(failed) / 3


@pytest.mark.parametrize("name", ["_write_timing", "metrics", "tensorboard", "strips", "report"])
def test_every_writer_of_a_run_says_the_same_where_nothing_can_be_mounted(
  tmp_path, whole, monkeypatch, name
):
  """Each writer fails alone, which no size of a disk can bring about."""

  def fail(*args):
    raise OSError(28, "No space left on device")

  with monkeypatch.context() as patch:
    patch.setattr(*{
      "_write_timing": (loop.Journal, "_write_timing", fail),
      "metrics": (run_files.JsonLines, "append", fail),
      "tensorboard": (tensorboard.TensorBoard, "add", fail),
      "strips": (journal.StripRecorder, "add", fail),
      "report": (loop, "write_report", fail),
    }[name])  # fmt: skip
    last = "checkpoint is 6" if name == "report" else "no checkpoint yet"
    with pytest.raises(
      CheckpointError, match=f"(The log|The report) could not be written to {tmp_path}.*{last}"
    ):
      go(tmp_path)
  go(tmp_path)
  assert contents(tmp_path) == whole


@pytest.mark.filterwarnings("ignore:Checkpoint .* is damaged")  # copied while it was deleted
def test_killed_at_any_window_the_log_timing_and_strips_become_those_of_a_run_that_was_not(
  tmp_path,
):
  """What is on the disk at a moment is what a kill at that moment leaves."""
  folder, moments = tmp_path / "whole", []

  def listing():
    found = {}
    for path, _, names in os.walk(folder):  # passes over folders that a save renames meanwhile
      for name in names:
        with contextlib.suppress(FileNotFoundError):
          status = os.stat(os.path.join(path, name))
          found[path, name] = status.st_size, status.st_mtime_ns
    return found

  def copy(window):
    """Copies the folder as it is at one moment: again, where a save went on meanwhile."""
    moments.append(tmp_path / str(len(moments)))
    for _ in range(100):
      before = listing()
      shutil.rmtree(moments[-1], ignore_errors=True)
      with contextlib.suppress(shutil.Error, FileNotFoundError):
        shutil.copytree(folder, moments[-1])
        if listing() == before:
          return {}
    pytest.fail("the folder never stood still for as long as it takes to copy it")

  go(folder, Beside(copy), 8)
  for killed in moments[2:]:
    go(killed, Beside(lambda window: {}), 8)
    assert contents(killed) == contents(folder), killed.name


def move(at, action):
  """Returns a baseline that does something to the run's folder at a window."""
  seen = []

  def act(window):
    seen.append(window)
    if len(seen) == at:
      action()
    return {}

  return Beside(act)


@pytest.mark.parametrize("at", [1, 3, 4, 6])
@pytest.mark.parametrize("action", ["delete", "rename", "replace"])
def test_a_folder_that_goes_away_ends_the_run_with_an_error(tmp_path, at, action):
  folder, other = tmp_path / "run", tmp_path / "other"

  def act():
    folder.rename(other)  # so that a save that is being written does not get in the way
    if action == "delete":
      shutil.rmtree(other)
    if action == "replace":
      folder.mkdir(exist_ok=True)  # a save that had begun may have made it

  with pytest.raises(CheckpointError, match="was deleted, renamed or replaced while.*--resume"):
    go(folder, move(at, act))
  # A save that had begun may leave a folder that is not whole; the next run there deletes it.
  assert not (folder / run_files.METRICS).exists() and not steps(folder / CHECKPOINTS)
  if action != "delete":
    assert go(other).windows == 6


@pytest.mark.parametrize("action", ["delete", "rename", "replace"])
def test_a_save_that_had_begun_completes_nothing_where_the_folder_was(
  tmp_path, monkeypatch, action
):
  folder, other, real = tmp_path / "run", tmp_path / "other", RunFolder.check_place
  trees = {"params": {"w": np.zeros(DIM, np.float32)}}

  def check_then_go_away(self):
    real(self)
    monkeypatch.setattr(RunFolder, "check_place", real)
    folder.rename(other)
    if action == "delete":
      shutil.rmtree(other)
    if action == "replace":
      (folder / CHECKPOINTS).mkdir(parents=True)

  with Checkpoints(folder, CheckpointConfig()) as checkpoints:
    monkeypatch.setattr(RunFolder, "check_place", check_then_go_away)
    with pytest.raises(CheckpointError, match="was deleted, renamed or replaced"):
      checkpoints.save(1, trees, {}, 0.0)
      checkpoints.wait()
  assert not steps(folder / CHECKPOINTS)


def test_a_program_whose_save_failed_ends_at_once(tmp_path):
  """Threads that wait for a folder that could not be made would hold it up for minutes."""
  code = """
import pathlib, sys
import numpy as np
from perceiver_stream.training.checkpoints import CheckpointConfig, Checkpoints
trees = {"params": {"w": np.zeros(3)}}
with Checkpoints(sys.argv[1], CheckpointConfig()) as checkpoints:
  checkpoints.folder.rmdir()
  checkpoints.folder.write_text("no folder")
  checkpoints.save(1, trees, {}, 0.0)
  checkpoints.wait()
"""
  child = subprocess.run(
    [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120
  )
  assert child.returncode == 1
  assert "A checkpoint could not be written to" in child.stderr and "Free some" in child.stderr


def test_a_lock_holds_while_its_files_are_cleaned_away(tmp_path):
  with RunFolder(tmp_path):
    for path in tmp_path.rglob(".*"):
      path.unlink()
    code = (
      "import sys; from perceiver_stream.training.run_folder import RunFolder; "
      "RunFolder(sys.argv[1])"
    )
    second = subprocess.run(
      [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert "Another run is writing to" in second.stderr and second.returncode == 1
  RunFolder(tmp_path).close()


def test_where_folders_cannot_be_locked_a_file_is(tmp_path, monkeypatch):
  import fcntl

  real = fcntl.flock

  def no_folders(handle, operation):
    if os.path.isdir(f"/proc/self/fd/{handle}"):
      raise OSError(9, "Bad file descriptor")
    real(handle, operation)

  monkeypatch.setattr(fcntl, "flock", no_folders)
  with RunFolder(tmp_path), pytest.raises(CheckpointError, match="Another run"):
    RunFolder(tmp_path)
  monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(95, "no locks")))
  with RunFolder(tmp_path), RunFolder(tmp_path):
    pass


def test_errors_of_the_block_that_are_no_failed_write_pass_through(tmp_path):
  with RunFolder(tmp_path) as folder:
    with pytest.raises(KeyError), folder.writing("The log"):
      raise KeyError("x")
    with pytest.raises(CheckpointError, match="A checkpoint could not.*KeyError"):
      with folder.writing("A checkpoint", Exception):
        raise KeyError("x")
