"""Segmentation from depth: what the network reads, what counts, and labels of other renderers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from extras import need

from perceiver_stream.lab import depth_segmentation as lab
from perceiver_stream.streams import rooms

SIZE = {"height": 16, "width": 24}


@pytest.fixture(scope="module")
def scenes():
  return lab.sample(24, sensor="kinect", **SIZE)


def test_equal_seeds_give_equal_rooms_for_every_sensor(scenes):
  exact = lab.sample(24, **SIZE)
  np.testing.assert_array_equal(exact.labels, scenes.labels)
  assert (exact.dha[..., 0] > 0).all() and (scenes.dha[..., 0] == 0).any()
  assert len({frame.tobytes() for frame in exact.dha}) == 24


@pytest.mark.parametrize(("inputs", "channels"), [("d", 2), ("dha", 4)])
def test_the_network_reads_scaled_channels_and_what_is_known(inputs, channels, scenes):
  found = np.asarray(lab.encode(jnp.asarray(scenes.dha), inputs))
  assert found.shape == (*scenes.labels.shape, channels)
  np.testing.assert_array_equal(found[..., -1], scenes.dha[..., 0] > 0)
  np.testing.assert_allclose(found[..., 0], scenes.dha[..., 0] / 4, rtol=1e-6)
  if inputs == "dha":
    np.testing.assert_allclose(found[..., 1:3], scenes.dha[..., 1:] / [2, 90], rtol=1e-5)


def test_weights_of_classes_have_mean_one_and_are_larger_for_rare_ones(scenes):
  weights = lab.class_weights(scenes.labels)
  counts = np.bincount(scenes.labels.ravel(), minlength=len(rooms.CLASSES))
  assert np.average(weights, weights=np.maximum(counts / counts.sum(), 1e-4)) == pytest.approx(
    1, rel=1e-3
  )
  assert np.argmin(weights) == np.argmax(counts)


def test_unknown_pixels_have_no_loss_and_no_gradient():
  labels = np.full((1, 2, 2), lab.UNKNOWN)
  labels[0, 0, 0] = 2
  logits, weights = jnp.zeros((1, 2, 2, 7)), jnp.ones(7)
  value, grad = jax.value_and_grad(lab.loss)(logits, jnp.asarray(labels), weights)
  assert float(value) == pytest.approx(np.log(7), rel=1e-5)
  assert np.asarray(grad[0, 0, 0]).any() and not np.asarray(grad).reshape(-1, 7)[1:].any()
  nothing = jax.grad(lab.loss)(logits, jnp.full((1, 2, 2), lab.UNKNOWN), weights)
  assert not np.asarray(nothing).any()


def test_the_rule_is_right_on_exact_depth_and_wrong_on_noise():
  exact, noisy = (lab.sample(16, height=48, width=64, sensor=s) for s in ("", "nguyen"))
  scores = []
  for scenes in (exact, noisy):
    truth = lab.GROUPS[scenes.labels]
    scores.append(float(np.nanmean(lab.score(truth, lab.rule(scenes.dha), 4))))
  assert scores[0] > 0.7 and scores[1] < scores[0] - 0.2


def test_scores_of_classes_that_do_not_occur_are_nan():
  truth = np.asarray([[[0, 0], [2, lab.UNKNOWN]]])
  np.testing.assert_allclose(
    lab.score(truth, np.asarray([[[0, 1], [2, 3]]]), 4), [0.5, np.nan, 1.0, np.nan]
  )


def test_a_segmenter_learns_its_scenes_and_a_seed_gives_it_again(scenes):
  config = lab.Config(steps=60, channels=(8,), batch=8)
  one, same = (lab.train(scenes, config) for _ in range(2))
  for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(same.params), strict=True):
    np.testing.assert_array_equal(a, b)
  found = lab.predict(one, scenes.dha, batch=7)
  np.testing.assert_array_equal(found[:3], lab.predict(one, scenes.dha[:3], batch=7))
  wall = rooms.CLASSES.index("wall")
  assert np.mean(found == scenes.labels) > np.mean(scenes.labels == wall) + 0.02
  floor = lab.score(scenes.labels, found, len(rooms.CLASSES))[0]
  assert floor > 0.2


def test_unknown_inputs_are_an_error():
  with pytest.raises(ValueError, match=r"inputs='rgb' is not one of \['d', 'dha'\]"):
    lab.Config(inputs="rgb")


# --- other renderers


def test_mujoco_has_level_floors_upright_walls_and_objects():
  need("mujoco")
  from perceiver_stream.lab import other_renderers

  scenes = other_renderers.sample_mujoco(12, height=48, width=64)
  _, height, angle = np.moveaxis(scenes.dha, -1, 0)
  floor, wall, thing = (
    scenes.labels == lab.GROUP_NAMES.index(n) for n in ("floor", "wall", "object")
  )
  assert min(floor.sum(), wall.sum(), thing.sum()) > 100
  assert np.mean(angle[floor] < 3) > 0.8  # but next to edges: gravity is that of the pose
  assert abs(np.median(height[floor])) < 0.01
  assert np.median(height[wall]) < 0.55 and np.median(height[thing]) > 0.02


def test_vizdoom_has_the_floor_below_the_camera_and_objects():
  need("vizdoom")
  from perceiver_stream.lab import other_renderers

  scenes = other_renderers.sample_vizdoom(12, height=48, width=64, sensor="kinect")
  exact = other_renderers.sample_vizdoom(12, height=48, width=64)
  np.testing.assert_array_equal(scenes.labels, exact.labels)
  assert (scenes.dha[..., 0] == 0).mean() > (exact.dha[..., 0] == 0).mean()
  depth, height, _ = np.moveaxis(exact.dha, -1, 0)
  low = height[:, -4:][depth[:, -4:] > 0]
  assert abs(np.median(low)) < 0.2  # the game's depth has steps of a quarter of a metre
  assert set(np.unique(exact.labels)) <= {lab.UNKNOWN, 2, 3}
