"""Observations that are not finite, live: as if they were not valid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.modalities import build, depth, pixels
from perceiver_stream.models.input_memory import remember_ticks

TICKS, ROWS, BAD = 5, 2, (2, 1)  # tick and row
MODALITIES = {
  "pixels": build("pixels", pixels.Config(height=8, width=8)),
  "depth": build("depth", depth.Config(height=8, width=8)),
}


def observations():
  rng = np.random.default_rng(0)
  return {
    "pixels": rng.uniform(size=(TICKS, ROWS, 8, 8, 3)).astype(np.float32),
    "depth": rng.uniform(1, 9, size=(TICKS, ROWS, 8, 8)).astype(np.float32),
  }


def remembered(seen):
  memory = {name: modality.initial_memory(ROWS) for name, modality in MODALITIES.items()}
  return jax.jit(lambda x: remember_ticks(MODALITIES, memory, x))(seen)


def assert_equal(left, right):
  jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
def test_one_number_that_is_not_finite_makes_the_observation_one_that_is_not_valid(
  value, everywhere
):
  broken, masked = observations(), observations()
  broken["pixels"][(*BAD, ...) if everywhere else (*BAD, 3, 3, 0)] = value
  masked["pixels_valid"] = np.ones((TICKS, ROWS), bool)
  masked["pixels_valid"][BAD] = False
  found = remembered(broken)
  assert not found.valid["pixels"][BAD] and found.valid["pixels"].sum() == TICKS * ROWS - 1
  assert_equal(found, remembered(masked))
  assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(found.memory))


def test_what_a_modality_has_a_meaning_for_stays_valid():
  """Depth that is not known at a pixel is NaN or inf; the image is seen all the same."""
  seen = observations()
  seen["depth"][(*BAD, 3, 3)] = np.inf
  assert remembered(seen).valid["depth"].all()


def test_bytes_are_not_looked_at():
  seen = observations()
  seen["pixels"] = (255 * seen["pixels"]).astype(np.uint8)
  del seen["depth"]
  assert "is_finite" not in str(jax.make_jaxpr(remembered)(seen))
