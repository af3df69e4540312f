"""Depth and motion read out of two frames: shapes, the untrained odometer, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.models import motion_readout
from perceiver_stream.models.motion_readout import Config
from perceiver_stream.models.point_readout import Features
from perceiver_stream.nn.geometry import alignment, cameras, lie, warps

CONFIG = Config(dim=8, num_heads=2)


def features(height: int, width: int, rows: int = 2) -> Features:
  keys = jax.random.split(jax.random.key(0), 3)
  frame = lambda key: jax.random.uniform(key, (rows, height, width, 3))  # noqa: E731
  return Features(jax.random.normal(keys[0], (rows, 5, 6)), frame(keys[1]), frame(keys[2]))


def read(odometer, params, given):
  """Returns the motion of the first tick of a recording."""
  once = jax.tree.map(lambda x: x[None], given)
  rows, height, width = given.last.shape[:3]
  flag = jnp.ones((1, rows), bool)
  memory = odometer.initial_state(rows, height, width)
  motion, after = odometer.read(params, once, flag, flag, memory)
  return jax.tree.map(lambda x: x[0], motion), after


@pytest.mark.parametrize(("height", "width", "learn"), [(16, 24, True), (24, 16, False)])
def test_shapes_ranges_and_gradients(height, width, learn):
  odometer = motion_readout.build(Config(dim=8, num_heads=2, learn_intrinsics=learn))
  given = features(height, width)
  params = odometer.init(jax.random.key(1), given)

  def total(params):
    motion, _ = read(odometer, params, given)
    return jnp.sum(motion.twist) + jnp.sum(motion.intrinsics), motion

  (_, motion), gradient = jax.value_and_grad(total, has_aux=True)(params)
  assert motion.inverse_depth.shape == motion.weight.shape == (2, height, width)
  assert motion.twist.shape == (2, 6) and motion.pose.shape == (2, 4, 4)
  depth = 1 / motion.inverse_depth
  assert np.all((depth > 0.4) & (depth < 12)) and np.median(depth) == pytest.approx(2.5, rel=0.3)
  camera = motion_readout.intrinsics_of(CONFIG, height, width)
  np.testing.assert_allclose(motion.intrinsics, [camera, camera], rtol=1e-6)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(gradient))
  own = {name for module in params.values() for name in module}
  assert ({"log_focal", "centre"} <= own) == learn
  if learn:
    assert np.all(np.abs(gradient["motion"]["log_focal"]) > 0)


def test_the_fit_is_the_motion_of_exact_flow_although_a_part_of_it_is_wrong():
  height, width = 32, 40
  camera = jnp.asarray([motion_readout.intrinsics_of(CONFIG, height, width)])
  x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
  inverse = jnp.asarray(0.3 + 0.3 * x + 0.2 * np.sin(5 * y), jnp.float32)[None]
  twist = jnp.asarray([[0.02, -0.01, 0.03, 0.01, -0.015, 0.02]], jnp.float32)
  centres = jnp.asarray(cameras.pixel_centres(height, width))[None]
  jacobian = alignment.flow_jacobian(centres, inverse, camera)
  flow = jacobian @ twist[0]
  rigid = warps.rigid_flow(1 / inverse, lie.se3_exp(twist), camera)
  np.testing.assert_allclose(flow, rigid, atol=0.05)
  matched = jnp.concatenate([flow, jnp.full_like(flow[..., :1], 0.01)], axis=-1)
  matched = matched.at[:, 4:12, 6:18, :2].add(1.5)
  weight = jnp.ones_like(inverse)
  found = alignment.twist_of_matches(matched, inverse, weight, camera)
  plain = alignment.twist_of_flow(matched[..., :2], jacobian, weight)
  off = lambda value: float(jnp.linalg.norm(value - twist))  # noqa: E731
  assert off(found) < 0.5 * off(plain)
  nearer = alignment.twist_of_matches(matched, 2 * inverse, weight, camera)
  np.testing.assert_allclose(
    2 * nearer[:, :3], found[:, :3], atol=2e-3
  )  # the scale is that of depth


def test_what_is_refused():
  odometer = motion_readout.build(CONFIG)
  with pytest.raises(ValueError, match="frames of 12×16; use sides that are multiples of 8"):
    odometer.init(jax.random.key(0), features(12, 16))
  with pytest.raises(ValueError, match="has no frames; use another model"):
    odometer.init(jax.random.key(0), Features(jnp.zeros((1, 3, 4))))
  with pytest.raises(ValueError, match="dim=6 is not a multiple of twice num_heads=4"):
    motion_readout.build(Config(dim=6))
  with pytest.raises(ValueError, match="must be above 0 and in this order"):
    motion_readout.build(Config(start_m=0.1))
  with pytest.raises(ValueError, match="field_of_view_deg=0.0; use 1 to 170"):
    motion_readout.build(Config(field_of_view_deg=0.0))
