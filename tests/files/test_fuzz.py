"""Thousands of damaged and hostile files, read in a child process: data or ValueError, no more."""

import json
import pathlib
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).parents[1] / "support" / "fuzz_files.py"
FEWEST = {"pickle": 3000, "arrays": 900, "model config": 400, "run folder": 600, "index": 500, "hugging face": 150}  # fmt: skip


@pytest.fixture(scope="module")
def found():
  command = [sys.executable, str(PROGRAM), "0"]
  done = subprocess.run(command, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-2000:]}"
  return json.loads(done.stdout)


@pytest.mark.parametrize("kind", FEWEST)
def test_files_are_read_or_refused_with_a_value_error(found, kind):
  result = found[kind]
  assert not result["failed"], "\n".join(result["failed"])
  assert result["read"] + result["refused"] >= FEWEST[kind]
  assert min(result["read"], result["refused"]) >= 10, "the cases are all of one sort"


@pytest.mark.parametrize("kind", FEWEST)
def test_memory_and_time_are_bounded(found, kind):
  result = found[kind]
  assert result["memory_bytes"] <= 3 * result["largest_bytes"] + 2**26
  assert result["slowest_s"] < 10
