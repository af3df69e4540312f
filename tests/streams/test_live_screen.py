"""The screen of this machine as a live source."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from perceiver_stream import streams
from perceiver_stream.streams import live, live_sources


def row(source):
  """Returns an iterator over every tick of a source."""
  config = live.Config(source=source, rate_hz=25.0, audio_rate_hz=0, when_faster="wait")
  return iter(streams.open_rows(config)[0])


@pytest.mark.skipif(sys.platform != "linux", reason="displays are named in this way on Linux")
def test_screens_are_x11_displays(monkeypatch):
  assert live_sources.parse("screen::7.1")[:3] == ("screen::7.1", ":7.1", "x11grab")
  monkeypatch.setenv("DISPLAY", ":3")
  assert live_sources.parse("screen:").url == ":3"
  monkeypatch.delenv("DISPLAY")
  with pytest.raises(ValueError, match="names no X11 display, and DISPLAY is not set; use screen:"):
    live_sources.parse("screen:")
  with pytest.raises(ValueError, match="names no X11 display; use screen:"):
    live_sources.parse("screen:/etc/passwd")
  with pytest.raises(live.LiveError, match="screen::97 cannot be opened"):
    next(row("screen::97"))


@pytest.mark.slow
def test_a_screen_is_watched():
  program = shutil.which("Xvfb")
  if program is None:
    pytest.skip("there is no Xvfb: apt-get install xvfb")
  command = [program, "-displayfd", "1", "-screen", "0", "320x240x24", "-br"]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
    try:
      assert server.stdout is not None
      stream = row(f"screen::{server.stdout.readline().strip()}")
      ticks = [next(stream) for _ in range(3)]
    finally:
      server.terminate()
  assert all(np.median(tick["pixels"]) == 0 for tick in ticks)  # black but for the pointer
