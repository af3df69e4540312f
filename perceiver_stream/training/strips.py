"""Film strips: what came in, what followed, and what was predicted, kept for the report."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

FOLDER = "strips"


def save(
  run_dir: pathlib.Path,
  number: int,
  window: Mapping[str, np.ndarray],
  predictions: Mapping[str, np.ndarray],
  errors: Mapping[str, Mapping[str, np.ndarray]],
) -> pathlib.Path:
  """Writes the first row of a window to `strips/<number>.npz`, whole or not at all.

  Arrays: `<modality>` `[W, ...]` as it came in; `<output>@<displacement>` `[K, ...]`, predictions
  for the last K ticks; `<modality>@<displacement>/<predictor>` `[K]`, their errors.
  """
  arrays = {name: np.asarray(value)[:, 0] for name, value in window.items()}
  arrays |= {name: np.asarray(value)[:, 0] for name, value in predictions.items()}
  for key, by_predictor in errors.items():
    arrays |= {f"{key}/{name}": np.asarray(v)[:, 0] for name, v in by_predictor.items()}
  folder = run_dir / FOLDER
  folder.mkdir(exist_ok=True)
  path, part = folder / f"{number:08d}.npz", folder / f"{number:08d}.part"
  with part.open("wb") as file:
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
  os.replace(part, path)
  return path
