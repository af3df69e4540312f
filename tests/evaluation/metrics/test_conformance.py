"""Every metric of `METRICS` keeps the same promises; a new one is tested by being listed there."""

import importlib
import pathlib
import pkgutil

import numpy as np
import pytest

from perceiver_stream.evaluation import metrics
from perceiver_stream.evaluation.metrics import base

SUPPORT = {"base", "resize", "top_k"}
TIME_FIRST = {
  "streaming",
  "label_propagation",
  "trajectory",
  "drift",
}  # the first axis is time, not videos
ALL = pytest.mark.parametrize("metric", metrics.METRICS, ids=lambda m: m.name)


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def numbers(metric, arrays):
  return {name: float(value) for name, value in metric.score(**arrays).items()}


def close(a, b, **tolerance):
  assert a.keys() == b.keys()
  np.testing.assert_allclose(list(a.values()), list(b.values()), **tolerance)


def test_every_file_of_metrics_is_listed_once():
  (folder,) = metrics.__path__
  files = {module.name for module in pkgutil.iter_modules([folder])} - SUPPORT
  assert sorted(m.name for m in metrics.METRICS) == sorted(files)


@ALL
def test_the_truth_scores_best(metric, rng):
  scores = numbers(metric, metric.perfect(metric.example(rng)))
  assert {name: pytest.approx(value, abs=1e-9) for name, value in metric.best.items()} == {
    name: scores[name] for name in metric.best
  }


@ALL
def test_anything_else_scores_worse(metric, rng):
  arrays = metric.example(rng)
  perfect, scores = numbers(metric, metric.perfect(arrays)), numbers(metric, arrays)
  assert any(scores[name] != perfect[name] for name in metric.best)
  larger = [name for name in metric.best if scores[name] > perfect[name] + 1e-9]
  smaller = [name for name in metric.best if scores[name] < perfect[name] - 1e-9]
  # Errors only go up, scores only down.
  assert all(metric.best[name] == 0 for name in larger)
  assert all(metric.best[name] > 0 for name in smaller)


@pytest.mark.parametrize(
  "metric", [m for m in metrics.METRICS if m.name not in TIME_FIRST], ids=lambda m: m.name
)
def test_scores_do_not_depend_on_the_order_of_videos(metric, rng):
  arrays = metric.example(rng)
  turned = {name: value[::-1] for name, value in arrays.items()}
  close(numbers(metric, arrays), numbers(metric, turned), rtol=1e-12)


@ALL
def test_inputs_stay_as_they_were(metric, rng):
  arrays = metric.example(rng)
  before = {name: value.copy() for name, value in arrays.items()}
  metric.score(**arrays)
  for name, value in arrays.items():
    np.testing.assert_array_equal(value, before[name])


@ALL
def test_float32_gives_nearly_the_same(metric, rng):
  arrays = metric.example(rng)
  small = {n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in arrays.items()}
  close(numbers(metric, arrays), numbers(metric, small), rtol=1e-4)


@ALL
def test_nothing_outside_numpy_is_used(metric):
  module = importlib.import_module(f"perceiver_stream.evaluation.metrics.{metric.name}")
  source = pathlib.Path(module.__file__).read_text()
  for heavy in ("cv2", "scipy", "skimage", "torch", "jax "):
    assert f"import {heavy}" not in source and f"from {heavy}" not in source


def test_arrays_that_do_not_belong_together_are_refused():
  message = r"depth: gt \[2, 3\], pred \[2, 4\] differ in shape; give one value per element"
  with pytest.raises(ValueError, match=message):
    base.same_shapes("depth", gt=np.zeros((2, 3)), pred=np.zeros((2, 4)))
