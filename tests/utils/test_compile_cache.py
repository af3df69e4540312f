"""Compiled programs are kept between runs, within bounds, and never get in the way."""

import os
import subprocess
import sys

import pytest

from perceiver_stream.utils import compile_cache

PROGRAM = """
from perceiver_stream.utils import compile_cache
compile_cache._SLOW_S = 0.0
compile_cache.enable()
import jax, jax.numpy as jnp
x = jax.jit(lambda x: jnp.sin(x @ x).sum())(jnp.ones((8, 8)))
print(float(x))
"""


def start(cache, **environment):
  clean = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    env=clean | {compile_cache.VARIABLE: str(cache)} | environment,
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.splitlines()[-1], done.stderr


def test_a_second_start_compiles_nothing_and_gives_the_same(tmp_path):
  first, notice = start(tmp_path)
  assert notice.count("Compiling: half a minute") == 1 and str(tmp_path) in notice
  files = {path: path.stat().st_mtime for path in tmp_path.rglob("*-cache")}
  assert files
  second, notice = start(tmp_path)
  assert second == first and "Compiling" not in notice
  assert set(tmp_path.rglob("*-cache")) == set(files)


def test_damaged_entries_are_compiled_again(tmp_path):
  first, _ = start(tmp_path)
  for path in tmp_path.rglob("*-cache"):
    path.write_bytes(path.read_bytes()[:20])
  assert start(tmp_path)[0] == first


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
