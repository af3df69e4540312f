"""A model family of one folder and one line: that of CONTRIBUTING.md, in a copy of the package."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = re.compile(r"^```python (models/\S+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^```diff\n (PACKAGES = \(\n)\+(.*\n)", re.MULTILINE)
TESTS = ("conftest.py", "support", "conformance/test_models.py", "zoo/test_loading.py",
         "configs/test_configs.py", "test_layers.py", "cli/test_commands.py")  # fmt: skip


def copied(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a file or a folder without what Python and runs leave in it."""
  target.parent.mkdir(parents=True, exist_ok=True)
  if source.is_dir():
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
  else:
    shutil.copy(source, target)


def contents(root: pathlib.Path) -> dict[str, bytes]:
  """Returns the files of a package, by path."""
  files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
  return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
  """A copy of the package and of the tests of all families, with the family of CONTRIBUTING.md."""
  root = tmp_path_factory.mktemp("checkout")
  for name in ("perceiver_stream", "pyproject.toml", *(f"tests/{name}" for name in TESTS)):
    copied(ROOT / name, root / name)
  text, package = (ROOT / "CONTRIBUTING.md").read_text(), root / "perceiver_stream"
  for name, code in FILE.findall(text):
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).write_text(code)
  place, line = next(iter(LINE.findall(text)))
  zoo = package / "zoo" / "__init__.py"
  assert zoo.read_text().count(place) == 1
  zoo.write_text(zoo.read_text().replace(place, place + line))
  return root


def test_one_file_outside_the_folder_is_touched_in_one_line(checkout):
  before, after = (contents(place / "perceiver_stream") for place in (ROOT, checkout))
  touched = {name for name in after if after[name] != before.get(name)}
  outside = sorted(name for name in touched if not name.startswith("models/leaky/"))
  assert outside == ["zoo/__init__.py"]
  lines = [set(files[outside[0]].splitlines()) for files in (before, after)]
  assert lines[1] - lines[0] == {b'  "leaky",'} and not lines[0] - lines[1]
  assert len(touched) == 7


def test_it_is_in_style(checkout):
  for check in (["format", "--check"], ["check"]):
    command = [sys.executable, "-m", "ruff", *check, "perceiver_stream/models/leaky"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_tests_of_every_family_find_it_and_pass(checkout):
  command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "leaky", "tests"]
  done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
  passed = re.search(r"(\d+) passed", done.stdout)
  assert passed and int(passed.group(1)) > 25, done.stdout
