"""Tasks: what is painted, and how it is scored."""

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.lab.tasks import SHOWS, Task

RNG = np.random.default_rng(0)
TRUTH = {
  "pixels": RNG.integers(0, 256, (3, 6, 5, 3)).astype(np.uint8),
  "depth": RNG.uniform(1, 9, (3, 6, 5)).astype(np.float32),
  "segmentation": RNG.integers(0, 4, (3, 6, 5)).astype(np.int32),
}
ALL = jnp.ones(3, bool)


def unit(picture):
  return jnp.asarray(picture, jnp.float32) / 255


@pytest.mark.parametrize("shows", SHOWS)
def test_the_right_picture_has_no_error_and_sums_add_up(shows):
  task = Task(shows=shows)
  right = unit(task.paint(TRUTH))
  np.testing.assert_allclose(task.score(task.measure(right, right, ALL)), 0, atol=1e-6)
  wrong = jnp.roll(right, 1, axis=1)
  whole = task.measure(wrong, right, ALL)
  parts = [task.measure(wrong[i : i + 1], right[i : i + 1], ALL[:1]) for i in range(3)]
  np.testing.assert_allclose(sum(parts), whole, rtol=1e-5)
  assert task.score(whole) > 0.05


@pytest.mark.parametrize("shows", SHOWS)
def test_what_does_not_count_does_not(shows):
  task = Task(shows=shows)
  right = unit(task.paint(TRUTH))
  wrong = right.at[1].set(0.3)
  np.testing.assert_allclose(
    task.score(task.measure(wrong, right, jnp.array([True, False, True]))), 0, atol=1e-6
  )


def test_scores_are_what_numpy_says():
  said = RNG.integers(0, 4, (3, 6, 5)).astype(np.int32)
  task, is_so = Task(shows="segmentation", num_classes=6), TRUTH["segmentation"]
  sums = task.measure(*(unit(task.paint({"segmentation": x})) for x in (said, is_so)), ALL)
  iou = [np.sum((said == k) & (is_so == k)) / np.sum((said == k) | (is_so == k)) for k in range(4)]
  np.testing.assert_allclose(task.score(sums), 1 - np.mean(iou), rtol=1e-6)
  task, other = Task(shows="depth"), RNG.uniform(1, 9, (3, 6, 5)).astype(np.float32)
  sums = task.measure(*(unit(task.paint({"depth": x})) for x in (other, TRUTH["depth"])), ALL)
  relative = np.mean(np.abs(other - TRUTH["depth"]) / TRUTH["depth"])
  np.testing.assert_allclose(task.score(sums), relative, rtol=0.02)


def test_errors_say_what_is_wrong():
  with pytest.raises(ValueError, match="shows='sound'; use one of pixels, depth, segmentation"):
    Task(shows="sound")
  with pytest.raises(ValueError, match="displacement=-1"):
    Task(displacement=-1)
  with pytest.raises(ValueError, match=r"footage has \['pixels'\], but no 'depth'"):
    Task(shows="depth").paint({"pixels": TRUTH["pixels"]})
