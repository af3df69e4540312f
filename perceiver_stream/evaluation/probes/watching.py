"""Attention of a frozen model over a clip, and feature maps made from it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree, UInt8

from perceiver_stream.evaluation.attention import attention_maps
from perceiver_stream.models import rvm
from perceiver_stream.models.base import Model
from perceiver_stream.types import IS_FIRST
from perceiver_stream.utils import moved

Video = UInt8[np.ndarray, "T H W 3"]
# From a video to a map of features of each frame, of unit length.
Features = Callable[[Video], Float[np.ndarray, "T h w C"]]


class Watched(NamedTuple):
  """`models.attention.Attended` of one clip; `owns` latent by latent, as `reads` is."""

  reads: Float[np.ndarray, "T L h w"]
  owns: Float[np.ndarray, "T L y x"]
  latents: Float[np.ndarray, "T L D"]


def watch(
  model: Model, params: PyTree, frames: Video, grid: tuple[int, int] = (16, 16), *, hold: int = 0
) -> Watched:
  """Returns the latents' attention over each frame, from the initial state.

  Args:
    model: Recurrent, of pixels of the frames' size.
    params: Of the model.
    frames: One clip.
    grid: Of `owns`.
    hold: Ticks for which the first frame is shown before; they are left out of the result.

  Raises:
    ValueError: The model does not fit the frames, or carries no latents.
  """
  shown = np.concatenate([np.repeat(frames[:1], hold, axis=0), frames])[:, None]
  start = np.arange(len(shown))[:, None] == 0
  state = model.initial_state(params, 1, jax.random.key(0))
  observations = {"pixels": jnp.asarray(shown), IS_FIRST: jnp.asarray(start)}
  attended, _ = attention_maps(model, params, state, observations, grid)
  reads, owns, latents = (np.asarray(x[hold:, 0], np.float32) for x in attended)
  return Watched(reads, np.moveaxis(owns, -1, 1), latents)


def features(
  model: Model, params: PyTree, grid: tuple[int, int] = (16, 16), *, hold: int = 0
) -> Features:
  """Returns the feature maps of a model.

  RVM's latents are on its grid of patches, so they are the map (without CLS), whatever `grid` is.
  Latents without a position are decoded to a grid: each cell gets the mean of the latents weighted by how
  much of it they own.
  """
  on_grid = model.config.grid() if isinstance(model.config, rvm.Config) else None

  def of(frames: Video) -> np.ndarray:
    watched = watch(model, params, frames, grid, hold=hold)
    if on_grid:
      return unit(watched.latents[:, 1:].reshape(len(frames), *on_grid, -1))
    return unit(np.einsum("tlyx,tld->tyxd", watched.owns, watched.latents))

  return of


def raw_patches(grid: tuple[int, int] = (16, 16), overlap: float = 1.5) -> Features:
  """Returns features that are nothing but the pixels around each cell's middle.

  Args:
    grid: Cells; the frames must be a multiple of it.
    overlap: Side of a patch over the side of a cell; 1.5 makes 12×12 patches of cells of 8×8.
  """

  def of(frames: Video) -> np.ndarray:
    size = np.array(frames.shape[1:3])
    cell = size // grid
    if np.any(cell * grid != size):
      raise ValueError(
        f"raw_patches: frames {size.tolist()} are not a whole number of {list(grid)} cells; resize "
        f"them or choose another grid."
      )
    margin = np.round(cell * (overlap - 1) / 2).astype(int)
    (up, left), side = margin, cell + 2 * margin
    padded = np.pad(frames, ((0, 0), (up, up), (left, left), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(side), axis=(1, 2))
    patches = windows[:, :: cell[0], :: cell[1]].astype(np.float32) / 127.5 - 1
    return unit(patches.reshape(*patches.shape[:3], -1))

  return of


def latent_diversity(latents: Float[np.ndarray, "T L D"]) -> Float[np.ndarray, " T"]:
  """Returns the diversity of latents at each tick: their variance as a share of their mean square.

  0 is an array whose latents are all one vector: none of them can represent an object or position.
  """
  return latents.var(axis=1).mean(axis=-1) / np.maximum(np.square(latents).mean(axis=(1, 2)), 1e-12)


def unit(x: Float[np.ndarray, "*n C"]) -> Float[np.ndarray, "*n C"]:
  """Returns vectors of length 1."""
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


__getattr__ = moved.renamed_names(
  __name__,
  {
    "apart": "evaluation.probes.watching.latent_diversity",
  },
)
