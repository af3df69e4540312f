"""Camera motion by least squares: closed forms, gradients, and robustness to replaced pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn.geometry import alignment, cameras, lie, warps

HEIGHT, WIDTH = 48, 64
CAMERA = np.asarray([[45.0, 47.0, 31.0, 25.0]])
NORMAL, DISTANCE = np.asarray([0.35, -0.5, 0.8]), 2.0  # a slanted plane in the target's frame
TWIST = np.asarray([[0.035, -0.02, 0.045, 0.012, -0.02, 0.015]])


def plane_depth(pose: np.ndarray) -> np.ndarray:
  """Returns the plane's depth from the camera at `pose`, `T_camera_target`."""
  normal = pose[:3, :3] @ NORMAL
  distance = DISTANCE + normal @ pose[:3, 3]
  x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
  fx, fy, cx, cy = CAMERA[0]
  rays = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], axis=-1)
  return distance / (rays @ normal), rays


def picture(pose: np.ndarray) -> np.ndarray:
  """Returns the view of a pattern of waves on the plane; exact at any pose."""
  depth, rays = plane_depth(pose)
  points = (depth[..., None] * rays - pose[:3, 3]) @ pose[:3, :3]  # in the target's frame
  rng = np.random.default_rng(3)
  waves = rng.normal(0, 4.0, (3, 9, 3))
  phases = rng.uniform(0, 6.28, (3, 9))
  return 0.5 + np.mean(np.sin(np.einsum("hwi,cki->hwck", points, waves) + phases), axis=-1) / 2


@pytest.fixture(scope="module")
def view():
  pose = np.asarray(lie.se3_exp(jnp.asarray(TWIST)))[0]
  depth, _ = plane_depth(np.eye(4))
  arrays = (picture(np.eye(4))[None], picture(pose)[None], depth[None], CAMERA)
  return alignment.View(*(jnp.asarray(x, jnp.float32) for x in arrays))


def translation_error(pose: jax.Array) -> float:
  """Returns the error of the translation over its length."""
  truth = np.asarray(lie.se3_exp(jnp.asarray(TWIST)))[0, :3, 3]
  return float(np.linalg.norm(np.asarray(pose)[0, :3, 3] - truth) / np.linalg.norm(truth))


def test_the_jacobian_is_the_derivative_of_the_rigid_flow(view):
  with jax.enable_x64(True):
    depth, camera = (jnp.asarray(np.asarray(x), jnp.float64) for x in (view.depth, view.intrinsics))
    flow = lambda twist: warps.rigid_flow(depth, lie.se3_exp(twist), camera)  # noqa: E731
    found = jax.jacfwd(flow)(jnp.zeros((1, 6)))[..., 0, :]
    centres = jnp.asarray(np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1) + 0.5)
    mine = alignment.flow_jacobian(centres[None], 1 / depth, camera)
    np.testing.assert_allclose(mine, found, rtol=1e-9, atol=1e-9)


def jacobian_of(depth, camera):
  centres = cameras.pixel_centres(*depth.shape[1:], depth.dtype)
  return alignment.flow_jacobian(jnp.broadcast_to(centres, (*depth.shape, 2)), 1 / depth, camera)


@pytest.mark.parametrize("size", [1e-4, 1.0])
def test_a_twist_is_found_in_its_flow(view, size):
  depth, camera = (x.astype(jnp.float64) for x in (view.depth, view.intrinsics))
  flow = warps.rigid_flow(depth, lie.se3_exp(jnp.asarray(size * TWIST)), camera)
  weight = jnp.ones_like(depth).at[:, :8].set(0.0)
  flow = flow.at[:, :8].set(1e3)  # without weight, without effect
  found = alignment.twist_of_flow(flow, jacobian_of(depth, camera), weight, 0.0)
  off = np.linalg.norm(np.asarray(found) - size * TWIST) / np.linalg.norm(size * TWIST)
  assert off < 0.1 * size + 1e-5  # second order


def test_no_weight_is_no_motion_and_gradients_are_finite(view):
  flow = jnp.ones((*view.depth.shape, 2), jnp.float32)
  jacobian = jacobian_of(view.depth, view.intrinsics)

  def total(weight):
    return jnp.sum(alignment.twist_of_flow(flow, jacobian, weight))

  nothing = jnp.zeros_like(view.depth)
  assert float(total(nothing)) == 0
  assert np.all(np.isfinite(jax.grad(total)(nothing)))
  assert np.all(np.isfinite(jax.grad(total)(nothing + 1.0)))


def test_robust_alignment_survives_a_replaced_patch_and_least_squares_do_not(view):
  rng = np.random.default_rng(0)
  side = np.sqrt(0.2)  # a fifth of the target
  rows, columns = round(side * HEIGHT), round(side * WIDTH)
  patch = np.asarray(view.target).copy()
  patch[:, 9 : 9 + rows, 20 : 20 + columns] = rng.uniform(size=(1, rows, columns, 3))
  spoilt = view._replace(target=jnp.asarray(patch))
  found = {
    name: translation_error(
      jax.jit(lambda v, n=name: alignment.direct(v, estimator=n, levels=2))(spoilt)
    )
    for name in ("l2", "tukey")
  }
  assert found["tukey"] < 0.02 < 3 * 0.02 < found["l2"]


def test_alignment_can_be_differentiated_and_stays_where_it_is_right(view):
  truth = lie.se3_exp(jnp.asarray(TWIST, jnp.float32))

  def found(source):
    return alignment.direct(view._replace(source=source), truth, levels=1, steps=1)

  pose, gradient = jax.jit(
    lambda s: (found(s), jax.grad(lambda x: jnp.sum(found(x)[:, :3, 3]))(s))
  )(view.source)
  assert translation_error(pose) < 0.01
  assert np.all(np.isfinite(gradient)) and float(jnp.abs(gradient).max()) > 0


def test_the_pyramid_halves_sizes_and_cameras_while_it_can(view):
  levels = alignment.pyramid(view, 9)
  assert [v.depth.shape[1:] for v in levels] == [(48, 64), (24, 32), (12, 16), (6, 8), (3, 4)]
  np.testing.assert_allclose(levels[2].intrinsics, CAMERA / 4)
  np.testing.assert_allclose(levels[1].depth[0, 0, 0], np.mean(view.depth[0, :2, :2]), rtol=1e-6)
  with pytest.raises(ValueError, match="'nothing' is not one of"):
    alignment.direct(view, estimator="nothing")


def test_unknown_depth_is_left_out_of_the_means_of_the_pyramid():
  depth = jnp.asarray([[[2.0, 2.0, 2.0, 0.0], [0.0, 2.0, 0.0, 0.0]] * 2])[:, :2]
  images = jnp.zeros((1, 2, 4, 1))
  view = alignment.View(images, images, depth, jnp.ones((1, 4)))
  _, coarse = alignment.pyramid(view, 2)
  np.testing.assert_allclose(coarse.depth, [[[2.0, 2.0]]])
  unknown = view._replace(depth=jnp.zeros_like(depth))
  np.testing.assert_array_equal(alignment.pyramid(unknown, 2)[1].depth, np.zeros((1, 1, 2)))
