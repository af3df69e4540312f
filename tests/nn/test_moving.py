"""Distance of queries from moving points: the formula, points without position, and heads of images."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.modalities import Queries, depth
from perceiver_stream.nn import CellMotion, MovingPoints
from perceiver_stream.nn.moving import distance_features, sharpness

ROWS, POINTS = 2, 7


def some(seed: int, *shape: int) -> np.ndarray:
  return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def points(placed: int) -> MovingPoints:
  at, move, weight = some(0, ROWS, POINTS, 2), 0.2 * some(1, ROWS, POINTS, 2), some(2, ROWS, POINTS)
  return MovingPoints(at, move, jnp.asarray(weight), jnp.arange(POINTS) < placed)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("placed", [0, 5, POINTS])
def test_the_bias_is_the_squared_distance_from_where_points_move(heads, placed):
  known, sharp = points(placed), np.float32([4.0, 30.0, 0.5])[:heads]
  at, ticks = some(3, 11, 2), np.float32([0, 1, 2, 4, 16, 1, 0, 3, 7, 255, 1])
  near = distance_features(jnp.asarray(at), jnp.asarray(ticks), jnp.asarray(sharp))
  found = np.einsum("qmf,bnf->bqmn", near, known.features())
  there = known.position[:, None] + ticks[:, None, None] * known.velocity[:, None]
  squared = np.sum(np.square(at[:, None] - there), axis=-1)[:, :, None]  # [B, Q, 1, N]
  expected = -squared * sharp[:, None] / (2 * (1 + ticks[:, None, None]))
  expected = np.where(np.asarray(known.placed), expected, 0) + known.log_weight[:, None, None]
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dims", [0, 1, 3])
def test_queries_without_a_place_in_the_image_have_no_distance(dims):
  near = distance_features(jnp.asarray(some(0, 4, dims)), jnp.ones(4), jnp.ones(2))
  found = np.einsum("qmf,bnf->bqmn", near, points(5).features())
  expected = np.broadcast_to(points(5).log_weight[:, None, None], found.shape)
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("placed", [1, 4, POINTS])
def test_the_radius_is_relative_to_the_spacing(placed):
  first = hk.without_apply_rng(hk.transform(lambda: sharpness(points(placed), 2)))
  radius = 1 / np.sqrt(first.apply(first.init(None)))
  np.testing.assert_allclose(radius, 0.55 * 2 / np.sqrt(placed), rtol=1e-5)


def test_any_image_is_moved_with_the_points():
  """Depth of two halves, whose points move apart: each half moves with its point."""
  image = depth.Depth("depth", depth.Config(height=8, width=16, patch=4))
  grid = image.query_grid()
  places, ticks = np.tile([[[0.0, -0.5], [0.0, 0.5]]], (len(grid), 1, 1)), jnp.full(len(grid), 2.0)
  steps = np.float32([[1.0, 0.0], [-1.0, 0.0]]) * 2 / 8  # one row a tick, down and up
  motion = CellMotion(
    position=jnp.asarray(places[None], jnp.float32),
    velocity=jnp.broadcast_to(jnp.asarray(steps)[None, None], (1, len(grid), 2, 2)),
    log_weight=jnp.zeros((1, len(grid), 2)),
    sharpness=jnp.full(len(grid), 1e3),
    still=jnp.full((1, len(grid)), -1e4),
  )
  last = jnp.asarray(some(5, 1, 8, 16))
  memory = image.initial_memory(1)._replace(last=last, slow=last)
  decoded = jnp.zeros((1, len(grid), 3))
  queries = Queries(jnp.asarray(grid, jnp.float32), ticks)
  head = hk.without_apply_rng(
    hk.transform(lambda: image.head(decoded, memory, (), queries, motion)["depth"])
  )
  found = image.assemble(head.apply(head.init(jax.random.key(0))))[0]
  np.testing.assert_allclose(found[2:, :8], last[0, :-2, :8], atol=1e-5)
  np.testing.assert_allclose(found[:-2, 8:], last[0, 2:, 8:], atol=1e-5)
