"""Rows chosen and repeated, images cut into patches, functions applied a few elements at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn import patchify, repeat_2d, repeat_rows, unpatchify, where_rows

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
  ("shape", "flag_axes"), [((5,), 1), ((5, 2), 1), ((5, 2), 2), ((5, 2, 4), 2)]
)
@pytest.mark.parametrize("scalar", [True, False])
def test_select_chooses_whole_rows(shape, flag_axes, scalar):
  flags = RNG.random(shape[:flag_axes]) < 0.5
  yes, no = (RNG.random(shape).astype(np.float32) for _ in range(2))
  yes = np.full_like(no, 7) if scalar else yes
  chosen = np.asarray(
    where_rows(jnp.asarray(flags), 7.0 if scalar else jnp.asarray(yes), jnp.asarray(no))
  )
  np.testing.assert_array_equal(chosen[flags], yes[flags])
  np.testing.assert_array_equal(chosen[~flags], no[~flags])


def test_no_gradient_of_the_row_not_chosen():
  gradient = jax.grad(lambda x: jnp.sum(where_rows(jnp.asarray([True, False]), 0.0, x)))
  np.testing.assert_array_equal(gradient(jnp.ones((2, 3))), [[0, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
@pytest.mark.parametrize(("patch", "rows", "columns"), [(2, 2, 2), ((3, 2), 3, 2), (1, 1, 1)])
def test_a_patch_is_a_block_of_pixels(leading, patch, rows, columns):
  images = RNG.random((*leading, 6, 8, 3)).astype(np.float32)
  patches = patchify(jnp.asarray(images), patch)
  assert patches.shape == (*leading, 6 // rows, 8 // columns, rows * columns * 3)
  block = images[..., rows : 2 * rows, :columns, :]
  np.testing.assert_array_equal(patches[..., 1, 0, :], block.reshape(*leading, -1))
  np.testing.assert_array_equal(unpatchify(patches, patch), images)


@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 5, 4)])
def test_every_row_is_the_array(shape):
  x = jnp.asarray(RNG.random(shape))
  repeated = repeat_rows(x, 3)
  assert repeated.shape == (3, *shape)
  for row in repeated:
    np.testing.assert_array_equal(row, x)


@pytest.mark.parametrize(("leading", "factor"), [((), 3), ((2,), 2), ((2, 3), 1)])
def test_a_map_is_repeated_along_both_axes(leading, factor):
  maps = RNG.random((*leading, 2, 3, 4)).astype(np.float32)
  repeated = np.asarray(repeat_2d(jnp.asarray(maps), factor))
  rows, columns = np.arange(2 * factor) // factor, np.arange(3 * factor) // factor
  np.testing.assert_array_equal(repeated, maps[..., rows[:, None], columns, :])
