import builtins

import numpy as np
import pytest
import scenes

from perceiver_stream.evaluation import optical_flow


@pytest.mark.parametrize("size", [12, 24, 64])
def test_flow_of_a_moving_texture_is_its_speed(size):
  first, second = scenes.moving(2, size)
  flow = optical_flow.dis_flow(first, second)
  assert flow.shape == (size, size, 2)
  inner = flow[2:-2, 2:-2]
  np.testing.assert_allclose(np.median(inner, axis=(0, 1)), [1, 0], atol=0.1)


@pytest.mark.parametrize("size", [4, 8, 11])
def test_pictures_too_small_for_dis_still_get_a_flow(size):
  first, second = scenes.moving(2, size)
  flow = optical_flow.dis_flow(first, second)
  assert flow.shape == (size, size, 2) and np.isfinite(flow).all()
  assert np.median(flow[..., 0]) > 0.4


def test_flow_knows_up_from_right():
  still = scenes.texture(64).round().astype(np.uint8)
  flow = optical_flow.dis_flow(still[2:50, :48], still[:48, :48])  # what was at y is at y + 2
  np.testing.assert_allclose(np.median(flow, axis=(0, 1)), [0, 2], atol=0.1)


def test_extrapolating_by_no_flow_or_no_steps_changes_nothing():
  picture = scenes.moving(1)[0]
  zero, some = np.zeros((32, 32, 2), np.float32), np.ones((32, 32, 2), np.float32)
  np.testing.assert_array_equal(optical_flow.extrapolate(picture, zero, 4), picture)
  np.testing.assert_array_equal(optical_flow.extrapolate(picture, some, 0), picture)


@pytest.mark.parametrize("steps", [1, 3])
def test_extrapolating_a_constant_flow_moves_the_picture_on(steps):
  frames = scenes.moving(1 + steps)
  backward = np.broadcast_to(np.float32([-1, 0]), (32, 32, 2))
  moved = optical_flow.extrapolate(frames[0], backward, steps)
  np.testing.assert_allclose(moved[:, steps:], frames[steps][:, steps:], atol=1e-3)
  # Nothing is known of what comes in at the edge: it goes on as it is.
  np.testing.assert_allclose(moved[:, :steps], np.repeat(frames[0][:, :1], steps, 1), atol=1e-3)


def test_the_flow_is_inverted_where_it_changes_from_place_to_place():
  """A zoom about the origin: p moves to 1.1 p, so q shows what was at q / 1.1."""
  here = optical_flow.pixel_grid(32, 32)
  picture = np.repeat(here[..., :1], 3, -1)  # its value is its x
  moved = optical_flow.extrapolate(picture, -0.1 * here, 1)
  np.testing.assert_allclose(moved[..., 0], here[..., 0] / 1.1, atol=0.05)


def test_sampling_between_pixels_and_beyond_the_edge():
  picture = np.float32([[0, 1], [2, 3]])
  at = np.float32([[[0.5, 0.5], [-4, 0], [9, 9]]])
  np.testing.assert_allclose(optical_flow.sample(picture, at), [[1.5, 0, 3]])


def test_without_opencv_it_says_what_to_install(monkeypatch):
  real = builtins.__import__

  def no_opencv(name, *args, **kwargs):
    if name == "cv2":
      raise ImportError(name)
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, "__import__", no_opencv)
  with pytest.raises(ImportError, match="pip install opencv-python-headless"):
    optical_flow.opencv()
