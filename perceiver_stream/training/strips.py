"""Film strips: what came in, what followed, and what was predicted, kept for the report."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from perceiver_stream.utils import atomic

FOLDER = "strips"
MIN_TICKS = 8  # shown in a strip; short windows are put together
MAX_STRIPS = 16  # kept; when there are more, every other one goes, so old times grow sparse

Errors = Mapping[str, Mapping[str, np.ndarray]]


class Piece(NamedTuple):
  """One window of a strip.

  Attributes:
    window: `[W, B, ...]` as it came in.
    predictions: By `"<output>@<displacement>"`, `[K, B, ...]`, for the last K ticks.
    errors: By `"<modality>@<displacement>"` and predictor, `[K, B]`.
  """

  window: Mapping[str, np.ndarray]
  predictions: Mapping[str, jax.Array]
  errors: Errors


class Strips:
  """Keeps a strip of at least `MIN_TICKS` ticks, every so many windows."""

  def __init__(self, run_dir: pathlib.Path, every: int, hop: int):
    """Makes a keeper of strips that end at windows number `every`, 2 * `every`, …; 0 is none."""
    self.folder, self.every = run_dir / FOLDER, every
    self.hop = hop
    self.num_windows = min(every, -(-MIN_TICKS // hop))
    self._pieces: list[Piece] = []

  def add(self, number: int, piece: Piece) -> None:
    """Takes in the next window, and writes a strip if one ends with it."""
    if not self.every or -number % self.every >= self.num_windows:
      return
    self._pieces.append(piece)
    if number % self.every == 0:
      save(self.folder / f"{number:08d}.npz", self._pieces, self.hop)
      self._pieces = []
      kept = sorted(self.folder.glob("*.npz"))
      for path in kept[-2::-2] if len(kept) > MAX_STRIPS else ():
        path.unlink()


def save(path: pathlib.Path, pieces: Sequence[Piece], hop: int) -> None:
  """Writes the first row of successive windows, whole or not at all.

  Arrays: `<modality>` `[T, ...]` as it came in; `<output>@<displacement>` `[K, ...]`, predictions
  for the last K ticks; `<modality>@<displacement>/<predictor>` `[K]`, their errors.
  """
  host = jax.device_get([piece.predictions for piece in pieces])
  if any(len(x) < hop for x in host[0].values()):  # not of every tick: only the last window's fit
    pieces, host = pieces[-1:], host[-1:]
  first, rest = pieces[0].window, [piece.window for piece in pieces[1:]]
  arrays = {n: np.concatenate([first[n], *(w[n][-hop:] for w in rest)])[:, 0] for n in first}
  arrays |= {n: np.concatenate([p[n] for p in host])[:, 0] for n in host[0]}
  for key, by_predictor in pieces[0].errors.items():
    for name in by_predictor:
      errors = [np.asarray(piece.errors[key][name]) for piece in pieces]
      arrays[f"{key}/{name}"] = np.concatenate(errors)[:, 0]
  path.parent.mkdir(exist_ok=True)
  with atomic.replacing(path) as part:
    np.savez_compressed(part, **arrays)  # type: ignore[arg-type]
