"""Geometry is tested in float64."""

import jax
import pytest


@pytest.fixture(autouse=True)
def float64():
  """Turns on 64-bit numbers for a test."""
  with jax.enable_x64(True):
    yield
