"""Points that are tracked in the images of a page: they stay on what moves, and slots are used again."""

import numpy as np
import pytest

from perceiver_stream.serving.image_points import PointsInImages
from perceiver_stream.utils.opencv import opencv

SIDE, SQUARE = 64, 18


def scene(ticks: int, px_per_tick: float) -> tuple[np.ndarray, np.ndarray]:
  """Returns images of a textured square that circles, `[T, 64, 64, 3]`, and its centres (x, y)."""
  cv2, rng = opencv(), np.random.default_rng(0)
  enlarge = lambda x, n: cv2.resize(x.astype(np.float32), (n, n), interpolation=cv2.INTER_CUBIC)  # noqa: E731
  ground = enlarge(rng.integers(70, 120, (10, 10, 3)), SIDE)
  square = enlarge(rng.integers(150, 240, (6, 6, 3)), SQUARE)
  angle = np.arange(ticks) * px_per_tick / 18
  corner = 23 + 18 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
  frames = []
  for x, y in corner:
    shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
    cover = cv2.warpAffine(np.ones((SQUARE, SQUARE), np.float32), shift, (SIDE, SIDE))[..., None]
    moved = cv2.warpAffine(square, shift, (SIDE, SIDE))
    frames.append(np.clip((1 - cover) * ground + moved, 0, 255).astype(np.uint8))
  return np.stack(frames), corner + SQUARE / 2


@pytest.mark.parametrize("px_per_tick", [0.6, 1.0, 4.0])
def test_a_point_stays_on_a_moving_object(px_per_tick) -> None:
  frames, centres = scene(100, px_per_tick)
  points, offsets = PointsInImages(4), np.array([[0, 0], [5, 4]])
  for slot, offset in enumerate(offsets):
    points.start(slot, *((centres[0] + offset) / SIDE))
  for frame, centre in zip(frames, centres, strict=True):
    found = points.observe({"pixels": frame[None]})
    assert found.visible.tolist() == [True, True, False, False]
    assert np.isnan(found.position[2:]).all()
    np.testing.assert_allclose(found.position[:2] * SIDE, centre + offsets, atol=1.5)


@pytest.mark.parametrize(("ago", "kept"), [(0, 5), (3, 2), (99, 0)])
def test_a_point_starts_in_the_image_that_was_clicked(ago, kept) -> None:
  frames, centres = scene(7, 2.0)
  points = PointsInImages(1)
  for frame in frames[:6]:
    points.observe({"pixels": frame[None]})
  points.start(0, *(centres[kept] / SIDE), ago)
  found = points.observe({"pixels": frames[6:]})
  np.testing.assert_allclose(found.position[0] * SIDE, centres[6], atol=0.5)


def test_slots_are_used_again_and_images_that_are_missing_change_nothing() -> None:
  frames, centres = scene(8, 1.0)
  points = PointsInImages(1)
  points.start(0, *(centres[0] / SIDE))
  assert np.isnan(points.observe({}).position).all()  # before an image came
  before = points.observe({"pixels": frames[:1]})
  for missing in ({}, {"pixels": frames[4:5], "pixels_valid": np.zeros(1, bool)}):
    np.testing.assert_array_equal(points.observe(missing).position, before.position)
  points.stop(0)
  assert np.isnan(points.observe({"pixels": frames[1:2]}).position).all()
  points.start(0, *(centres[1] / SIDE))
  points.observe({"pixels": frames[2:3]})
  found = points.observe({"pixels": frames[3:4]})
  np.testing.assert_allclose(found.position[0] * SIDE, centres[3], atol=0.5)
  points.start(0, 0.5, 0.5)
  points.stop(0)  # before the next image
  assert np.isnan(points.observe({"pixels": frames[4:5]}).position).all()
  points.start(0, 0.5, 0.5)
  points.reset()
  assert np.isnan(points.observe({"pixels": frames[5:6]}).position).all()
  points.start(0, *(centres[6] / SIDE), 3)  # of images before a cut
  found = points.observe({"pixels": frames[6:7], "is_first": np.ones(1, bool)})
  np.testing.assert_allclose(found.position[0] * SIDE, centres[6], atol=1e-3)


def test_a_missing_image_between_click_and_start_does_not_shift_the_start() -> None:
  frames, centres = scene(8, 2.0)
  points = PointsInImages(1)
  for frame in frames[:6]:
    points.observe({"pixels": frame[None]})
  points.start(0, *(centres[2] / SIDE), ago=3)
  points.observe({"pixels": frames[7:], "pixels_valid": np.zeros(1, bool)})
  found = points.observe({"pixels": frames[6:7]})
  np.testing.assert_allclose(found.position[0] * SIDE, centres[6], atol=0.5)


def test_a_point_that_was_dropped_leaves_no_position_to_the_next() -> None:
  frames, centres = scene(3, 1.0)
  points = PointsInImages(1)
  points.start(0, *(centres[0] / SIDE))
  held = points.observe({"pixels": frames[:1]})
  points.stop(0)
  points.start(0, 0.1, 0.1)
  assert np.isnan(points.observe({}).position).all() and np.isfinite(held.position).all()
