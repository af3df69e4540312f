"""Geometry: group laws, finite gradients where formulas divide by zero, agreement with the rest."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn.geometry import cameras, estimators, lie, rotations, warps
from perceiver_stream.nn.sampling import sample_bilinear

RNG = np.random.default_rng(0)
ANGLES = (0.0, 1e-300, 1e-160, 1e-9, 1e-5, 0.5, 0.999, 1.001, 2.0, np.pi - 1e-6, np.pi, 7.0)


def axes(count: int) -> np.ndarray:
  w = RNG.normal(size=(count, 3))
  return w / np.linalg.norm(w, axis=-1, keepdims=True)


def twists(width: int) -> jnp.ndarray:
  """Returns a twist for each angle; translations and log scales of size 1."""
  rest = RNG.normal(size=(len(ANGLES), width))
  rest[:, 3:6] = axes(len(ANGLES)) * np.asarray(ANGLES)[:, None]
  return jnp.asarray(rest)


@pytest.mark.parametrize(
  ("exp", "log", "width"), [(lie.se3_exp, lie.se3_log, 6), (lie.sim3_exp, lie.sim3_log, 7)]
)
def test_exp_and_log_are_finite_with_their_gradients_and_invert_each_other(exp, log, width):
  x = twists(width)
  value, pull = jax.vjp(exp, x)
  (gradient,) = pull(jnp.ones_like(value))
  back, pull = jax.vjp(log, value)
  (through,) = pull(jnp.ones_like(back))
  assert all(np.all(np.isfinite(a)) for a in (value, gradient, back, through))
  np.testing.assert_allclose(exp(back), value, atol=1e-8)
  unique = np.asarray(ANGLES) <= np.pi - 1e-6
  np.testing.assert_allclose(back[unique], x[unique], atol=1e-8)


def test_the_inverse_and_the_adjoint_keep_their_laws():
  pose, other = lie.se3_exp(twists(6)), lie.se3_exp(twists(6)[::-1])
  np.testing.assert_allclose(
    pose @ lie.se3_inverse(pose), np.broadcast_to(np.eye(4), pose.shape), atol=1e-12
  )
  small = 1e-3 * twists(6)
  moved = pose @ lie.se3_exp(small) @ lie.se3_inverse(pose)
  through = jnp.einsum("nij,nj->ni", lie.se3_adjoint(pose), small)
  np.testing.assert_allclose(moved, lie.se3_exp(through), atol=1e-9)
  both = lie.se3_adjoint(pose @ other)
  np.testing.assert_allclose(both, lie.se3_adjoint(pose) @ lie.se3_adjoint(other), atol=1e-9)
  np.testing.assert_allclose(
    lie.left_jacobian(small[:, 3:]) @ lie.left_jacobian_inverse(small[:, 3:]),
    np.broadcast_to(np.eye(3), (len(small), 3, 3)),
    atol=1e-12,
  )


def test_float32_keeps_six_digits_at_every_angle():
  x = twists(6)
  exact = lie.se3_exp(x)
  rough = lie.se3_exp(x.astype(jnp.float32))
  assert rough.dtype == jnp.float32
  assert np.max(np.abs(np.asarray(rough, float) - exact) / np.maximum(1, np.abs(exact))) < 5e-6


def test_every_parametrisation_gives_rotations_and_finite_gradients():
  cases = {
    rotations.from_six: jnp.asarray(
      np.r_[RNG.normal(size=(4, 6)), np.zeros((1, 6)), np.ones((1, 6))]
    ),
    rotations.from_quaternion: jnp.asarray(np.r_[RNG.normal(size=(4, 4)), np.zeros((1, 4))]),
    rotations.from_nine: jnp.asarray(
      np.r_[RNG.normal(size=(4, 3, 3)), np.eye(3)[None], np.zeros((1, 3, 3))]
    ),
  }
  for function, raw in cases.items():
    value, pull = jax.vjp(function, raw)
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(pull(jnp.ones_like(value))[0]))
    eye = np.broadcast_to(np.eye(3), (4, 3, 3))
    np.testing.assert_allclose(value[:4] @ jnp.swapaxes(value[:4], 1, 2), eye, atol=1e-12)
    np.testing.assert_allclose(jnp.linalg.det(value[:4]), 1, atol=1e-12)
  rotation = lie.so3_exp(twists(6)[:, 3:])
  np.testing.assert_allclose(
    rotations.from_quaternion(rotations.to_quaternion(rotation)), rotation, atol=1e-12
  )
  np.testing.assert_allclose(rotations.from_nine(rotation), rotation, atol=1e-12)


def test_the_gradient_of_the_nearest_rotation_is_that_of_finite_differences():
  raw, step = jnp.asarray(RNG.normal(size=(3, 3))), 1e-6
  weights = jnp.asarray(RNG.normal(size=(3, 3)))
  score = lambda m: jnp.sum(weights * rotations.from_nine(m))  # noqa: E731
  numeric = [
    (score(raw.at[i, j].add(step)) - score(raw.at[i, j].add(-step))) / (2 * step)
    for i in range(3)
    for j in range(3)
  ]
  np.testing.assert_allclose(np.ravel(jax.grad(score)(raw)), numeric, atol=1e-7)


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match=r"from_euler: order='xyz' is not one of \['extrinsic_xyz'"):
    rotations.from_euler(jnp.zeros(3), "xyz")
  with pytest.raises(ValueError, match=r"estimators: 'median' is not one of \['cauchy'"):
    estimators.get("median")
  with pytest.raises(ValueError, match=r"sample: border='wrap' is not one of \['edge', 'zeros'\]"):
    warps.sample(jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 1, 2)), "wrap")


# --- cameras and warps ----------------------------------------------------------------------------


@pytest.fixture
def scene(float64):
  """A picture, its depth, and intrinsics, in float64."""
  rng = np.random.default_rng(1)
  picture, depth = rng.uniform(size=(1, 12, 16, 3)), rng.uniform(1, 3, size=(1, 12, 16))
  return tuple(jnp.asarray(x) for x in (picture, depth, np.asarray([[20.0, 21.0, 8.0, 6.0]])))


@pytest.mark.parametrize("border", ["zeros", "edge"])
def test_a_camera_at_rest_reads_the_picture_bit_for_bit(border, scene):
  for dtype in (jnp.float32, jnp.float64):
    picture, depth, intrinsics = (x.astype(dtype) for x in scene)
    pose = jnp.eye(4, dtype=dtype)[None]
    read, landing = jax.jit(lambda *a: warps.warp_rigid(*a, border))(
      picture, depth, pose, intrinsics
    )
    np.testing.assert_array_equal(read, picture)
    assert np.all(landing.inside)
    np.testing.assert_array_equal(warps.rigid_flow(depth, pose, intrinsics), 0)


@pytest.mark.parametrize("bad", [0.0, -1.0, cameras.MIN_DEPTH, 1e-12, 1e30])
def test_depth_that_is_not_valid_moves_nothing_and_gets_no_gradient(bad, scene):
  picture, depth, intrinsics = scene
  depth = depth.at[0, 3, 4].set(bad)

  def read(depth, twist):
    return warps.warp_rigid(picture, depth, lie.se3_exp(twist), intrinsics)[0]

  twist = jnp.asarray([[0.1, 0.02, -0.3, 0.02, 0.01, 0.03]])
  value, pull = jax.vjp(read, depth, twist)
  of_depth, of_twist = pull(jnp.ones_like(value))
  assert all(np.all(np.isfinite(a)) for a in (value, of_depth, of_twist))
  if bad < 1:
    assert np.all(value[0, 3, 4] == 0) and of_depth[0, 3, 4] == 0
    np.testing.assert_array_equal(
      warps.rigid_flow(depth, lie.se3_exp(twist), intrinsics)[0, 3, 4], 0
    )


def test_points_behind_the_camera_are_not_valid(scene):
  intrinsics = scene[2]
  points = jnp.asarray([[[0.1, 0.2, 1.0], [0.1, 0.2, -1.0], [0.1, 0.2, 0.0]]])
  xy, valid = cameras.project(points, intrinsics)
  np.testing.assert_array_equal(valid, [[True, False, False]])
  np.testing.assert_allclose(xy[0, 1:], [[8, 6], [8, 6]])
  gradient = jax.grad(lambda p: jnp.sum(cameras.project(p, intrinsics)[0]))(points)
  assert np.all(np.isfinite(gradient)) and np.all(gradient[0, 1:] == 0)


def test_sampling_agrees_with_that_of_the_models(scene):
  picture = scene[0]
  xy = jnp.asarray(RNG.uniform(-3, 20, size=(1, 40, 2)))
  ours = warps.sample(picture, xy, "edge")
  np.testing.assert_allclose(
    ours, sample_bilinear(picture, xy[..., 1] - 0.5, xy[..., 0] - 0.5), atol=1e-12
  )


def test_sampling_far_outside_and_at_infinity_is_finite(scene):
  picture = scene[0]
  xy = jnp.asarray([[[1e30, -1e30], [jnp.inf, 0.0], [-5.0, 3.0]]])
  assert np.all(warps.sample(picture, xy, "zeros") == 0)
  assert np.all(np.isfinite(warps.sample(picture, xy, "edge")))


def test_distortion_and_its_inverse_agree_with_opencv():
  coefficients = np.asarray([[-0.3, 0.1, 1e-3, -2e-3, 0.02]])
  xy = RNG.uniform(-0.5, 0.5, size=(1, 30, 2))
  points = np.concatenate([xy[0], np.ones((30, 1))], axis=-1)
  expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), coefficients[0])
  found = cameras.distort(jnp.asarray(xy), jnp.asarray(coefficients))
  np.testing.assert_allclose(found[0], expected[:, 0], atol=1e-12)
  np.testing.assert_allclose(cameras.undistort(found, jnp.asarray(coefficients)), xy, atol=1e-10)


def test_back_and_forth_is_the_identity(scene):
  _, depth, intrinsics = scene
  points = cameras.backproject(depth, intrinsics)
  xy, valid = cameras.project(points, intrinsics)
  assert np.all(valid)
  np.testing.assert_allclose(xy[0], cameras.pixel_centres(12, 16, jnp.float64), atol=1e-12)


# --- estimators -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(estimators.ESTIMATORS))
def test_an_estimator_is_even_zero_at_zero_and_never_above_least_squares(name):
  estimator = estimators.get(name)
  r = jnp.linspace(-50, 50, 401)
  c = jnp.full_like(r, estimator.scale)
  rho = estimator.rho(r, c)
  np.testing.assert_allclose(rho, rho[::-1], atol=1e-12)
  np.testing.assert_allclose(
    estimator.influence(r, c), -estimator.influence(r, c)[::-1], atol=1e-12
  )
  assert estimator.rho(r, c)[200] == 0 and estimator.weight(r, c)[200] == 1
  if name != "l1":
    assert np.all(rho <= 0.5 * r * r + 1e-12)
  gradient = jax.grad(lambda r: jnp.sum(estimator.rho(r, c)))(r)
  assert np.all(np.isfinite(gradient)) and gradient[200] == 0


def test_a_robust_location_ignores_a_fifth_of_outliers_and_keeps_constants():
  values = np.concatenate([RNG.normal(2.0, 0.1, 80), np.full(20, 50.0)])
  assert abs(estimators.location(jnp.asarray(values)) - 2.0) < 0.05
  assert estimators.location(jnp.full(5, 3.0)) == 3.0
