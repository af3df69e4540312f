"""Patches, and where in another image they are found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn import match_patches, patches_at, sample_bilinear, unit_length

SIDE = 24


def image(seed: int = 0) -> jax.Array:
  """Returns a smooth random image `[1, H, W, 3]`."""
  noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE, 3))
  for axis in (0, 1):
    noise = sum(np.roll(noise, i, axis) for i in range(-2, 3))
  return jnp.asarray(0.5 + 0.2 * noise / noise.std(), jnp.float32)[None]


def shifted(picture, step):
  """Returns the image whose content has moved by `step` (y, x) pixels."""
  y, x = jnp.meshgrid(jnp.arange(SIDE * 1.0), jnp.arange(SIDE * 1.0), indexing="ij")
  return sample_bilinear(picture, y[None] - step[0], x[None] - step[1])


CENTRES = jnp.asarray([[[8.0, 9.0], [12.0, 15.0], [15.0, 8.0]]])


@pytest.mark.parametrize("step", [(0.0, 0.0), (1.0, -2.0), (0.5, 1.25), (-1.5, 0.0)])
def test_a_patch_is_found_where_it_moved(step):
  keys = patches_at(image(), CENTRES, 7)
  (found,) = match_patches(shifted(image(), step), [keys], CENTRES, side=7, reach=3)
  np.testing.assert_allclose(found.offset[0], np.broadcast_to(step, (3, 2)), atol=0.2)
  assert (found.likeness > 0.9).all() and (found.likeness <= 1 + 1e-5).all()


def test_gain_and_offset_of_the_light_change_nothing():
  keys = patches_at(image(), CENTRES, 7)
  np.testing.assert_allclose(patches_at(0.6 * image() + 0.1, CENTRES, 7), keys, atol=1e-5)
  (one,), (two,) = (
    match_patches(picture, [keys], CENTRES, side=7, reach=2)
    for picture in (image(), 0.6 * image() + 0.1)
  )
  np.testing.assert_allclose(one.likeness, two.likeness, atol=1e-5)


def test_sets_of_patches_are_matched_each_by_itself():
  keys, others = patches_at(image(), CENTRES, 5), patches_at(image(1), CENTRES, 5)
  both = match_patches(image(), [keys, others], CENTRES, side=5, reach=2)
  alone = match_patches(image(), [others], CENTRES, side=5, reach=2)
  np.testing.assert_allclose(both[1].likeness, alone[0].likeness, atol=1e-6)
  assert (both[0].likeness > both[1].likeness).all()


def test_flat_patches_match_nothing():
  flat = jnp.full((1, SIDE, SIDE, 3), 0.3)
  keys = patches_at(flat, CENTRES, 7)
  assert not keys.any()
  for picture, patches in ((image(), keys), (flat, patches_at(image(), CENTRES, 7))):
    (found,) = match_patches(picture, [patches], CENTRES, side=7, reach=2)
    np.testing.assert_array_equal(found.likeness, 0)


def test_unit_length_has_finite_gradients_everywhere():
  patches = jnp.stack([jnp.zeros(12), jnp.full(12, 1e-4), jnp.arange(12.0)])
  np.testing.assert_allclose(jnp.linalg.norm(unit_length(patches), axis=-1), [0, 0, 1], atol=1e-6)
  gradient = jax.grad(lambda x: jnp.sum(unit_length(x) ** 3))(patches)
  assert np.isfinite(gradient).all()
