"""Groups, rotations and paths against 70-digit arithmetic and stored alignments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geometry_golden import files

from perceiver_stream.evaluation.metrics import trajectory
from perceiver_stream.nn.geometry import lie, rotations

each = pytest.mark.parametrize("golden", files("lie"))


@each
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


@each
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


@each
def test_sim3(golden):
  twist, similarity = golden["sim3/xi_vws"], golden["sim3/S"]
  golden.close("sim3/S", lie.sim3_exp(twist))
  golden.close("sim3/inverse", lie.sim3_inverse(similarity))
  _, pull = jax.vjp(lambda x: lie.sim3_exp(x)[:, :3], twist)
  golden.close("sim3/grad_xi", pull(golden["sim3/cotangent"])[0])
  log = lie.sim3_log(similarity)
  golden.close("sim3/log_vws", log, jnp.linalg.norm(log[:, 3:6], axis=-1) < np.pi - 1e-7)


@each
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


@each
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
