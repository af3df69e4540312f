"""Colours say exactly what they stand for."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.lab import colours


def as_read(picture):
  return jnp.asarray(picture, jnp.float32) / 255


@pytest.mark.parametrize("num", [1, 2, 8, colours.MAX_CLASSES])
def test_classes_come_back_exactly(num):
  ids = np.random.default_rng(0).integers(0, num, (5, 7)).astype(np.int32)
  painted = colours.paint_classes(ids, num)
  assert painted.dtype == np.uint8
  np.testing.assert_array_equal(colours.read_classes(as_read(painted), num), ids)


def test_class_colours_are_far_apart_and_a_blur_does_not_change_them():
  palette = colours.palette(8).astype(float)
  assert {tuple(c) for c in colours.palette(8).tolist()} == {
    (r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)
  }
  noisy = palette + np.random.default_rng(0).uniform(-100, 100, palette.shape)
  np.testing.assert_array_equal(colours.read_classes(as_read(noisy), 8), np.arange(8))


@pytest.mark.parametrize(("near", "far"), [(2.0, 10.0), (0.25, 64.0), (0.1, 100.0)])
def test_depth_comes_back_within_half_a_percent(near, far):
  metres = np.exp(np.linspace(np.log(near), np.log(far), 5000))
  painted = colours.paint_depth(metres, near, far)
  assert len(np.unique(painted, axis=0)) > 1500
  again = np.asarray(colours.read_depth(as_read(painted), near, far))
  assert np.max(np.abs(again / metres - 1)) < 0.005


def test_depth_of_colours_off_the_way_is_that_of_the_nearest():
  grey = np.array([[0.1, 0.1, 1.0], [0.05, 0.0, 0.02]])  # near blue, near black
  metres = np.asarray(colours.read_depth(jnp.asarray(grey, jnp.float32), 1.0, 128.0))
  np.testing.assert_allclose(metres, [2 * 2**0.1, 2**0.02], rtol=1e-4)


def test_what_is_not_there_is_far_away():
  painted = colours.paint_depth(np.array([np.nan, 500.0, 0.001]), 1.0, 10.0)
  np.testing.assert_array_equal(painted, [[255] * 3, [255] * 3, [0] * 3])


def test_too_many_classes_are_refused():
  with pytest.raises(ValueError, match="28 classes; there are colours for 1 to 27"):
    colours.palette(28)
  with pytest.raises(ValueError, match="ids from 0 to 4, but the palette has 3 colours"):
    colours.paint_classes(np.array([0, 4]), 3)
