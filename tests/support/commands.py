"""What tests of commands share: the scripts as modules, and small movies."""

import importlib.util
import pathlib
import sys

import numpy as np

from perceiver_stream import streams
from perceiver_stream.reporting.video_writer import VideoWriter

ROOT = pathlib.Path(__file__).parents[2]


def load(name):
  """Returns a script as a module."""
  spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def call(monkeypatch, name, *args):
  """Runs a script with arguments, in this process."""
  monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
  load(name).main()


def synthetic_movie(path, count, size, sound=False):
  """Writes `count` pictures of a synthetic world at 25 Hz; returns the path."""
  rate = 16000 if sound else 0
  config = streams.synthetic.Config(height=size[0], width=size[1], max_ticks=count)
  with VideoWriter(path, rate_hz=25, audio_rate_hz=rate, min_side=1) as movie:
    for tick in streams.open_rows(config)[0]:
      movie.write_frame(tick["pixels"])
    if sound:
      movie.write_sound(0.3 * np.sin(np.arange(count * 640) / 9, dtype=np.float32))
  return path
