"""Class probabilities of images, and the names of classes."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from perceiver_stream import zoo
from perceiver_stream.files import limits
from perceiver_stream.inference.model_loading import Loaded
from perceiver_stream.models.perceiver_io import classifier as perceiver_classifier

CROP = 224 / 256  # of the shorter side: the input of the released classifiers


def read_names(path: str | pathlib.Path, count: int) -> list[str]:
  """Returns the names of `count` classes, one per line of a text file; without a path, numbers.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: The file has another number of lines.
  """
  if not path:
    return [f"class {i}" for i in range(count)]
  names = limits.read_text(path).splitlines()
  if len(names) != count:
    raise ValueError(f"{path} has {len(names)} lines, the model {count} classes; one name a line.")
  return names


def top(
  probabilities: Float[np.ndarray, " K"], names: list[str], number: int
) -> list[tuple[str, float]]:
  """Returns the `number` most probable classes, best first."""
  best = np.argsort(-probabilities, kind="stable")[:number]
  return [(names[i], float(probabilities[i])) for i in best]


def size_to_read(loaded: Loaded) -> tuple[int, int]:
  """Returns the size (H, W) to read images at, of which the central crop has the model's size.

  Raises:
    ValueError: The model is no classifier.
  """
  c = loaded.model.config
  if not isinstance(c, perceiver_classifier.Config):
    family = zoo.family(c).name
    raise ValueError(f"classify: a {family} has no classes; use a perceiver_classifier.")
  return round(c.height / CROP), round(c.width / CROP)


def classify(loaded: Loaded, ticks: Iterable[Mapping[str, Any]]) -> Float[np.ndarray, " K"]:
  """Returns the probability of each class, the mean over all ticks.

  Args:
    loaded: A classifier and its parameters.
    ticks: With `pixels` of `size_to_read`.

  Raises:
    ValueError: The model is no classifier, or there is no tick.
  """
  size_to_read(loaded)
  model, params, c = loaded.model, loaded.params, loaded.model.config
  state, total, count = model.initial_state(params), np.zeros(c.num_classes), 0
  for tick in ticks:
    y, x = ((a - b) // 2 for a, b in zip(tick["pixels"].shape, (c.height, c.width), strict=False))
    middle = tick["pixels"][y : y + c.height, x : x + c.width]
    outputs, state = model.step(params, state, {"pixels": middle[None]})
    total += np.asarray(jax.nn.softmax(outputs.predictions["label"][0, 0]), np.float64)
    count += 1
  if not count:
    raise ValueError("classify: there is no image; give an image or a video.")
  return total / count
