"""Trained weights that come with the package, under the names of their models."""

import pathlib

from perceiver_stream.utils.warn import warn

FOLDER = pathlib.Path(__file__).parents[1] / "weights"

# These names loaded weights of another architecture than they built; known until version 0.2.
RENAMED = {
  "moog/tiny": "moog/tiny_world",
  "stream_perceiver/tiny": "stream_perceiver/tiny_world",
}


class RenamedWarning(DeprecationWarning):
  """An old name was used; the next version does not know it."""


def names() -> list[str]:
  """Returns the names of the models whose weights are here, sorted."""
  return sorted(path.stem.replace(".", "/", 1) for path in FOLDER.glob("*.safetensors"))


def current(name: str) -> str:
  """Returns the name of today for an old name of bundled weights, with a warning; else the name."""
  if name not in RENAMED:
    return name
  warn(
    f"the weights of {name!r} are now called {RENAMED[name]!r}; the next version does not know the "
    f"old name.",
    RenamedWarning,
  )
  return RENAMED[name]


def path_of(name: str) -> pathlib.Path | None:
  """Returns the file of a model's weights; None if there are none."""
  return FOLDER / f"{name.replace('/', '.', 1)}.safetensors" if name in names() else None
