"""Recordings hold what was written to them; without the package it is said what to install."""

import sys

import numpy as np
import pytest
from extras import need

from perceiver_stream.reporting import rerun_files

FRAME = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)


def test_without_the_package_it_is_said_what_to_install(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "rerun", None)
  with pytest.raises(RuntimeError, match='pip install "rerun-sdk"'):
    rerun_files.RerunFile(tmp_path / "x.rrd")
  assert not list(tmp_path.iterdir())


def read(path):
  """Returns the columns of each name in a recording, as lists over ticks."""
  need("rerun")
  from rerun import chunk

  found = {}
  for piece in chunk.RrdReader(path).stream():
    batch = piece.to_record_batch()
    for name in set(batch.column_names) - {"log_time"}:
      values = batch.column(name).to_pylist()
      found.setdefault(piece.entity_path, {}).setdefault(name, []).extend(values)
  return found


def test_a_recording_holds_pictures_points_and_numbers(tmp_path):
  need("rerun")
  path = tmp_path / "new" / "x.rrd"
  places = np.asarray([[1.5, 2.5], [np.nan, 0.0], [7.0, 8.0]])
  with rerun_files.RerunFile(path) as file:
    for tick in range(3):
      file.set_time(tick, tick * tick / 4)
      file.write_frame("video", FRAME)
      file.points("video/points", places + tick, np.asarray([True, True, False]))
      file.number("visible", 1)
  found = read(path)
  points, video = found["/video/points"], found["/video"]
  assert points["tick"] == [0, 1, 2]
  assert [time.total_seconds() for time in points["time"]] == [0, 0.25, 1]
  assert points["Points2D:positions"][1] == [[2.5, 3.5], [8.0, 9.0]]
  assert points["Points2D:class_ids"][0] == [0, 2]
  assert [colour & 255 for colour in points["Points2D:colors"][0]] == [255, 70]
  assert bytes(video["EncodedImage:blob"][2][0]) == rerun_files.png_bytes(FRAME)
  assert found["/visible"]["Scalars:scalars"] == [[1.0]] * 3
