"""What is optional is skipped where it is missing, and fails where it must be there."""

import importlib.util
import pathlib

import extras
import pytest
from packaging.requirements import Requirement

TESTS = pathlib.Path(__file__).resolve().parent


def without(monkeypatch: pytest.MonkeyPatch, required: str) -> None:
  """As if nothing optional were installed."""
  monkeypatch.setenv(extras.REQUIRED, required)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize("required", ["", "viz", "viz,dev"])
def test_a_missing_extra_skips_and_says_how_to_install_it(monkeypatch, required) -> None:
  without(monkeypatch, required)
  with pytest.raises(pytest.skip.Exception, match=r'mujoco is not .* pip install -e "\.\[sim\]"'):
    extras.need("mujoco")


@pytest.mark.parametrize(("module", "extra"), [("mujoco", "sim"), ("skimage", "eval")])
def test_a_missing_extra_that_must_be_there_fails(monkeypatch, module, extra) -> None:
  without(monkeypatch, f"viz,{extra}")
  with pytest.raises(pytest.fail.Exception, match=f"{module} is not installed.*that it is there"):
    extras.need(module)


def test_what_does_not_exist_for_this_python_is_skipped(monkeypatch) -> None:
  without(monkeypatch, "tf")
  real = Requirement.__init__
  elsewhere = lambda self, line: real(self, line.replace("< '3.13'", "< '3.0'"))  # noqa: E731
  monkeypatch.setattr(Requirement, "__init__", elsewhere)
  with pytest.raises(
    pytest.skip.Exception, match="there is no tensorflow_io here .python_version <"
  ):
    extras.need("tensorflow_io")


def test_a_module_of_no_extra_is_refused() -> None:
  with pytest.raises(LookupError, match="no extra of pyproject.toml has numpyy"):
    extras.need("numpyy")


def test_only_extras_decide_what_is_optional() -> None:
  """`importorskip` would skip in `make test`, too, where the extra is missing by mistake."""
  own = ("extras.py", "test_extras.py", "test_frame_rate.py")  # the last: a part of PyAV
  files = [path for path in TESTS.rglob("*.py") if path.name not in own]
  assert not [str(path) for path in files if "importorskip" in path.read_text()]
