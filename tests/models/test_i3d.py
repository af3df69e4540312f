"""I3D: names of the released checkpoints, inflation from images, pooling of the released head."""

import jax.numpy as jnp
import numpy as np
import pytest
from clip_golden import ClipGolden, paths_of
from drawn_clips import shared

from perceiver_stream.models import i3d
from perceiver_stream.models.i3d import weights
from perceiver_stream.models.mapping import published_names
from perceiver_stream.zoo import clip_encoders

FILES = paths_of("tsm_inflation")


def published(name: str, **how) -> dict[str, tuple[int, ...]]:
  encoder = clip_encoders.build(name)
  tree = clip_encoders.merged(*clip_encoders.template(encoder))
  names = published_names(tree, weights.rules(encoder.config, **how)).values()
  return {p.name: tuple(p.shape) for p in names}


@pytest.mark.parametrize("path", FILES)
def test_full_size_has_the_published_names_and_shapes(path):
  stored = ClipGolden(path).about["i3d_checkpoint_variables"]["rgb_imagenet"]
  assert published("i3d/rgb") == {name: tuple(shape) for name, shape in stored.items()}


def test_the_other_checkpoints_are_detected():
  rgb = {k: np.broadcast_to(0, s) for k, s in published("i3d/rgb").items()}
  flow = {k: np.broadcast_to(0, s) for k, s in published("i3d/flow").items()}
  other = published("i3d/rgb_600", scope="", flat_norms=False)
  other = {k: np.broadcast_to(0, s) for k, s in other.items()}
  assert all(k.startswith("Flow/") for k in flow)
  assert other["Conv3d_1a_7x7/batch_norm/beta"].shape == (1, 1, 1, 1, 64)
  for flat, channels, classes in ((rgb, 3, 400), (flow, 2, 400), (other, 3, 600)):
    found = weights.detect(flat)
    assert found and (found.config.channels, found.config.num_classes) == (channels, classes)
    template = clip_encoders.merged(*clip_encoders.template(i3d.build(found.config)))
    names = published_names(template, found.rules(found.config)).values()
    assert {p.name: p.shape for p in names} == {name: value.shape for name, value in flat.items()}


def test_logits_weigh_the_ends_half_as_released():
  encoder, params, statistics = shared("i3d/nano")
  clips = jnp.asarray(np.random.default_rng(0).random((2, 9, 32, 32, 3), np.float32))
  outputs, _ = encoder.apply(params, statistics, clips)
  means = np.asarray(outputs.features).mean((2, 3))
  windows = [means[:, t : t + 2].mean(1) for t in range(means.shape[1] - 1)]
  np.testing.assert_allclose(outputs.pooled, np.mean(windows, 0), atol=1e-5)
  classify = params["i3d/classifier"]
  expected = np.mean(windows, 0) @ np.asarray(classify["w"]) + np.asarray(classify["b"])
  np.testing.assert_allclose(outputs.logits, expected, atol=1e-5)
