"""Binding: does the latent with the most attention on an object in its first frame track it?

For every target (an object by its mask, or a point) the latent with the most attention inside it at
its first tick is selected, once. We report (a) the correlation of that latent's attention centroid
with the true track and (b) the share of later ticks at which it still has the most attention there.

A latent that is bound to a position has a static centroid: its correlation is 0. Free latents may
all move with the camera, so the mean over all latents, the value of a random one, is reported with
it. A latent with the most attention everywhere is stable and tracks nothing: with the stability we
report the share of ticks at which the latent also has the most attention elsewhere.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int32, Num

from perceiver_stream.utils import moved

TIE = 1e-6  # of equal shares the nearest is chosen, and all of them stay so
STILL = 1e-5  # of the image's side: smaller motion counts as none


class Targets(NamedTuple):
  """The targets that are tracked.

  Attributes:
    inside: Share of each cell of the attention's grid that belongs to the target.
    tracks: Its position, (x, y) in [0, 1] of the image.
    counted: Ticks at which it is visible.
  """

  inside: Float[np.ndarray, "K T h w"]
  tracks: Float[np.ndarray, "K T 2"]
  counted: Bool[np.ndarray, "K T"]


class Binding(NamedTuple):
  """Scores of each target; `random` is the mean over all latents.

  Attributes:
    correlation: Pearson, mean of the axes along which the target moves; NaN if along none.
    stability: Share of the later ticks at which the latent has the most attention in the target.
    elsewhere: The same share in the other targets; NaN if there are none.
    distance: Mean distance of the centroid from the track, in sides of the image.
  """

  correlation: Float[np.ndarray, " K"]
  random_correlation: Float[np.ndarray, " K"]
  stability: Float[np.ndarray, " K"]
  elsewhere: Float[np.ndarray, " K"]
  distance: Float[np.ndarray, " K"]
  random_distance: Float[np.ndarray, " K"]


def objects(
  masks: Int32[np.ndarray, "T H W"], grid: tuple[int, int], min_share: float = 0.004
) -> Targets:
  """Returns the objects with ids above 0; the track is the centroid of each one's visible part.

  Args:
    masks: Id at each pixel.
    grid: Of the attention.
    min_share: Of the image; the centroid of a smaller visible part is left out.
  """
  ids = np.unique(masks[masks > 0])
  mine = (masks[None] == ids[:, None, None, None]).astype(np.float64)  # [K, T, H, W]
  area = mine.sum(axis=(2, 3))
  height, width = masks.shape[1:]
  middle = lambda size: (np.arange(size) + 0.5) / size  # noqa: E731
  sums = [mine.sum(axis=2) @ middle(width), mine.sum(axis=3) @ middle(height)]
  tracks = np.stack(sums, axis=-1) / np.maximum(area, 1)[..., None]
  counted = np.asarray(area >= min_share * height * width)
  return Targets(_to_cells(mine, grid), tracks, counted)


def points(
  tracks: Num[np.ndarray, "K T 2"], visible: Bool[np.ndarray, "K T"], grid: tuple[int, int]
) -> Targets:
  """Returns points, each inside the cell that holds it.

  Args:
    tracks: (x, y) in [0, 1] of the image.
    visible: True where they are visible.
    grid: Of the attention.
  """
  inside = visible & np.all((tracks >= 0) & (tracks < 1), axis=-1)
  cell = np.floor(np.clip(tracks, 0, 1 - 1e-9) * [grid[1], grid[0]]).astype(int)
  flat = (cell[..., 1] * grid[1] + cell[..., 0])[..., None] == np.arange(grid[0] * grid[1])
  weights = (flat & inside[..., None]).astype(np.float64).reshape(*inside.shape, *grid)
  return Targets(weights, np.asarray(tracks, np.float64), inside)


def follow(maps: Float[np.ndarray, "T L h w"], targets: Targets, min_ticks: int = 8) -> Binding:
  """Returns the scores of the latents that attend most to each target in its first frame.

  Args:
    maps: Attention of each latent over a grid of the image.
    targets: On the same grid; one that is visible at fewer than `min_ticks` ticks is left out.
    min_ticks: At least 2.

  Raises:
    ValueError: The grids or the numbers of ticks differ.
  """
  if targets.inside.shape[1:] != (len(maps), *maps.shape[2:]):
    raise ValueError(
      f"binding: maps of {len(maps)} ticks on a {list(maps.shape[2:])} grid do not fit targets "
      f"{list(targets.inside.shape)}; make both for the same clip and grid."
    )
  enough = targets.counted.sum(axis=1) >= min_ticks
  inside, tracks, counted = (x[enough] for x in targets)
  held = np.einsum("kthw,tlhw->ktl", inside, maps)
  leads = (held > held.max(axis=-1, keepdims=True) - TIE) & counted[..., None]  # [K, T, L]
  centres, rows = centroids(maps), []
  for k, (track, visible) in enumerate(zip(tracks, counted, strict=True)):
    path, away = track[visible], np.linalg.norm(centres[visible] - track[visible][:, None], axis=-1)
    latent = (held[k, visible][0] - TIE * away[0]).argmax()
    same, far = correlation(centres[visible], path), away.mean(axis=0)
    later = visible & (np.arange(len(visible)) > visible.argmax())
    others = np.delete(counted, k, axis=0) & later
    led = np.delete(leads[..., latent], k, axis=0) & later
    elsewhere = led.sum() / others.sum() if others.any() else np.nan
    stability = leads[k, later, latent].mean()
    rows.append((same[latent], same.mean(), stability, elsewhere, far[latent], far.mean()))
  return Binding(*np.array(rows, np.float64).reshape(-1, 6).T)


def join(found: Sequence[Binding]) -> Binding:
  """Returns the targets of several clips side by side."""
  return Binding(*(np.concatenate(column) for column in zip(*found, strict=True)))


def static_maps(num_ticks: int, grid: tuple[int, int]) -> Float[np.ndarray, "T L h w"]:
  """Returns the attention of latents that are the cells of a grid: fixed positions."""
  cells = np.eye(grid[0] * grid[1]).reshape(-1, *grid)
  return np.repeat(cells[None], num_ticks, axis=0)


def centroids(maps: Float[np.ndarray, "T L h w"]) -> Float[np.ndarray, "T L 2"]:
  """Returns the middle of each latent's attention, (x, y) in [0, 1]; (0.5, 0.5) if it has none."""
  height, width = maps.shape[2:]
  total = maps.sum(axis=(2, 3), dtype=np.float64)
  x = maps.sum(axis=2, dtype=np.float64) @ ((np.arange(width) + 0.5) / width)
  y = maps.sum(axis=3, dtype=np.float64) @ ((np.arange(height) + 0.5) / height)
  some = total > 1e-12
  middle = np.stack([x, y], axis=-1) / np.where(some, total, 1.0)[..., None]
  return np.where(some[..., None], middle, 0.5)


def correlation(
  centres: Float[np.ndarray, "T L 2"], track: Float[np.ndarray, "T 2"]
) -> Float[np.ndarray, " L"]:
  """Returns the Pearson correlation with a track, mean of the axes along which the track moves.

  A centroid that does not move has correlation 0; a track that does not, NaN.
  """
  moves = track.std(axis=0) > STILL
  if not moves.any():
    return np.full(centres.shape[1], np.nan)
  away, path = centres - centres.mean(axis=0), track - track.mean(axis=0)
  spread = centres.std(axis=0)
  both = np.einsum("tlc,tc->lc", away, path) / len(track)
  scale = np.where(spread > STILL, spread, np.inf) * np.where(moves, track.std(axis=0), np.inf)
  return (both / scale)[:, moves].mean(axis=1)


def _to_cells(masks: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """Returns the share of each cell's pixels that a mask covers."""
  shares = masks
  for axis, cells in ((2, grid[0]), (3, grid[1])):
    cell = np.arange(shares.shape[axis]) * cells // shares.shape[axis]
    member = cell[:, None] == np.arange(cells)
    shares = np.moveaxis(np.moveaxis(shares, axis, -1) @ (member / member.sum(axis=0)), -1, axis)
  return shares


__getattr__ = moved.renamed_names(
  __name__,
  {
    "things": "evaluation.probes.binding.objects",
  },
)
