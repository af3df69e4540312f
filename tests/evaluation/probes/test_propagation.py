"""Features hand labels on as methods of `scoring`, and models give such features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceiver_stream
from perceiver_stream.evaluation import scoring
from perceiver_stream.evaluation.datasets.base import JointClip, MaskClip
from perceiver_stream.evaluation.probes import propagation, watching

TICKS, SIDE = 6, 32


def moving_square():
  """Returns a clip of a textured square that goes right by 4 pixels a tick over other texture."""
  rng = np.random.default_rng(0)
  ground, thing = rng.integers(0, 120, (SIDE, SIDE, 3)), rng.integers(130, 256, (12, 12, 3))
  frames = np.repeat(ground[None], TICKS, axis=0).astype(np.uint8)
  masks = np.zeros((TICKS, SIDE, SIDE), np.int32)
  for t in range(TICKS):
    frames[t, 8:20, 4 * t : 4 * t + 12] = thing
    masks[t, 8:20, 4 * t : 4 * t + 12] = 3
  return MaskClip(frames, masks, "square")


def test_raw_patches_follow_what_keeps_its_looks():
  clip = moving_square()
  method = propagation.mask_method(watching.raw_patches((8, 8)))
  handed, static = scoring.masks(method, [clip]), scoring.masks(scoring.static_masks, [clip])
  best = scoring.masks(lambda *_: propagation.ceiling(clip.masks, (8, 8)), [clip])
  assert static["J&F"] < 0.5 < handed["J&F"] <= best["J&F"]
  assert set(np.unique(method(clip.frames, clip.masks[0]))) == {0, 3}


def test_joints_are_handed_on():
  clip = moving_square()
  at = np.array([[4.0, 12.0], [8.0, 16.0], [26.0, 26.0]])
  joints = np.stack([at + [[4 * t, 0], [4 * t, 0], [0, 0]] for t in range(TICKS)])
  known = JointClip(clip.frames, joints, np.ones((TICKS, 3), bool), "square")
  method = propagation.joint_method(watching.raw_patches((8, 8)))
  static = scoring.joints(scoring.static_joints, [known])["PCK@0.2"]
  assert scoring.joints(method, [known])["PCK@0.2"] > static


def test_raw_patches_overlap_and_have_unit_length():
  frames = moving_square().frames
  found = watching.raw_patches((8, 8))(frames)
  assert found.shape == (TICKS, 8, 8, 6 * 6 * 3)  # cells of 4
  np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
  inner = frames[2, 7:13, 11:17].transpose(2, 0, 1).reshape(-1).astype(np.float32) / 127.5 - 1
  np.testing.assert_allclose(found[2, 2, 3], watching.unit(inner), atol=1e-6)
  with pytest.raises(ValueError, match=r"\[32, 32\] are not a whole number of \[5, 8\] cells"):
    watching.raw_patches((5, 8))(frames)


def test_through_its_own_pixels_a_mask_comes_whole():
  masks = moving_square().masks
  np.testing.assert_array_equal(propagation.ceiling(masks, (SIDE, SIDE)), masks)
  coarse = propagation.ceiling(masks, (4, 4))
  assert 0 < np.mean(coarse != masks) < 0.2


def test_rvm_gives_its_patches_and_others_what_owns_each_cell():
  frames = moving_square().frames[:, :16, :16]
  model = perceiver_stream.build("rvm/nano")
  params = model.init(jax.random.key(0), {"pixels": jnp.zeros((1, 16, 16, 3), jnp.uint8)})
  found = watching.features(model, params, (2, 2), hold=2)(frames)
  assert found.shape == (TICKS, 4, 4, 16)
  np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
  watched = watching.watch(model, params, frames, (2, 2), hold=2)
  assert watched.owns.shape == (TICKS, 17, 2, 2) and watched.reads.shape == (TICKS, 17, 4, 4)
  np.testing.assert_allclose(
    found, watching.unit(watched.latents[:, 1:].reshape(TICKS, 4, 4, -1)), atol=1e-6
  )
