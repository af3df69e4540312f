"""Geometry against stored references: 70-digit arithmetic for the groups, torch for the rest.

Everything is read from the files: `geometry_*.npz` in `PERCEIVER_STREAM_GOLDEN`, with their JSON.
"""

import contextlib
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.evaluation.metrics import trajectory
from perceiver_stream.nn.geometry import cameras, estimators, lie, photometric, rotations, warps

FOLDER = pathlib.Path(
  os.environ.get("PERCEIVER_STREAM_GOLDEN", pathlib.Path(__file__).parents[2] / "golden")
)


class Golden:
  """The arrays of one file in float64, and comparisons at the tolerance that its JSON suggests."""

  def __init__(self, path: pathlib.Path):
    self.about = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz")) as file:
      self.arrays = dict(file)
    self.compared: set[str] = set()

  def __getitem__(self, name: str):
    return jnp.asarray(self.arrays[name])

  def close(self, name: str, actual, where=None) -> None:
    """Asserts that `actual` is the stored array, relative to max(1, |value|), on rows `where`."""
    self.compared.add(name)
    expected, actual = self.arrays[name], np.asarray(actual)
    assert actual.shape == expected.shape and np.all(np.isfinite(actual)), name
    if where is not None:
      expected, actual = expected[np.asarray(where)], actual[np.asarray(where)]
    expected, actual = expected.astype(float), actual.astype(float)
    error = np.abs(actual - expected) / np.maximum(1, np.abs(expected))
    assert np.max(error, initial=0) <= self.about["suggested_atol"], (name, np.max(error))

  def gradients(self, prefix: str, function, arguments: dict, where=None) -> None:
    """Compares a function's value and the gradients of its product with the cotangent."""
    value, pull = jax.vjp(lambda args: function(**args), arguments)
    if f"{prefix}value" in self.arrays:
      self.close(f"{prefix}value", value)
    (found,) = pull(self[f"{prefix}cotangent"])
    for name, gradient in found.items():
      if f"{prefix}grad_{name}" in self.arrays:
        kept = where if name in ("xy", "flow") else None
        self.close(f"{prefix}grad_{name}", gradient, kept)


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True) if hasattr(jax, "enable_x64") else contextlib.nullcontext():
    yield


def files(name: str):
  return [pytest.param(p, id=p.stem) for p in sorted(FOLDER.glob(f"geometry_{name}*.json"))]


@pytest.fixture
def golden(request):
  return Golden(request.param)


each_lie = pytest.mark.parametrize("golden", files("lie"), indirect=True)
each_warps = pytest.mark.parametrize("golden", files("warps"), indirect=True)
each_losses = pytest.mark.parametrize("golden", files("losses"), indirect=True)


# --- groups ---------------------------------------------------------------------------------------


@each_lie
def test_so3(golden):
  w, rotation = golden["so3/w"], golden["so3/R"]
  golden.close("so3/R", lie.so3_exp(w))
  golden.close("so3/left_jacobian", lie.left_jacobian(w))
  golden.close("so3/quat_wxyz", lie.quaternion_of(rotation), ~golden["so3/log_ambiguous"])
  golden.close(
    "so3/angle", rotations.distance(jnp.broadcast_to(jnp.eye(3), w.shape + (3,)), rotation)
  )
  golden.close("so3/rotated", jnp.einsum("nij,nkj->nki", lie.so3_exp(w), golden["so3/points"]))
  _, pull = jax.vjp(lie.so3_exp, w)
  golden.close("so3/grad_w", pull(golden["so3/cotangent"])[0])
  clear = ~golden["so3/log_ambiguous"]
  log = lie.so3_log(rotation)
  golden.close("so3/log", log, clear)
  np.testing.assert_allclose(lie.so3_exp(log), rotation, atol=1e-6)
  perturbed = lambda e: lie.so3_log(lie.so3_exp(e) @ rotation)  # noqa: E731
  _, pull = jax.vjp(perturbed, jnp.zeros_like(w))
  golden.close("so3/log_grad_left_perturbation", pull(golden["so3/log_cotangent"])[0], clear)


@each_lie
def test_se3(golden):
  twist, pose = golden["se3/xi_vw"], golden["se3/T"]
  golden.close("se3/T", lie.se3_exp(twist))
  golden.close("se3/Rt_only", lie.rotation_translation(twist)[:, :3])
  golden.close("se3/inverse", lie.se3_inverse(pose))
  golden.close("se3/adjoint_vw", lie.se3_adjoint(pose))
  golden.close("se3/compose", pose @ jnp.roll(pose, -1, axis=0))
  _, pull = jax.vjp(lambda x: lie.se3_exp(x)[:, :3], twist)
  golden.close("se3/grad_xi", pull(golden["se3/cotangent"])[0])
  clear = jnp.linalg.norm(lie.so3_log(pose[:, :3, :3]), axis=-1) < np.pi - 1e-7
  golden.close("se3/log_vw", lie.se3_log(pose), clear)
  np.testing.assert_allclose(lie.se3_exp(lie.se3_log(pose)), pose, atol=1e-6, rtol=1e-6)


@each_lie
def test_sim3(golden):
  twist, similarity = golden["sim3/xi_vws"], golden["sim3/S"]
  golden.close("sim3/S", lie.sim3_exp(twist))
  golden.close("sim3/inverse", lie.sim3_inverse(similarity))
  _, pull = jax.vjp(lambda x: lie.sim3_exp(x)[:, :3], twist)
  golden.close("sim3/grad_xi", pull(golden["sim3/cotangent"])[0])
  log = lie.sim3_log(similarity)
  golden.close("sim3/log_vws", log, jnp.linalg.norm(log[:, 3:6], axis=-1) < np.pi - 1e-7)


@each_lie
def test_rotations(golden):
  for name in rotations.EULER:
    golden.close(f"euler/{name}", rotations.from_euler(golden["euler/angles"], name))
  for name, function, raw, result in (
    ("quaternion", rotations.from_quaternion, "raw_wxyz", "R"),
    ("six_d", rotations.from_six, "raw", "R_columns"),
  ):
    value, pull = jax.vjp(function, golden[f"{name}/{raw}"])
    golden.close(f"{name}/{result}", value)
    golden.close(f"{name}/grad_raw", pull(golden[f"{name}/cotangent"])[0])
  golden.close("nine_d/R", rotations.from_nine(golden["nine_d/raw"]))
  one, other = golden["between/R0"], golden["between/R1"]
  golden.close("between/geodesic_angle", rotations.distance(one, other))
  golden.close("between/slerp", rotations.slerp(one, other, golden["between/fraction"]))


@each_lie
def test_trajectories(golden):
  truth, estimate = golden.arrays["trajectory/gt"], golden.arrays["trajectory/estimate"]
  for mode in ("se3", "sim3"):
    prefix = f"trajectory/{mode}/"
    found = trajectory.align(truth[:, :3, 3], estimate[:, :3, 3], mode)
    golden.close(f"{prefix}scale", found.scale)
    golden.close(f"{prefix}R", found.rotation)
    golden.close(f"{prefix}t", found.translation)
    golden.close(f"{prefix}aligned", found.aligned)
    golden.close(f"{prefix}ate_rmse", trajectory.absolute_error(truth, estimate, mode))
  spans = {n.split("/")[1] for n in golden.arrays if n.startswith("trajectory/rpe_")}
  for span in sorted(spans):
    metres, radians = trajectory.relative_error(truth, estimate, int(span.removeprefix("rpe_")))
    golden.close(f"trajectory/{span}/translation", metres)
    golden.close(f"trajectory/{span}/rotation_rad", radians)
  snippets = trajectory.snippet_error(truth, estimate)
  golden.close("trajectory/snippet5_ate_scale_only", snippets)


# --- cameras and warps ----------------------------------------------------------------------------


@each_warps
def test_sampler_and_flow(golden):
  for border in ("zeros", "edge"):
    xy, cotangent = golden["sampler/xy"], golden["sampler/cotangent"]
    value, pull = jax.vjp(lambda i, p: warps.sample(i, p, border), golden["sampler/image"], xy)  # noqa: B023
    golden.close(f"sampler/{border}/value", value)
    images, places = pull(cotangent)
    golden.close(f"sampler/{border}/grad_image", images)
    golden.close(f"sampler/{border}/grad_xy", places, ~golden["sampler/kink"])
    inputs = golden["flow_warp/image"], golden["flow_warp/flow"]
    value, pull = jax.vjp(lambda i, f: warps.warp_flow(i, f, border), *inputs)  # noqa: B023
    golden.close(f"flow_warp/{border}/value", value)
    images, flow = pull(golden["flow_warp/cotangent"])
    golden.close(f"flow_warp/{border}/grad_image", images)
    golden.close(f"flow_warp/{border}/grad_flow", flow)


@each_warps
def test_cameras(golden):
  value, pull = jax.vjp(
    cameras.backproject, *(golden[f"backproject/{k}"] for k in ("depth", "intrinsics"))
  )
  golden.close("backproject/points", value)
  depth, intrinsics = pull(golden["backproject/cotangent"])
  golden.close("backproject/grad_depth", depth)
  golden.close("backproject/grad_intrinsics", intrinsics)
  project = lambda p, k: cameras.project(p, k)[0]  # noqa: E731
  value, pull = jax.vjp(project, *(golden[f"project/{k}"] for k in ("points", "intrinsics")))
  golden.close("project/xy", value)
  points, intrinsics = pull(golden["project/cotangent"])
  golden.close("project/grad_points", points)
  golden.close("project/grad_intrinsics", intrinsics)
  lens = golden["lens/normalised_xy"], golden["lens/k1_k2_p1_p2_k3"]
  value, pull = jax.vjp(cameras.distort, *lens)
  golden.close("lens/distorted_xy", value)
  xy, coefficients = pull(golden["lens/cotangent"])
  golden.close("lens/grad_xy", xy)
  golden.close("lens/grad_coefficients", coefficients)
  np.testing.assert_allclose(cameras.undistort(value, lens[1]), lens[0], atol=1e-9)
  scaled, depth = cameras.disparity_to_depth(golden["disparity_to_depth/sigmoid"])
  golden.close("disparity_to_depth/scaled_disparity", scaled)
  golden.close("disparity_to_depth/depth", depth)
  rest = (golden["disparity_to_depth/intrinsics"], golden["disparity_to_depth/baseline_m"])
  depth = golden["disparity_to_depth/stereo_depth"]
  golden.close("disparity_to_depth/stereo_disparity_px", cameras.stereo_disparity(depth, *rest))
  disparity = golden["disparity_to_depth/stereo_disparity_px"]
  golden.close("disparity_to_depth/stereo_depth", cameras.stereo_disparity(disparity, *rest))


@each_warps
def test_homography_of_a_plane_is_the_rigid_warp(golden):
  pose = lie.se3_exp(golden["homography/xi_vw"])
  intrinsics = golden["homography/intrinsics"]
  plane = golden["homography/normal"], golden["homography/distance"]
  homography = cameras.plane_homography(pose, intrinsics, *plane)
  golden.close("homography/H", homography)
  depth = golden["homography/plane_depth"]
  own = cameras.pixel_centres(*depth.shape[1:], depth.dtype)
  mapped = cameras.apply_homography(homography, jnp.broadcast_to(own, (*depth.shape, 2)))
  golden.close("homography/xy", mapped)
  landing = warps.rigid(depth, pose, intrinsics)
  np.testing.assert_allclose(landing.xy, mapped, atol=1e-8)


def rigid_cases():
  return [
    pytest.param(path.values[0], case, id=f"{path.id}:{case}")
    for path in files("warps")
    for case in sorted(
      {
        n.split("/")[1]
        for n in json.loads(path.values[0].read_text())["arrays"]
        if n.count("/") > 1 and n.startswith("rigid/")
      }
    )
  ]


@pytest.mark.parametrize(("path", "case"), rigid_cases())
def test_rigid(path, case):
  golden, prefix = Golden(path), f"rigid/{case}/"
  assert golden.about["min_depth"] == cameras.MIN_DEPTH
  twist, depth, intrinsics = (
    golden[f"{prefix}xi_vw"],
    golden[f"{prefix}depth"],
    golden["rigid/intrinsics"],
  )
  pose = lie.se3_exp(twist)
  golden.close(f"{prefix}T", pose)
  landing = warps.rigid(depth, pose, intrinsics)
  last = jnp.asarray(depth.shape[:0:-1], depth.dtype) - 0.5  # centre of the last column and row
  on_border = (
    jnp.minimum(jnp.abs(landing.xy - 0.5), jnp.abs(landing.xy - last[None, None, None])) < 1e-9
  )
  for name, value in landing._asdict().items():
    where = ~jnp.any(on_border, axis=-1) if name == "inside" else None  # a matter of rounding there
    golden.close(f"{prefix}{name}", value, where)
  shared = {"depth": depth, "xi": twist, "intrinsics": intrinsics}
  flow = lambda depth, xi, intrinsics: warps.rigid_flow(depth, lie.se3_exp(xi), intrinsics)  # noqa: E731
  golden.gradients(f"{prefix}flow/", flow, shared)
  for border in ("zeros", "edge"):

    def warp(image, depth, xi, intrinsics, border=border):
      return warps.warp_rigid(image, depth, lie.se3_exp(xi), intrinsics, border)[0]

    golden.gradients(f"{prefix}warp_{border}/", warp, shared | {"image": golden["rigid/image"]})
  assert {n for n in golden.arrays if n.startswith(prefix) and "cotangent" not in n} <= (
    golden.compared | {f"{prefix}{n}" for n in ("depth", "xi_vw", "kink")}
  )


GRIDS = {
  "affine_flow": warps.affine_grid,
  "se2_per_pixel": warps.se2_grid,
  "disparity_1d": warps.disparity_grid,
  "slanted_plane": warps.slanted_plane_grid,
}


@each_warps
def test_parametric_flows(golden):
  for name, grid in GRIDS.items():
    params = golden[f"{name}/params"]
    places = lambda params, grid=grid: warps.to_pixels(grid(params))  # noqa: E731
    value, pull = jax.vjp(grid, params)
    golden.close(f"{name}/grid", value)
    golden.close(f"{name}/xy", places(params))
    golden.close(f"{name}/grad_params", pull(golden[f"{name}/cotangent"])[0])
    read = lambda image, params, places=places: warps.sample(image, places(params), "zeros")  # noqa: E731
    inputs = {"image": golden[f"{name}/image"], "params": params}
    golden.gradients(f"{name}/warped_zeros/", read, inputs)
  params = golden["slanted_plane/params"]
  golden.close("slanted_plane/disparity", warps.slanted_plane_disparity(params))
  exchanged = params[..., jnp.asarray([1, 0, 2])]
  golden.close("slanted_plane/disparity_gvnn_slot_order", warps.slanted_plane_disparity(exchanged))
  for name, function in (("group", warps.move_points), ("gvnn_Rt", warps.move_points_rt)):
    prefix = f"se3_per_pixel/{name}/"
    inputs = golden["se3_per_pixel/points"], golden["se3_per_pixel/params_vw"]
    value, pull = jax.vjp(function, *inputs)
    golden.close(f"{prefix}points", value)
    points, twists = pull(golden[f"{prefix}cotangent"])
    golden.close(f"{prefix}grad_points", points)
    golden.close(f"{prefix}grad_params", twists)


# --- estimators and losses ------------------------------------------------------------------------


@each_losses
def test_estimators(golden):
  residual, scale = golden["m_estimator/residual"], golden["m_estimator/scale"]
  shape = (*scale.shape, *residual.shape)
  r = jnp.broadcast_to(residual, shape)
  c = jnp.broadcast_to(scale[:, None], shape)
  for name, estimator in estimators.ESTIMATORS.items():
    golden.close(f"m_estimator/{name}/rho", estimator.rho(r, c))
    golden.close(f"m_estimator/{name}/influence", estimator.influence(r, c))
    if f"m_estimator/{name}/weight" in golden.arrays:
      golden.close(f"m_estimator/{name}/weight", estimator.weight(r, c))
    derivative = jax.grad(lambda r: jnp.sum(estimator.rho(r, c)))(r)  # noqa: B023
    np.testing.assert_allclose(derivative, estimator.influence(r, c), atol=1e-9)
  golden.close("irls/mad_scale", estimators.mad_scale(golden["irls/data"]))
  golden.close("irls/tukey_location", estimators.location(golden["irls/data"]))


@each_losses
def test_photometric(golden):
  target = golden["photometric/target"]
  pictures = sorted(n for n in golden.arrays if n.endswith("/picture") and "pred_" in n)
  errors = []
  for name in pictures:
    prefix, prediction = name.removesuffix("picture"), golden[name]
    golden.close(f"{prefix}ssim", photometric.ssim(prediction, target))
    golden.close(f"{prefix}dssim_mean", photometric.dissimilarity(prediction, target))
    value, pull = jax.vjp(photometric.photometric, prediction, target)
    golden.close(f"{prefix}photometric", value)
    one, other = pull(golden[f"{prefix}cotangent"])
    golden.close(f"{prefix}grad_pred", one)
    golden.close(f"{prefix}grad_target", other)
    errors.append(value)
  flat = golden["photometric/flat/pred"], golden["photometric/flat/target"]
  golden.close("photometric/flat/photometric", photometric.photometric(*flat))
  gradient = jax.grad(lambda p: jnp.sum(photometric.photometric(p, flat[1])))(flat[0])
  golden.close("photometric/flat/grad_pred", gradient)
  sources = sorted(n for n in golden.arrays if n.startswith("photometric/min_auto_mask/source_"))
  identity = jnp.stack([photometric.photometric(golden[n], target) for n in sources])
  noise = jnp.swapaxes(golden["photometric/min_auto_mask/tie_noise"], 0, 1)  # [B, S, H, W]

  def loss(predictions):
    warped = jnp.stack([photometric.photometric(p, target) for p in predictions])
    return jnp.mean(photometric.minimum_error(warped, identity, noise).per_pixel)

  found = photometric.minimum_error(jnp.stack(errors), identity, noise)
  for name in ("per_pixel", "chosen", "kept"):
    golden.close(f"photometric/min_auto_mask/{name}", getattr(found, name))
  value, gradients = jax.value_and_grad(loss)([golden[n] for n in pictures])
  golden.close("photometric/min_auto_mask/loss", value)
  for i, gradient in enumerate(gradients):
    golden.close(f"photometric/min_auto_mask/grad_pred_{i}", gradient)
  least = photometric.minimum_error(jnp.stack(errors)).per_pixel
  golden.close("photometric/min_no_mask/per_pixel", least)
  golden.close("photometric/min_no_mask/loss", jnp.mean(least))
  golden.close("photometric/mean_no_mask/loss", jnp.mean(jnp.stack(errors)))


@each_losses
def test_regularisers(golden):
  disparity, picture = golden["regularisers/disparity"], golden["regularisers/picture"]
  for name, function in (
    ("edge_aware_mean_normalised", lambda d: photometric.edge_aware_smoothness(d, picture)),
    ("edge_aware", lambda d: photometric.edge_aware_smoothness(d, picture, normalise=False)),
    ("second_order_sfmlearner", photometric.second_order_smoothness),
  ):
    value, gradient = jax.value_and_grad(function)(disparity)
    golden.close(f"regularisers/{name}/loss", value)
    golden.close(f"regularisers/{name}/grad_disparity", gradient)
  logits = golden["regularisers/explainability/logits"]
  mask, loss = photometric.explainability(logits)
  golden.close("regularisers/explainability/mask", mask)
  golden.close("regularisers/explainability/loss", loss)
  gradient = jax.grad(lambda x: photometric.explainability(x)[1])(logits)
  golden.close("regularisers/explainability/grad_logits", gradient)
  pair = golden["depth_consistency/computed"], golden["depth_consistency/projected"]
  golden.close("depth_consistency/per_pixel", photometric.depth_consistency(*pair))
  mean = lambda a, b: jnp.mean(photometric.depth_consistency(a, b))  # noqa: E731
  value, gradients = jax.value_and_grad(mean, (0, 1))(*pair)
  golden.close("depth_consistency/loss", value)
  golden.close("depth_consistency/grad_computed", gradients[0])
  golden.close("depth_consistency/grad_projected", gradients[1])
  depths = golden["silog/pred"], golden["silog/target"]
  for name in sorted({n.split("/")[1] for n in golden.arrays if n.startswith("silog/lambda_")}):
    share = float(name.removeprefix("lambda_"))
    error = lambda p: photometric.scale_invariant_log(p, depths[1], share)  # noqa: E731, B023
    value, gradient = jax.value_and_grad(error)(depths[0])
    golden.close(f"silog/{name}/loss", value)
    golden.close(f"silog/{name}/grad_pred", gradient)
