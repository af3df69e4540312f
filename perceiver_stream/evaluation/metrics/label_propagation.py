"""Label propagation: following labels through a video by the likeness of frozen features.

Training-free: the labels of the first frame are propagated to the nearest features of each next
frame, which propagate them in turn. The result is scored by `davis`, `miou` and `pck`.

Source: the evaluation colab of RVM in google-deepmind/representations4d, after Jabri et al. 2020
(CRW) and Caron et al. 2021 (DINO).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

from perceiver_stream.evaluation.metrics import davis
from perceiver_stream.evaluation.metrics.base import Arrays, Metric, same_shapes
from perceiver_stream.evaluation.metrics.resize import bilinear, nearest
from perceiver_stream.evaluation.metrics.top_k import top_k

PATCH = 16  # pixels of the model's image per patch
_FAR = np.float32(-1e10)
_SAME = 1e-6  # labels that differ by less are the same
_ROWS = 256  # patches whose affinities are computed at once


class Settings(NamedTuple):
  """Settings of label propagation.

  Attributes:
    num_context: Frames remembered besides the first.
    temperature: Of the softmax over the chosen patches.
    top_k: Patches that hand their label to one.
    radius: Patches: labels spread only from nearer than this, save from the first frame.
    use_radius: If True, `radius` counts.
    use_norm: If True, each patch's labels are stretched to [0, 1].
  """

  num_context: int = 20
  temperature: float = 0.7
  top_k: int = 7
  radius: float = 20.0
  use_radius: bool = True
  use_norm: bool = False


def propagate(
  features: Num[np.ndarray, "T h w D"],
  labels: Num[np.ndarray, "a b C"],
  settings: Settings = Settings(),  # noqa: B008 (immutable)
) -> Float[np.ndarray, "T h w C"]:
  """Returns the soft labels of every patch of every frame; also the first is handed to itself.

  Args:
    features: Of the patches, of unit length.
    labels: Soft one-hot labels of the first frame.
    settings: See there.

  Raises:
    ValueError: Features and labels have different grids.
  """
  if features.shape[1:3] != labels.shape[:2]:
    raise ValueError(
      f"propagate: features {list(features.shape)} and labels {list(labels.shape)} have different "
      f"grids; resize the labels to {list(features.shape[1:3])}."
    )
  num_frames, height, width, _ = features.shape
  flat = np.asarray(features, np.float32).reshape(num_frames, height * width, -1)
  first = np.asarray(labels, np.float64).reshape(height * width, -1)
  near = _near(height, width, settings.radius) if settings.use_radius else None
  memory = [(0, first)] * settings.num_context
  out = []
  for frame in range(num_frames):
    handed = _hand_on(flat, frame, [(0, first), *memory], near, settings)
    if settings.use_norm:  # also the context, as in the source
      handed = handed - handed.min(axis=-1, keepdims=True)
      handed = handed / handed.max(axis=-1, keepdims=True)
    memory = [*memory, (frame, handed)][1:]
    out.append(handed)
  return np.stack(out).reshape(num_frames, height, width, -1)


def masks_to_labels(
  mask: Integer[np.ndarray, "H W"], grid: tuple[int, int], patch: int = PATCH
) -> tuple[Float[np.ndarray, "h w C"], Integer[np.ndarray, " C"]]:
  """Returns soft one-hot labels of the patches, and the id of each channel.

  The mask goes to the model's image by nearest pixels, one-hot to the grid bilinearly.
  """
  ids = np.unique(mask)
  large = nearest(mask, (grid[0] * patch, grid[1] * patch))
  one_hot = (large[..., None] == ids).astype(np.float64)
  return bilinear(one_hot, grid), ids


def labels_to_masks(
  labels: Num[np.ndarray, "T h w C"],
  ids: Integer[np.ndarray, " C"],
  size: tuple[int, int],
  patch: int = PATCH,
) -> Integer[np.ndarray, "T H W"]:
  """Returns masks of `size` from soft labels: bilinear to the model's image, then the largest."""
  grid = labels.shape[1:3]
  large = (grid[0] * patch, grid[1] * patch)
  masks = [np.argmax(bilinear(frame, large), axis=-1) for frame in labels]
  return np.stack([nearest(ids[mask], size, use_centres=True) for mask in masks])


def pose_to_labels(
  pose: Num[np.ndarray, "J 2"], grid: tuple[int, int], size: tuple[int, int], sigma: float = 0.5
) -> Float[np.ndarray, "h w C"]:
  """Returns a small Gaussian for each joint; channel 0 is 1 where there is none.

  Args:
    pose: (x, y) in pixels of the original image.
    grid: Patches (h, w).
    size: Of the original image, (H, W).
    sigma: Patches.
  """
  at = np.asarray(pose, np.float64) * [grid[1] / size[1], grid[0] / size[0]]
  low = np.trunc(at - 3 * sigma)  # towards zero, as the source
  high = np.trunc(at + 3 * sigma + 1)
  inside = np.all((low < [grid[1], grid[0]]) & (high >= 0), axis=1)
  x, y = (_bump(low[:, i], high[:, i], grid[1 - i], sigma) for i in (0, 1))
  joints = np.where(inside, 1.0, 0.0)[:, None, None] * y[:, :, None] * x[:, None, :]  # [J, h, w]
  empty = np.all(joints == 0, axis=0, keepdims=True)
  return np.concatenate([empty, joints]).transpose(1, 2, 0)


def labels_to_pose(
  labels: Num[np.ndarray, "T h w C"], size: tuple[int, int], num_best: int = 5
) -> tuple[Float[np.ndarray, "T J 2"], Bool[np.ndarray, "T J"]]:
  """Returns the position of each joint, (x, y) in pixels, and whether it is present.

  The position is the mean of the indices of the best patches, weighted by their labels, without
  the half patch to their centres; -1 where no patch has the label. Of patches that are equal in
  float32, the choice is that of the source; see `top_k`.
  """
  num_frames, height, width, channels = labels.shape
  flat = np.asarray(labels[..., 1:], np.float64).reshape(num_frames, -1, channels - 1)
  rows = flat.astype(np.float32).swapaxes(1, 2).reshape(-1, height * width)
  best = np.stack([top_k(row, num_best) for row in rows])
  best = best.reshape(num_frames, channels - 1, -1).swapaxes(1, 2)
  weights = np.take_along_axis(flat, best, axis=1)
  total = weights.sum(axis=1)
  visible: np.ndarray = np.any(flat != 0, axis=1)
  mean = lambda index: (index * weights).sum(axis=1) / np.where(visible, total, 1.0)  # noqa: E731
  x = mean(best % width) / width * size[1]
  y = mean(best // width) / height * size[0]
  return np.where(visible[..., None], np.stack([x, y], axis=-1), -1.0), visible


def _hand_on(
  flat: np.ndarray,
  frame: int,
  context: list[tuple[int, np.ndarray]],
  near: np.ndarray | None,
  settings: Settings,
) -> np.ndarray:
  """Returns the labels `[P, C]` that the patches of a frame get from those of the context."""
  # The first frame fills the memory at the start: its affinities are computed once.
  frames = list(dict.fromkeys(index for index, _ in context))
  known = np.concatenate(flat[frames]).T  # [D, frames * P]
  place = [frames.index(index) for index, _ in context]
  labels = np.concatenate([label for _, label in context])
  out = []
  for start in range(0, flat.shape[1], _ROWS):
    rows = slice(start, start + _ROWS)
    likeness = (flat[frame, rows] / np.float32(settings.temperature)) @ known
    split = np.split(likeness, len(frames), axis=1)
    parts = [split[i] for i in place]
    if near is not None:
      far = np.where(near[rows], np.float32(0), _FAR)
      parts[1:] = [part + far for part in parts[1:]]
    affinity = np.concatenate(parts, axis=1)
    chosen = _nearest(affinity, labels, settings.top_k)
    weights = np.take_along_axis(affinity, chosen, axis=1).astype(np.float64)
    weights = np.exp(weights - weights.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    out.append(np.einsum("pkc,pk->pc", labels[chosen], weights))
  return np.concatenate(out)


def _nearest(
  affinity: Float[np.ndarray, "P M"], labels: Num[np.ndarray, "M C"], k: int
) -> Integer[np.ndarray, "P K"]:
  """Returns the patches of the context with the largest affinities to each patch.

  The copies of the first frame that fill the memory at the start tie. Which of them are taken
  matters only where their labels differ; there it is as in the source, see `top_k`.
  """
  k = min(k, affinity.shape[1])
  chosen = np.argpartition(affinity, -k, axis=1)[:, -k:]
  smallest = np.take_along_axis(affinity, chosen, axis=1).min(axis=1, keepdims=True)
  for row in np.flatnonzero((affinity >= smallest).sum(axis=1) > k):
    tied = labels[affinity[row] == smallest[row]]
    if np.any(np.ptp(tied, axis=0) > _SAME):
      chosen[row] = top_k(affinity[row], k)
  return chosen


def _near(height: int, width: int, radius: float) -> Bool[np.ndarray, "P P"]:
  y, x = np.divmod(np.arange(height * width), width)
  return (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 < radius**2


def _bump(low: np.ndarray, high: np.ndarray, size: int, sigma: float) -> np.ndarray:
  """Returns one axis of the source's Gaussians, `[J, size]`, cut at their small square."""
  side = int(6 * sigma + 1)
  place = np.arange(size) - low[:, None]
  inside = (place >= 0) & (place < side) & (np.arange(size) < high[:, None])
  return np.where(inside, np.exp(-((place - side // 2) ** 2) / (2 * sigma**2)), 0.0)


def _score(
  features: np.ndarray,
  masks: np.ndarray,
  settings: Settings = Settings(),  # noqa: B008 (immutable)
) -> dict[str, float]:
  same_shapes("label_propagation", frames=features[:, 0, 0, 0], masks=masks[:, 0, 0])
  labels, ids = masks_to_labels(masks[0], features.shape[1:3])
  predicted = labels_to_masks(propagate(features, labels, settings), ids, masks.shape[1:])
  found = davis.objects(masks, predicted)
  j, f = float(found["J"].mean()), float(found["F"].mean())
  return {"J": j, "F": f, "J&F": (j + f) / 2}


def _example(rng: np.random.Generator) -> Arrays:
  masks = np.zeros((5, 96, 128), np.uint8)
  for t in range(5):
    masks[t, :, 16 * t + 16 : 16 * t + 48] = 1
  return {"features": rng.normal(size=(5, 6, 8, 4)), "masks": masks}


def _perfect(arrays: Arrays) -> Arrays:
  """Features that are the labels themselves, on patches that the object fills."""
  patches = arrays["masks"][:, ::PATCH, ::PATCH]
  return arrays | {"features": 100 * np.stack([patches == 0, patches == 1], axis=-1).astype(float)}


METRIC = Metric(
  name="label_propagation",
  score=_score,
  best={"J": 1.0, "F": 1.0, "J&F": 1.0},
  example=_example,
  perfect=_perfect,
)
