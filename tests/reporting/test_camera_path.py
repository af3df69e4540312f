"""The path of a camera from the lines of a run: chained, scaled, drawn, and written for Rerun."""

import json

import numpy as np
import pytest
from extras import need

from perceiver_stream.reporting import camera_path, report, run_files
from perceiver_stream.types import IS_FIRST


def turning(ticks: int, step: float) -> np.ndarray:
  """Returns camera-to-world poses on a circle."""
  angle, forward = 0.1, np.eye(4)
  forward[:3, :3] = [
    [np.cos(angle), 0, np.sin(angle)],
    [0, 1, 0],
    [-np.sin(angle), 0, np.cos(angle)],
  ]
  forward[2, 3] = step
  poses = [np.eye(4)]
  for _ in range(ticks - 1):
    poses.append(poses[-1] @ forward)
  return np.stack(poses)


def write(folder, poses, *, scale=0.5, window=4, starts=(0,), truth=True):
  """Writes lines of perfect motions at another scale."""
  motions = np.linalg.inv(np.concatenate([poses[:1], poses[:-1]])) @ poses
  motions[:, :3, 3] *= scale
  file = run_files.JsonLines(folder / run_files.CAMERA_PATH)
  for number in range(len(poses) // window):
    at = slice(number * window, (number + 1) * window)
    first = np.isin(np.arange(len(poses))[at], starts)[:, None]
    given = {IS_FIRST: first} | (
      {"camera": poses[at, None, :3].reshape(window, 1, 12)} if truth else {}
    )
    line = camera_path.line_of(number + 1, motions[at, None, :3].reshape(window, 1, 12), given)
    assert line is not None
    file.append(line)
  file.close()


def test_the_longer_of_the_last_two_recordings_is_chained_and_scaled(tmp_path):
  poses = turning(24, 0.3)
  write(tmp_path, poses, starts=(0, 8, 20))
  path = camera_path.read(tmp_path)
  assert path is not None and path.truth is not None and len(path.estimate) == 12
  np.testing.assert_allclose(path.estimate, path.truth, atol=1e-4)
  np.testing.assert_allclose(path.truth[0], np.eye(4), atol=1e-9)
  write(tmp_path, poses, starts=(0, 8, 20), truth=False)
  alone = camera_path.read(tmp_path)
  assert alone is not None and alone.truth is None
  np.testing.assert_allclose(2 * alone.estimate[:, :3, 3], path.truth[:, :3, 3], atol=1e-4)


def test_a_gap_between_windows_starts_another_path_and_no_lines_are_no_path(tmp_path):
  assert camera_path.read(tmp_path) is None
  write(tmp_path, turning(12, 0.3))
  file = tmp_path / run_files.CAMERA_PATH
  lines = [json.loads(line) for line in file.read_text().splitlines()]
  lines[2]["window"] = 9
  file.write_text("".join(json.dumps(line) + "\n" for line in lines))
  path = camera_path.read(tmp_path)
  assert path is not None and len(path.estimate) == 8
  broken = np.full((4, 1, 12), np.nan)
  assert camera_path.line_of(1, broken, {}) is None


def test_the_report_shows_it_and_a_damaged_file_is_a_note(tmp_path):
  write(tmp_path, turning(12, 0.3))
  page = report.write_report(tmp_path).read_text()
  assert 'alt="camera path"' in page and "12 ticks, predicted before the updates" in page
  (tmp_path / run_files.CAMERA_PATH).write_text('{"window": 1, "motions": [[1, 2]]}\n' * 2)
  assert (
    "Left out, since what the run wrote is damaged" in report.write_report(tmp_path).read_text()
  )
  (tmp_path / run_files.CAMERA_PATH).unlink()
  assert "camera path" not in report.write_report(tmp_path).read_text()


def test_rerun_gets_cameras_and_lines(tmp_path):
  need("rerun")
  from rerun import chunk

  with pytest.raises(ValueError, match="has no camera path; name a run of ego_motion"):
    camera_path.write_rerun(tmp_path, tmp_path / "a.rrd")
  write(tmp_path, turning(8, 0.3))
  target = camera_path.write_rerun(tmp_path, tmp_path / "b" / "path.rrd")
  names = {piece.entity_path for piece in chunk.RrdReader(target).stream()}
  assert {"/world/estimate", "/world/truth", "/world/estimate_path", "/world/truth_path"} <= names
