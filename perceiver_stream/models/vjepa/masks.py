"""Masks of V-JEPA: unions of 3-D blocks, drawn as the released code draws them, without torch.

Each set of masks has a counter of its calls. The size of a call's blocks comes from a generator that
is seeded with the counter, so that it is the same in all processes; their places come from one stream
that all sets share. `MaskSampler` gives the released masks number by number. In jitted training
`draw_masks` draws from the same distribution by JAX's random numbers, as boolean arrays.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from perceiver_stream.models.vjepa.config import MaskConfig

Grid = tuple[int, int, int]
Block = tuple[int, int, int]


class Masks(NamedTuple):
  """Places of a batch: row-major indices of tubelets, ascending.

  Attributes:
    context: Tubelets that the encoder is given.
    target: Tubelets whose features are predicted.
  """

  context: Int[np.ndarray, "B K"]
  target: Int[np.ndarray, "B M"]


def words(seed: int) -> Callable[[], int]:
  """Returns a function that returns the 32-bit words of the Mersenne twister, one by one."""
  generator = np.random.RandomState(seed)._bit_generator
  return lambda: int(generator.random_raw())


def block_size(config: MaskConfig, grid: Grid, step: int) -> Block:
  """Returns the blocks' extent over time, rows and columns in call number `step`, from 0."""
  word = words(step)
  uniform = [(word() & 0xFFFFFF) / 2**24 for _ in range(3)]
  ranges = (config.temporal_scale, config.spatial_scale, config.aspect_ratio)
  return extent(
    grid, *(low + u * (high - low) for u, (low, high) in zip(uniform, ranges, strict=True))
  )


def extent(grid: Grid, temporal: float, spatial: float, aspect: float) -> Block:
  """Returns the extent of a block of given shares; halves are rounded to even."""
  time, rows, columns = grid
  patches = int(rows * columns * spatial)
  height, width = round(math.sqrt(patches * aspect)), round(math.sqrt(patches / aspect))
  return max(1, int(time * temporal)), min(height, rows), min(width, columns)


def largest_block(config: MaskConfig, grid: Grid) -> Block:
  """Returns the extent of the largest block of a set, as square as it may be."""
  aspect = min(max(1.0, config.aspect_ratio[0]), config.aspect_ratio[1])
  return extent(grid, config.temporal_scale[1], config.spatial_scale[1], aspect)


class MaskSampler:
  """The released masks of successive batches.

  Args:
    configs: Sets of masks.
    grid: Tubelets over time, rows and columns.
    seed: Of the stream of places, torch's global generator in the release.
    step: Number of the first batch.
  """

  def __init__(self, configs: Sequence[MaskConfig], grid: Grid, seed: int, step: int = 0):
    self.configs, self.grid, self.step = configs, grid, step
    self._word = words(seed)

  def __call__(self, batch_size: int) -> list[Masks]:
    """Returns the masks of the next batch, one for each set.

    All rows of a set have as many places as the row with the fewest: the last ones in time are
    dropped.
    """
    found = [self._one(config, batch_size) for config in self.configs]
    self.step += 1
    return found

  def _one(self, config: MaskConfig, batch_size: int) -> Masks:
    size, every = block_size(config, self.grid, self.step), np.arange(math.prod(self.grid))
    visible = [self._row(config, size) for _ in range(batch_size)]
    context, target = _cut([every[v] for v in visible]), _cut([every[~v] for v in visible])
    context = context[:, : config.max_keep] if config.max_keep else context
    if config.complement == "full":
      target = np.stack([np.setdiff1d(every, row) for row in context])
    elif config.complement == "target":
      context = np.stack([np.setdiff1d(every, row) for row in target])
    return Masks(target, context) if config.inverted else Masks(context, target)

  def _row(self, config: MaskConfig, size: Block) -> Bool[np.ndarray, " N"]:
    """Returns True for the visible tubelets of one sample, of which there is at least one."""
    t, h, w = size
    time, rows, columns = self.grid
    keep = max(1, int(time * config.max_temporal_keep))
    while True:
      visible = np.ones(self.grid, bool)
      visible[keep:] = False
      for _ in range(config.num_blocks):
        top, left = self._word() % (rows - h + 1), self._word() % (columns - w + 1)
        start = self._word() % (time - t + 1)
        visible[start : start + t, top : top + h, left : left + w] = False
      if visible.any():
        return visible.reshape(-1)


def _cut(rows: list[np.ndarray]) -> Int[np.ndarray, "B K"]:
  least = min(len(row) for row in rows)
  return np.stack([row[:least] for row in rows])


def draw_masks(
  rng: Array, config: MaskConfig, grid: Grid, batch_size: int
) -> tuple[Bool[Array, "B N"], Bool[Array, "B N"]]:
  """Returns visible and hidden tubelets of a batch, with static shapes, for use inside `jit`.

  As `MaskSampler`, with two differences: no place is dropped to make rows equally long, and a row
  whose blocks hide everything keeps the first tubelet instead of being drawn again.
  """
  time, rows, columns = grid
  size_key, place_key = jax.random.split(rng)
  ranges = (config.temporal_scale, config.spatial_scale, config.aspect_ratio)
  uniform = jax.random.uniform(size_key, (3,))
  t, s, a = (low + uniform[i] * (high - low) for i, (low, high) in enumerate(ranges))
  patches = jnp.floor(rows * columns * s + 1e-4)
  h = jnp.minimum(jnp.round(jnp.sqrt(patches * a)), rows).astype(jnp.int32)
  w = jnp.minimum(jnp.round(jnp.sqrt(patches / a)), columns).astype(jnp.int32)
  d = jnp.maximum(jnp.floor(time * t + 1e-4), 1).astype(jnp.int32)
  size, whole = jnp.stack([d, h, w]), jnp.array(grid, jnp.int32)
  shape = (batch_size, config.num_blocks, 3)
  span = jnp.broadcast_to((whole - size + 1)[None, None], shape)
  start = jnp.floor(jax.random.uniform(place_key, shape) * span.astype(jnp.float32))
  start = jnp.minimum(start.astype(jnp.int32), span - 1)
  places = jnp.asarray(np.indices(grid).reshape(3, -1).T, jnp.int32)  # [N, 3]
  first, last = start[:, :, None], (start + size[None, None])[:, :, None]
  inside = (places[None, None] >= first) & (places[None, None] < last)
  covered = jnp.any(jnp.all(inside, axis=-1), axis=1)
  keep = max(1, int(time * config.max_temporal_keep))
  visible = ~covered & (places[:, 0] < keep)[None]
  empty = ~jnp.any(visible, axis=1, keepdims=True)
  visible = visible | (empty & (jnp.arange(len(places)) == 0)[None])
  hidden = ~visible
  if config.max_keep and config.complement != "target":
    visible = visible & (jnp.cumsum(visible, axis=1) <= config.max_keep)
    hidden = ~visible if config.complement == "full" else hidden
  return (hidden, visible) if config.inverted else (visible, hidden)
