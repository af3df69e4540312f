"""Trained weights bundled with the package, by the names of their models."""

import pathlib

from perceiver_stream.utils.warn import warn

FOLDER = pathlib.Path(__file__).parents[1] / "weights"

# Weights under these names did not match the architecture that the name builds; removed in 0.2.
RENAMED = {
  "moog/tiny": "moog/tiny_world",
  "stream_perceiver/tiny": "stream_perceiver/tiny_world",
}


class RenamedWarning(DeprecationWarning):
  """Warning about an old name, which the next version removes."""


def names() -> list[str]:
  """Returns the names of the models with bundled weights, sorted."""
  return sorted(path.stem.replace(".", "/", 1) for path in FOLDER.glob("*.safetensors"))


def current(name: str) -> str:
  """Returns the current name of bundled weights; an old name gives a warning."""
  if name not in RENAMED:
    return name
  warn(
    f"the weights of {name!r} are now called {RENAMED[name]!r}; the next version removes the old "
    f"name.",
    RenamedWarning,
  )
  return RENAMED[name]


def path_of(name: str) -> pathlib.Path | None:
  """Returns the weights file of a model; None if there is none."""
  return FOLDER / f"{name.replace('/', '.', 1)}.safetensors" if name in names() else None
