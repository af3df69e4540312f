"""Random augmentations: the same key, all frames alike, exact where the draw is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn import augment
from perceiver_stream.nn.augment import colour, crops, filters

CLIP = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 20, 30, 3)), jnp.float32)
CLIP = CLIP.at[1].set(CLIP[0])  # a static clip: all frames have to stay alike
RANDOM = {
  "blur": augment.random_blur,
  "colour": augment.random_colour,
  "convolution": augment.random_convolution,
  "flip": augment.random_flip,
  "crop": lambda key, clip: augment.random_crop(key, clip, 12),
}


@pytest.mark.parametrize("name", RANDOM)
def test_frames_are_changed_alike_and_the_key_decides(name):
  change = jax.jit(jax.vmap(RANDOM[name], (0, None)))
  keys = jax.random.split(jax.random.key(1), 12)
  found = change(keys, CLIP)
  np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-6)
  np.testing.assert_array_equal(found, change(keys, CLIP))
  distinct = {np.asarray(x).tobytes() for x in found}
  assert len(distinct) >= (2 if name == "flip" else 9)


def test_a_crop_of_everything_is_the_clip_and_whole_boxes_are_slices():
  whole = crops.crop_and_resize(CLIP, jnp.asarray([0.0, 0, 20, 30]), 20, 30)
  np.testing.assert_allclose(whole, CLIP, atol=1e-5)
  part = crops.crop_and_resize(CLIP, jnp.asarray([3.0, 4, 8, 10]), 8, 10)
  np.testing.assert_allclose(part[:, 1:-1, 1:-1], CLIP[:, 4:10, 5:13], atol=1e-5)


def test_boxes_are_inside_and_have_the_areas_and_aspects_asked_for():
  boxes = jax.vmap(lambda k: crops.draw_box(k, 40, 50))(jax.random.split(jax.random.key(0), 400))
  top, left, rows, columns = np.asarray(boxes).T
  assert (top >= 0).all() and (left >= 0).all()
  assert (top + rows <= 40).all() and (left + columns <= 50).all()
  share, aspect = rows * columns / 2000, columns / rows
  assert share.min() > 0.28 and share.max() > 0.9 and share.mean() == pytest.approx(0.6, abs=0.1)
  assert aspect.min() > 0.45 and aspect.max() < 2.2 and len(np.unique(top)) > 5


def test_boxes_that_never_fit_are_the_centre():
  box = crops.draw_box(jax.random.key(0), 40, 60, area=(1.0, 1.0), aspect=(1.0, 1.0))
  np.testing.assert_array_equal(box, [8, 18, 24, 24])


def test_blur_keeps_the_sum_of_what_is_far_from_the_edge():
  point = jnp.zeros((1, 15, 15, 1)).at[0, 7, 7].set(1.0)
  blurred = filters.blur(point, 1.0, 7)
  assert float(jnp.sum(blurred)) == pytest.approx(1.0, rel=1e-6)
  assert float(blurred[0, 7, 8, 0] / blurred[0, 7, 7, 0]) == pytest.approx(np.exp(-0.5), rel=1e-5)
  np.testing.assert_allclose(blurred, blurred.swapaxes(1, 2), atol=1e-7)


def test_a_full_turn_of_hue_and_unit_factors_change_nothing():
  same = colour.adjust_colour(CLIP, brightness=0.0, saturation=1.0, contrast=1.0, hue=1.0)
  np.testing.assert_allclose(same, CLIP, atol=1e-5)
  red = jnp.zeros((1, 1, 1, 3)).at[..., 0].set(0.7)
  np.testing.assert_allclose(colour.adjust_hue(red, 1 / 3)[0, 0, 0], [0, 0.7, 0], atol=1e-5)
  np.testing.assert_allclose(colour.adjust_saturation(red, 0.0)[0, 0, 0], [0.7] * 3, atol=1e-6)
