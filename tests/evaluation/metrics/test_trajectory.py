"""Errors of paths against closed forms: similar paths, known drifts, scales of the start."""

import numpy as np
import pytest

from perceiver_stream.evaluation.metrics import depth, drift, trajectory

RNG = np.random.default_rng(0)


def rotation(axis: int, angle: float) -> np.ndarray:
  i, j = [k for k in range(3) if k != axis]
  matrix = np.eye(3)
  matrix[i, i] = matrix[j, j] = np.cos(angle)
  matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
  return matrix


def path(ticks: int = 30) -> np.ndarray:
  """Returns random camera-to-world poses."""
  poses = np.tile(np.eye(4), (ticks, 1, 1))
  for tick in range(1, ticks):
    step = np.eye(4)
    step[:3, :3] = rotation(int(RNG.integers(3)), RNG.normal(0, 0.2))
    step[:3, 3] = RNG.normal(0, 0.3, 3)
    poses[tick] = poses[tick - 1] @ step
  return poses


def similar(poses: np.ndarray, scale: float) -> np.ndarray:
  """Returns the same path in another world's axes, and at another scale."""
  moved = poses.copy()
  turn = rotation(0, 0.7) @ rotation(2, -1.9)
  moved[:, :3, 3] = scale * poses[:, :3, 3] @ turn.T + [1.0, -2.0, 3.0]
  moved[:, :3, :3] = turn @ poses[:, :3, :3]
  return moved


def straight(ticks: int, step: float = 1.0) -> np.ndarray:
  poses = np.tile(np.eye(4), (ticks, 1, 1))
  poses[:, 2, 3] = step * np.arange(ticks)
  return poses


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_the_alignment_finds_a_similarity(scale):
  gt = path()
  estimate = similar(gt, scale)
  found = trajectory.align(gt[:, :3, 3], estimate[:, :3, 3], "sim3")
  assert found.scale == pytest.approx(1 / scale)
  np.testing.assert_allclose(found.aligned, gt[:, :3, 3], atol=1e-9)
  assert trajectory.absolute_error(gt, estimate, "sim3") == pytest.approx(0, abs=1e-9)
  rigid = trajectory.absolute_error(gt, estimate, "se3")
  spread = gt[:, :3, 3] - gt[:, :3, 3].mean(axis=0)
  # Only the scale is left, about the mean of the path.
  expected = abs(scale - 1) * np.sqrt(np.mean(np.sum(spread**2, axis=-1)))
  assert rigid == pytest.approx(expected, abs=1e-9)


def test_a_mirrored_path_is_no_rotation():
  gt = path()
  mirrored = gt.copy()
  mirrored[:, 0, 3] *= -1
  found = trajectory.align(gt[:, :3, 3], mirrored[:, :3, 3], "sim3")
  assert np.linalg.det(found.rotation) == pytest.approx(1)
  assert trajectory.absolute_error(gt, mirrored, "sim3") > 0.1


@pytest.mark.parametrize("frames", [1, 4])
def test_relative_errors_of_a_constant_error_per_step(frames):
  gt, estimate = straight(20), straight(20, 1.1)
  for tick in range(20):  # 0.01 rad a step about the axis of motion moves no position
    estimate[tick, :3, :3] = rotation(2, 0.01 * tick)
  metres, radians = trajectory.relative_error(gt, estimate, frames)
  np.testing.assert_allclose(metres, 0.1 * frames)
  np.testing.assert_allclose(radians, 0.01 * frames, atol=1e-9)


@pytest.mark.parametrize("length_m", [1.0, 2.5, 7.0])
def test_drift_of_a_constant_error_per_metre(length_m):
  gt, estimate = straight(40, 0.5), straight(40, 0.45)
  for tick in range(40):
    estimate[tick, :3, :3] = rotation(2, 0.03 * 0.5 * tick)
  metres, radians = drift.per_metre(gt, estimate, length_m)
  assert len(metres) == 40 - np.ceil(length_m / 0.5)
  np.testing.assert_allclose(metres, 0.1)
  np.testing.assert_allclose(radians, 0.03, atol=1e-9)


def test_drift_of_a_turn_at_one_tick_counts_only_in_sections_across_it():
  gt, estimate = straight(9), straight(9)
  for tick in range(5, 9):  # at tick 4 the estimate turns by a right angle and goes along x
    estimate[tick, :3, :3] = rotation(1, -np.pi / 2)
    estimate[tick, :3, 3] = [tick - 4, 0, 4]
  metres, radians = drift.per_metre(gt, estimate, 1.0)
  np.testing.assert_allclose(metres, [0, 0, 0, 0, np.sqrt(2), 0, 0, 0], atol=1e-9)
  np.testing.assert_allclose(radians, [0, 0, 0, 0, np.pi / 2, 0, 0, 0], atol=1e-9)


def test_paths_too_short_have_no_drift_and_lengths_are_positive():
  assert np.isnan(drift.scores(straight(3, 0.1), straight(3, 0.1))["drift"])
  with pytest.raises(ValueError, match="length_m=0.0; use a length above 0 metres"):
    drift.per_metre(straight(3), straight(3), 0.0)


def test_the_scale_of_the_start_is_that_of_the_first_steps():
  gt = straight(30)
  estimate = straight(30, 0.2)
  estimate[11:, 2, 3] += 0.2 * np.arange(19)  # twice as fast after tick 10
  scaled = trajectory.rescaled(gt, estimate, 10)
  np.testing.assert_allclose(scaled[:11], gt[:11], atol=1e-9)
  assert scaled[-1, 2, 3] == pytest.approx(29 + 18)
  whole = trajectory.rescaled(gt, estimate, None)
  assert whole[-1, 2, 3] == pytest.approx(29)
  still = np.tile(np.eye(4), (30, 1, 1))
  np.testing.assert_array_equal(trajectory.rescaled(gt, still), still)


@pytest.mark.parametrize("scale", [0.1, 1.0, 7.0])
def test_abs_rel_after_median_scaling_ignores_the_scale(scale):
  gt = RNG.uniform(1, 5, (2, 9, 11))
  off = np.where(np.arange(11) % 2, 1.2, 0.8)[None, None] * gt
  off[:, :, 0] = gt[:, :, 0]
  table, applied = depth.scores(gt, scale * off, alignment="median")
  same, _ = depth.scores(gt, off, alignment="median")
  np.testing.assert_allclose(table, same)
  exact, _ = depth.scores(gt, scale * gt, alignment="median")
  np.testing.assert_allclose(exact[:, 0], 0, atol=1e-9)
  assert applied[0, 0] == pytest.approx(np.median(gt[0]) / np.median(scale * off[0]))
