"""Packages of the extras are imported so that they can live together."""

import subprocess
import sys

import pytest
from extras import need

from perceiver_stream.streams import sim_scene
from perceiver_stream.utils import optional

DRAW = """
from perceiver_stream import streams
def draw():
  config = streams.mujoco.Config(height=16, width=16, max_ticks=2)
  assert len(list(streams.open_rows(config)[0])) == 2
"""
OURS = "from perceiver_stream.utils.optional import require; require('tensorflow', 'tf')\n"


def run(program: str) -> str:
  """Runs a program of its own, and returns what it says at its end."""
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
  )
  return f"{done.returncode} {done.stderr}"


def test_what_is_missing_says_how_to_install_it() -> None:
  with pytest.raises(ImportError, match=r'nothing_so_called is not .*"perceiver_stream\[sim\]"'):
    optional.require("nothing_so_called", "sim")


@pytest.mark.slow
@pytest.mark.parametrize(
  "program",
  [
    OURS + DRAW + "draw()",
    DRAW + "draw()\n" + OURS + "draw()",
  ],
  ids=["tensorflow first", "mujoco first"],
)
def test_mujoco_draws_beside_tensorflow(program: str) -> None:
  """Two copies of LLVM in one process: Mesa called TensorFlow's, a segmentation fault."""
  need("mujoco", "tensorflow")
  assert run(program).startswith("0 ")


def test_drawing_that_would_crash_is_refused(monkeypatch) -> None:
  monkeypatch.setitem(sys.modules, optional._GLOBAL_SYMBOLS, optional)  # imported, and by others
  monkeypatch.delenv("MUJOCO_GL", raising=False)
  monkeypatch.setattr(sim_scene.os.path, "exists", lambda path: False)
  with pytest.raises(
    RuntimeError,
    match=r"instead of `import tensorflow`, call perceiver_stream\.utils\.optional\.req",
  ):
    sim_scene.load_mujoco()
