"""Cameras, sampling and warps against torch in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geometry_golden import files

from perceiver_stream.nn.geometry import cameras, lie, warps

each = pytest.mark.parametrize("golden", files("warps"))


@each
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


@each
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


@each
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


@each
def test_rigid(golden):
  cases = {n.split("/")[1] for n in golden.arrays if n.startswith("rigid/") and n.count("/") > 1}
  assert golden.about["min_depth"] == cameras.MIN_DEPTH
  for case in sorted(cases):
    check_rigid(golden, f"rigid/{case}/")


def check_rigid(golden, prefix):
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


@each
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
