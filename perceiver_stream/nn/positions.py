"""Position encodings, all computed from one coordinate function.

Positions run over [-1, 1] per axis, in the order (t, y, x) or (y, x). Tables are computed in
float64 by numpy when the positions are numpy arrays, and traced in float32 otherwise.
"""

from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

CONVENTIONS = ("centre", "inclusive", "left")


def index_to_position(index, size: int, convention: str = "centre"):
  """Returns the position in [-1, 1] of element `index` of `size` along one axis.

  The released models use three conventions and mix them (Perceiver IO encodes with one and decodes
  with another), so the convention is always explicit:

  * `"centre"`: -1 + (2i + 1)/n, the middle of cell i. Ours: independent of the resolution.
  * `"inclusive"`: -1 + 2i/(n - 1), both ends included. Perceiver inputs, MooG.
  * `"left"`: -1 + 2i/n. Perceiver IO's subsampled queries.

  >>> [float(index_to_position(3, 4, c)) for c in CONVENTIONS]
  [0.75, 1.0, 0.5]

  Raises:
    ValueError: The convention is unknown.
  """
  if convention == "centre":
    return (2 * index + 1) / size - 1
  if convention == "inclusive":
    return 2 * index / max(size - 1, 1) - 1
  if convention == "left":
    return 2 * index / size - 1
  raise ValueError(f"index_to_position: convention {convention!r} is not one of {CONVENTIONS}.")


def coordinates(shape: Sequence[int], convention: str = "centre", indices=None):
  """Returns positions of a grid's points, row-major, `[prod(shape), len(shape)]`.

  Args:
    shape: Grid size per axis, e.g. `(H, W)`.
    convention: See `index_to_position`.
    indices: Flat row-major indices of the requested points, `[Q]`; None: all points. Positions of a
      subset equal those of the full grid at the same indices. Numpy indices give float64 numpy
      positions; traced ones give float32.
  """
  flat = np.arange(int(np.prod(shape))) if indices is None else indices
  xp, dtype = (jnp, jnp.float32) if isinstance(flat, jax.Array) else (np, np.float64)
  unravelled = xp.unravel_index(flat, tuple(shape))
  axes = [
    index_to_position(i.astype(dtype), n, convention)
    for i, n in zip(unravelled, shape, strict=True)
  ]
  return xp.stack(axes, axis=-1)


def linspace_float32(start: float, stop: float, num: int) -> np.ndarray:
  """Returns `jnp.linspace(start, stop, num)` in float32, as a numpy array even during tracing.

  At thousands of cycles per axis the last bit of a position changes the features (audio features by
  1e-2), so released weights need the arithmetic that they were trained with.
  """
  with jax.ensure_compile_time_eval():
    return np.asarray(jnp.linspace(start, stop, num, dtype=jnp.float32))


def coordinates_float32(shape: Sequence[int]) -> np.ndarray:
  """Returns "inclusive" positions of a grid's points as released code rounds them, float32."""
  axes = np.meshgrid(*[linspace_float32(-1.0, 1.0, n) for n in shape], indexing="ij")
  return np.stack(axes, axis=-1).reshape(-1, len(shape))


def fourier_linear(
  positions,
  num_bands: int,
  max_resolution: Sequence[float] | Sequence[int],
  *,
  concat_pos: bool = True,
  sine_only: bool = False,
):
  """Returns Perceiver's Fourier features: linear bands up to half of each axis' resolution.

  Band k of axis a has frequency linspace(1, max_resolution[a] / 2, num_bands)[k]; the order is raw
  positions, all sines (axis-major), all cosines. Computed as (position × band) × π, the order in
  which float32 agrees with the released code.

  Args:
    positions: `[..., d]` in [-1, 1]; numpy or jax.
    num_bands: Bands per axis.
    max_resolution: Elements per axis, length d; half of it is the Nyquist frequency.
    concat_pos: If True, the raw positions come first.
    sine_only: If True, the cosines are left out.

  Returns:
    `[..., d * (1 + 2 * num_bands)]` (with all options), the array type of `positions`.

  Raises:
    ValueError: `max_resolution` does not have one entry per axis.

  Source: Jaegle et al. 2021, 2107.14795; deepmind-research, `perceiver/position_encoding.py`. The
  first paper describes the bands as logarithmic; the code, and this, spaces them linearly.
  """
  if positions.shape[-1] != len(max_resolution):
    raise ValueError(
      f"fourier_linear: positions {positions.shape} have {positions.shape[-1]} axes but "
      f"max_resolution {tuple(max_resolution)} has {len(max_resolution)}; give one per axis."
    )
  xp = np if isinstance(positions, np.ndarray) else jnp
  space = np.linspace if positions.dtype == np.float64 else linspace_float32
  bands = np.stack([space(1.0, r / 2, num_bands) for r in max_resolution])  # [d, bands]
  bands = bands.astype(positions.dtype).reshape((1,) * (positions.ndim - 1) + bands.shape)
  phases = positions[..., None] * bands
  phases = phases.reshape(*positions.shape[:-1], -1) * np.pi
  parts = [positions] if concat_pos else []
  parts += [xp.sin(phases)] if sine_only else [xp.sin(phases), xp.cos(phases)]
  return xp.concatenate(parts, axis=-1)


def fourier_octaves(positions, num_octaves: int):
  """Returns MooG's features: frequencies 1, 2, 4, …, sines, then sines a quarter period later.

  sin(concat[φ, φ + π/2]) with φ = concat over i of π 2ⁱ · position: `[..., 2 * d * num_octaves]`.
  At 20 octaves the highest phases are rounding noise in float32: pass numpy positions, so that the
  table is computed in float64.

  Source: representations4d, `moog/modules.py`.
  """
  xp = np if isinstance(positions, np.ndarray) else jnp
  phases = xp.concatenate([positions * (np.pi * 2.0**i) for i in range(num_octaves)], axis=-1)
  return xp.sin(xp.concatenate([phases, phases + np.pi / 2], axis=-1))


def sincos_1d(num: int, dim: int) -> np.ndarray:
  """Returns the fixed sine-cosine table of transformers and RVM, `[num, dim]`, float64.

  Channels 2k and 2k + 1 are the sine and the cosine of index × 10000^(-2k / dim). RVM
  numbers the patches of a frame row by row and uses this table instead of one for rows and columns.

  Raises:
    ValueError: `dim` is odd.
  """
  if dim % 2:
    raise ValueError(f"sincos_1d: width {dim} is odd; change the model width.")
  angles = np.arange(num)[:, None] / 10000 ** (2 * np.arange(dim // 2) / dim)
  return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(num, dim)


class LearnedPositions(hk.Module):
  """One learned vector per position, `[num, dim]`.

  Args:
    num: Number of positions.
    dim: Width.
    init_scale: Standard deviation of the initial values.
    start: Initial values instead of noise.
    name: Haiku name.
  """

  def __init__(
    self,
    num: int,
    dim: int,
    *,
    init_scale: float = 0.02,
    start: Float[np.ndarray, "N C"] | None = None,
    name: str,
  ):
    super().__init__(name=name)
    self.num = num
    self.dim = dim
    self.init_scale = init_scale
    self.start = start

  def __call__(self, batch_size: int | None = None) -> Float[Array, "..."]:
    """Returns the table, `[num, dim]`, or repeated for a batch, `[B, num, dim]`; float32."""
    init: hk.initializers.Initializer = hk.initializers.TruncatedNormal(stddev=self.init_scale)
    if self.start is not None:
      init = hk.initializers.Constant(self.start.astype(np.float32))
    table = hk.get_parameter("pos_embs", (self.num, self.dim), jnp.float32, init)
    if batch_size is None:
      return table
    return jax.lax.broadcast_in_dim(table, (batch_size, *table.shape), (1, 2))
