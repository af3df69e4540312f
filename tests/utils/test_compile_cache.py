"""Compiled programs are kept between runs, within bounds, and never get in the way."""

import os
import subprocess
import sys

import pytest

from perceiver_stream.utils import compile_cache

PROGRAM = """
import sys, warnings
from perceiver_stream.utils import compile_cache
compile_cache.enable()
compile_cache.enable()
shown = lambda message, *about: print(compile_cache.repair(str(message)), file=sys.stderr)
warnings.showwarning = shown
import jax, jax.numpy as jnp
x = jax.jit(lambda x: jnp.sin(x @ x).sum())(jnp.ones((8, 8)))
print(float(x))
"""


def start(cache, **environment):
  own = ("JAX_COMPILATION_CACHE_DIR", "TF_CPP_MIN_LOG_LEVEL")  # of pytest's process
  clean = {k: v for k, v in os.environ.items() if k not in own}
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    env=clean | {compile_cache.VARIABLE: str(cache)} | environment,
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.splitlines()[-1], done.stderr


def kept_in(folder):
  return {path: path.read_bytes() for path in folder.rglob("*-cache")}


def test_a_second_start_compiles_nothing_and_gives_the_same(tmp_path):
  first, _ = start(tmp_path)
  files = kept_in(tmp_path)
  assert files and not any("-atime" in path.name for path in files)
  again, said = start(tmp_path)
  assert again == first and kept_in(tmp_path) == files
  assert "cpu_aot_loader" not in said  # jaxlib 0.10


def test_damaged_entries_are_compiled_again_and_written_anew(tmp_path):
  first, _ = start(tmp_path)
  names = set(kept_in(tmp_path))
  for path in names:
    path.write_bytes(path.read_bytes()[:20])
  again, said = start(tmp_path)
  assert again == first
  assert "The kept program jit__lambda was damaged; it is compiled again." in said
  assert set(kept_in(tmp_path)) == names and all(len(x) > 20 for x in kept_in(tmp_path).values())
  assert "damaged" not in start(tmp_path)[1]


def test_other_warnings_delete_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(compile_cache._NOTICE, "kept", tmp_path)
  (tmp_path / "jit_f-1-cache").touch()
  assert compile_cache.repair("x 'jit_f'") == ""
  assert compile_cache.repair(f"{compile_cache.UNREADABLE} for 'jit_*': x") != ""
  assert (tmp_path / "jit_f-1-cache").exists()
  compile_cache.repair(f"{compile_cache.UNREADABLE} for 'jit_f': OSError: 'y'")
  assert not (tmp_path / "jit_f-1-cache").exists()


LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
READY = "/jax/core/compile/backend_compile_duration"


def test_a_line_is_printed_once_while_a_program_compiles(capsys, tmp_path):
  notice = compile_cache.Notice(slow_s=0.0)
  notice.kept = tmp_path
  for _ in range(2):
    notice.on_event(LOWERED, 1.0)
    if notice.timer:
      notice.timer.join()
    notice.on_event(READY, 1.0)
  said = capsys.readouterr().err
  assert said.count("Compiling: usually half a minute to a minute") == 1
  assert f"kept in {tmp_path} for the next start." in said


def test_programs_that_are_ready_soon_are_not_mentioned(capsys):
  notice = compile_cache.Notice(slow_s=3600.0)
  notice.on_event(LOWERED, 1.0)
  timer = notice.timer
  assert timer is not None
  notice.on_event(READY, 1.0)
  timer.join()
  assert notice.timer is None and not notice.printed and not capsys.readouterr().err


def test_listeners_are_registered_once():
  program = """
import gc, jax
from perceiver_stream.utils import compile_cache
before = len(gc.callbacks)
for _ in range(3):
  compile_cache.enable()
print(len(gc.callbacks) - before)
"""
  assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "1"


def test_off_and_unwritable_folders_change_nothing_but_speed(tmp_path):
  (tmp_path / "file").touch()
  value, notice = start(tmp_path / "file" / "below")
  assert "Compiled programs are not kept" in notice and "Not a directory" in notice
  assert start("off")[0] == value and not list(tmp_path.rglob("*-cache"))


def test_the_folder_is_the_users_cache(monkeypatch, tmp_path):
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  monkeypatch.delenv(compile_cache.VARIABLE, raising=False)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  found = compile_cache.folder()
  assert found is not None and found.parent == tmp_path / "perceiver_stream" / "programs"
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
  assert compile_cache.folder() is None


@pytest.mark.parametrize(("most", "left"), [(100, 3), (25, 2), (9, 0)])
def test_the_oldest_go_first(tmp_path, most, left):
  for age in range(3):
    (tmp_path / str(age)).write_bytes(b"0123456789")
    os.utime(tmp_path / str(age), (1000 + age, 1000 + age))
  compile_cache.prune(tmp_path, most)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"][3 - left :]
