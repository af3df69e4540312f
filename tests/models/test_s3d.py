"""S3D-G: blocks of pixels, separate kernels, gates, and the tower in a file of MMV."""

import itertools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_clips import shared

from perceiver_stream.models import s3d
from perceiver_stream.models.mapping import published_names
from perceiver_stream.models.s3d.network import Unit, blocks_of_pixels
from perceiver_stream.nn.debiased_batch_norm import NormMode
from perceiver_stream.zoo import clip_encoders

TINY = s3d.Config(divisor=16)
EVAL = NormMode(is_training=False)


def test_blocks_of_pixels_are_ordered_by_time_row_column_and_channel():
  clips = np.random.default_rng(0).random((1, 4, 6, 2, 3)).astype(np.float32)
  blocks = np.asarray(blocks_of_pixels(jnp.asarray(clips)))
  assert blocks.shape == (1, 2, 3, 1, 24)
  for i, j, k, c in itertools.product(range(2), range(2), range(2), range(3)):
    np.testing.assert_array_equal(
      blocks[..., ((i * 2 + j) * 2 + k) * 3 + c], clips[:, i::2, j::2, k::2, c]
    )
  with pytest.raises(
    ValueError, match="clips of 3×2×2 .* have an odd side; .*space_to_depth=False"
  ):
    blocks_of_pixels(jnp.zeros((1, 3, 2, 2, 3)))


def test_a_first_kernel_of_another_length_is_refused():
  with pytest.raises(ValueError, match="first_frames=4 is none of 1, 3, 5 and 7"):
    s3d.build(s3d.ClipConfig(first_frames=4))


@pytest.fixture(scope="module")
def unit():
  """Returns a gated 3×3×3 unit's function, its parameters and statistics."""
  function = hk.without_apply_rng(
    hk.transform_with_state(
      lambda x: Unit(32, TINY, kernel=(3, 3, 3), gated=True, name="unit")(x, EVAL)
    )
  )
  clips = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 4, 5, 2)), jnp.float32)
  return function, *function.init(jax.random.key(0), clips), clips


def test_the_kernel_is_one_over_space_then_one_over_time_then_a_gate(unit):
  function, params, state, clips = unit
  assert params["unit/conv_0"]["w"].shape == (1, 3, 3, 2, 2)
  assert params["unit/conv_1"]["w"].shape == (3, 1, 1, 2, 2)
  got, _ = jax.jit(function.apply)(params, state, clips)

  def norm(x, i):
    name = f"unit/norm_{i}"
    mean, variance = (
      np.asarray(state[f"{name}/~/{kind}_ema"]["average"]) for kind in ("mean", "var")
    )
    scale, offset = (np.asarray(params[name][key]) for key in ("scale", "offset"))
    return np.maximum((x - mean) / np.sqrt(variance + 1e-5) * scale + offset, 0)

  def filtered(x, kernel):
    sides = [(k // 2, k // 2) for k in kernel.shape[:3]]
    padded, out = np.pad(x, [(0, 0), *sides, (0, 0)]), 0.0
    for at in itertools.product(*map(range, kernel.shape[:3])):
      part = tuple(slice(a, a + size) for a, size in zip(at, x.shape[1:4], strict=True))
      out = out + padded[(slice(None), *part)] @ kernel[at]
    return out

  x = np.asarray(clips)
  for i in range(2):
    x = norm(filtered(x, np.asarray(params[f"unit/conv_{i}"]["w"])), i)
  gate = params["unit/gate"]
  weights = x.mean((1, 2, 3)) @ np.asarray(gate["w"]) + np.asarray(gate["b"])
  np.testing.assert_allclose(got, x / (1 + np.exp(-weights))[:, None, None, None], atol=1e-4)


def test_the_feature_is_the_mean_of_the_last_block():
  encoder, params, statistics = shared("s3d/nano")
  clips = jnp.asarray(np.random.default_rng(0).random((2, 4, 16, 16, 3), np.float32))
  outputs, _ = encoder.apply(params, statistics, clips)
  assert outputs.features.shape == (2, 2, 2, 2, sum((4, 8, 2, 2)))
  np.testing.assert_allclose(outputs.pooled, outputs.features.mean((1, 2, 3)), atol=1e-6)


@pytest.mark.parametrize("name", ["s3d/gated", "s3d/gated_plain", "s3d/nano"])
def test_the_tower_is_found_in_a_file_of_mmv(name):
  encoder = clip_encoders.build(name)
  tree = clip_encoders.merged(*clip_encoders.template(encoder))
  rules = s3d.FAMILY.rules(encoder.config)
  flat = {p.name: np.broadcast_to(0, p.shape) for p in published_names(tree, rules).values()}
  found = s3d.detect({**flat, "text_audio_video/text_module/~/embed/embeddings": np.zeros(1)})
  assert found
  for field in ("divisor", "space_to_depth", "first_frames", "final_endpoint"):
    assert getattr(found.config, field) == getattr(encoder.config, field)
  assert s3d.detect({"RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w": np.zeros(1)}) is None
