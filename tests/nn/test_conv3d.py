"""Inflation, shifts over time, padding, batch norm: against golden files and closed forms."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_golden import ClipGolden, paths_of

from perceiver_stream.nn.batch_norm import BatchNorm
from perceiver_stream.nn.conv3d import Conv3D, central_frame, convolve, inflate, padding_of
from perceiver_stream.nn.drop_path import drop_path, dropout
from perceiver_stream.nn.temporal_shift import max_over_segments, order_preserving_shift
from perceiver_stream.nn.timeline import Timeline

FILES = paths_of("tsm_inflation")


@pytest.mark.parametrize("path", FILES)
def test_golden(path):
  golden = ClipGolden(path)
  shifts(golden)
  kernel = jnp.asarray(golden["inputs/kernel2d"]).transpose(2, 3, 1, 0)
  image = jnp.moveaxis(jnp.asarray(golden["inputs/image"]), 1, -1)
  half = [(k // 2, k // 2) for k in kernel.shape[:2]]
  flat = convolve(image[:, None], kernel[None], (1, 1, 1), [(0, 0), *half])[:, 0]
  golden.close("outputs/conv2d", jnp.moveaxis(flat, -1, 1))
  times = golden["outputs/inflated_kernel"].shape[2]
  inflated = inflate(kernel, times)
  golden.close("outputs/inflated_kernel", inflated.transpose(4, 3, 0, 1, 2))
  for name, made, padding in (
    ("inflated_conv_zero_padded_time", inflated, "half"),
    ("inflated_conv_edge_padded_time", inflated, "edge"),
    ("central_frame_conv", central_frame(kernel, times), "half"),
  ):
    frames = golden[f"outputs/{name}"].shape[2]
    clip = jnp.repeat(image[:, None], frames, axis=1)
    golden.close(f"outputs/{name}", jnp.moveaxis(convolved(clip, made, padding), -1, 1))
  golden.all_compared()
  # The identity: everywhere with repeated frames, away from the ends with zeros.
  whole = golden["outputs/inflated_conv_edge_padded_time"]
  image_result = golden["outputs/conv2d"][:, :, None]
  np.testing.assert_allclose(whole, np.broadcast_to(image_result, whole.shape), atol=1e-5)
  padded = golden["outputs/inflated_conv_zero_padded_time"]
  inner = padded[:, :, times // 2 : padded.shape[2] - times // 2]
  assert inner.shape[2] > 0, "no frame is away from the ends"
  np.testing.assert_allclose(inner, np.broadcast_to(image_result, inner.shape), atol=1e-5)


def shifts(golden: ClipGolden) -> None:
  """Compares the shifts; files hold `[clips · segments, C, H, W]`."""
  h = golden.hyper
  frames = np.moveaxis(golden["inputs/shift_x"], 1, -1)
  clips = jnp.asarray(frames.reshape(h["clips"], h["segments"], *frames.shape[1:]))
  back = lambda x: np.moveaxis(np.asarray(x).reshape(-1, *x.shape[2:]), -1, 1)  # noqa: E731
  shifted = back(order_preserving_shift(clips, Timeline(), h["fold_div"], name="shift"))
  golden.close("outputs/shift", shifted)
  golden.close("outputs/inplace_shift", shifted)  # as released, without a copy
  single = order_preserving_shift(
    jnp.asarray(frames)[:, None], Timeline(), h["fold_div"], name="shift"
  )
  golden.close("outputs/shift_single_frame", back(single))
  golden.close("outputs/temporal_pool", back(max_over_segments(clips)))


def convolved(clip, kernel, padding):
  """Returns the result of a `Conv3D` with a given kernel."""

  def run(x):
    conv = Conv3D(kernel.shape[-1], kernel=kernel.shape[:3], padding=padding, name="conv")
    return conv(x, Timeline())[0]

  return hk.transform(run).apply({"conv": {"w": kernel}}, None, clip)


def test_padding_is_that_of_each_framework():
  assert padding_of((5, 6, 7), (3, 3, 2), (2, 2, 2), "same") == [(1, 1), (0, 1), (0, 1)]
  assert padding_of((5, 6, 7), (3, 7, 1), (2, 2, 2), "half") == [(1, 1), (3, 3), (0, 0)]
  assert padding_of((5, 6, 7), (3, 3, 3), (1, 1, 1), "valid") == [(0, 0)] * 3


@pytest.mark.parametrize("unbiased", [True, False])
def test_batch_norm_moves_its_statistics(unbiased):
  x = np.random.default_rng(0).normal(3, 2, (4, 5, 3)).astype(np.float32)
  norm = hk.transform_with_state(
    lambda x, train: BatchNorm(momentum=0.3, unbiased=unbiased, name="norm")(x, train)
  )
  params, state = norm.init(jax.random.key(0), jnp.asarray(x), True)
  y, after = norm.apply(params, state, None, jnp.asarray(x), True)
  flat = x.reshape(-1, 3)
  variance = flat.var(0, ddof=int(unbiased))
  np.testing.assert_allclose(after["norm"]["mean"], 0.3 * flat.mean(0), rtol=1e-5)
  np.testing.assert_allclose(after["norm"]["variance"], 0.7 + 0.3 * variance, rtol=1e-5)
  np.testing.assert_allclose(np.asarray(y).reshape(-1, 3).mean(0), 0, atol=1e-5)
  same, kept = norm.apply(params, after, None, jnp.asarray(x), False)
  jax.tree.map(np.testing.assert_array_equal, kept, after)
  now = {k: np.asarray(v) for k, v in after["norm"].items()}
  expected = (flat - now["mean"]) / np.sqrt(now["variance"] + 1e-5)
  np.testing.assert_allclose(np.asarray(same).reshape(-1, 3), expected, atol=1e-5)


def test_dropped_branches_are_whole_rows():
  run = hk.transform(lambda x, **how: drop_path(x, 0.5, True, **how)).apply
  x = jnp.ones((64, 2, 3))
  for how, kept in (({}, 2.0), ({"rescale": False}, 1.0)):
    rows = np.asarray(run({}, jax.random.key(0), x, **how)).reshape(64, -1)
    assert set(np.unique(rows)) == {0.0, kept} and np.all(rows == rows[:, :1])
  assert drop_path(x, 0.5, False) is x and dropout(x, 0.5, False) is x
