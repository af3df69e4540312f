import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn import (
  LearnedPositions,
  coordinates,
  fourier_linear,
  fourier_octaves,
  sincos_1d,
)
from perceiver_stream.nn.positions import (
  CONVENTIONS,
  coordinates_float32,
  index_to_position,
)


def test_conventions_are_what_they_say():
  n = 16
  np.testing.assert_allclose(
    coordinates((n,), "inclusive")[:, 0], np.linspace(-1, 1, n), atol=1e-15
  )
  np.testing.assert_allclose(
    coordinates((n,), "left")[:, 0], np.linspace(-1, 1, n, endpoint=False), atol=1e-15
  )
  edges = np.linspace(-1, 1, n + 1)
  np.testing.assert_allclose(coordinates((n,))[:, 0], (edges[1:] + edges[:-1]) / 2, atol=1e-15)
  with pytest.raises(ValueError, match=r"convention 'middle' is not one of \('centre',"):
    index_to_position(0, 4, "middle")


def test_centres_survive_a_change_of_resolution():
  fine = coordinates((8,))[:, 0].reshape(4, 2).mean(1)
  np.testing.assert_allclose(fine, coordinates((4,))[:, 0], atol=1e-15)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_subset_has_the_positions_of_the_whole(convention):
  shape = (3, 4, 5)
  whole = coordinates(shape, convention)
  indices = np.asarray([59, 0, 7, 7, 23])
  np.testing.assert_array_equal(coordinates(shape, convention, indices), whole[indices])
  traced = jax.jit(lambda i: coordinates(shape, convention, i))(jnp.asarray(indices))
  np.testing.assert_allclose(traced, whole[indices], atol=1e-6)


def test_coordinates_are_row_major_and_ordered_t_y_x():
  grid = coordinates((2, 3, 4), "inclusive").reshape(2, 3, 4, 3)
  assert (grid[0, ..., 0] == -1).all() and (grid[1, ..., 0] == 1).all()
  np.testing.assert_allclose(grid[0, :, 0, 1], [-1, 0, 1])
  np.testing.assert_allclose(grid[0, 0, :, 2], [-1, -1 / 3, 1 / 3, 1])


def test_float32_positions_are_concrete_inside_jit_and_near_the_exact_ones():
  seen = []
  jax.jit(lambda: seen.append(coordinates_float32((3, 1920))))()
  assert seen[0].dtype == np.float32
  np.testing.assert_allclose(seen[0], coordinates((3, 1920), "inclusive"), atol=2e-7)


def fourier_by_hand(position, num_bands, max_resolution):
  sines, cosines = [], []
  for p, r in zip(position, max_resolution, strict=True):
    for band in np.linspace(1, r / 2, num_bands):
      sines.append(np.sin(np.pi * p * band))
      cosines.append(np.cos(np.pi * p * band))
  return [*position, *sines, *cosines]


def test_fourier_linear_equals_its_definition():
  positions = coordinates((3, 4), "inclusive")
  actual = fourier_linear(positions, 5, (8, 6))
  expected = [fourier_by_hand(p, 5, (8, 6)) for p in positions]
  assert actual.dtype == np.float64
  np.testing.assert_allclose(actual, expected, atol=1e-12)
  for cast in (np.float32, lambda x: jnp.asarray(x, jnp.float32)):
    np.testing.assert_allclose(fourier_linear(cast(positions), 5, (8, 6)), expected, atol=1e-5)


def test_fourier_linear_options_drop_the_named_parts():
  positions = coordinates((4, 4))
  full = fourier_linear(positions, 3, (4, 4))
  assert full.shape == (16, 2 * (1 + 2 * 3))
  np.testing.assert_array_equal(fourier_linear(positions, 3, (4, 4), concat_pos=False), full[:, 2:])
  np.testing.assert_array_equal(fourier_linear(positions, 3, (4, 4), sine_only=True), full[:, :8])
  with pytest.raises(ValueError, match=r"have 2 axes but max_resolution \(4,\) has 1"):
    fourier_linear(positions, 3, (4,))


def test_fourier_octaves_equals_its_definition():
  positions = coordinates((3, 4), "inclusive")
  actual = fourier_octaves(positions, 4)
  phases = np.stack([np.pi * 2.0**i * positions for i in range(4)], axis=1).reshape(12, 8)
  np.testing.assert_allclose(actual[:, :8], np.sin(phases), atol=1e-12)
  np.testing.assert_allclose(actual[:, 8:], np.cos(phases), atol=1e-9)
  np.testing.assert_allclose(
    fourier_octaves(jnp.asarray(positions, jnp.float32), 4), actual, atol=1e-4
  )


def test_twenty_octaves_are_exact_in_numpy_and_noise_in_float32():
  positions = coordinates((7, 5), "inclusive")
  exact = fourier_octaves(positions.astype(np.longdouble), 20)
  assert np.abs(fourier_octaves(positions, 20) - exact).max() < 1e-8
  noisy = fourier_octaves(jnp.asarray(positions, jnp.float32), 20)
  assert np.abs(noisy - exact.astype(np.float64)).max() > 1e-3


def test_sincos_alternates_sine_and_cosine():
  table = sincos_1d(6, 8)
  for index, k in np.ndindex(6, 4):
    angle = index / 10000 ** (2 * k / 8)
    np.testing.assert_allclose(
      table[index, 2 * k : 2 * k + 2], [np.sin(angle), np.cos(angle)], atol=1e-12
    )
  with pytest.raises(ValueError, match="width 7 is odd"):
    sincos_1d(2, 7)


def test_learned_positions_repeat_for_a_batch(run):
  positions = lambda *batch: lambda: LearnedPositions(3, 4, name="positions")(*batch)  # noqa: E731
  alone, params, _ = run(lambda: positions())
  assert alone.shape == (3, 4) == params["positions"]["pos_embs"].shape
  batched, _, _ = run(lambda: positions(2))
  np.testing.assert_array_equal(batched, np.stack([alone, alone]))
