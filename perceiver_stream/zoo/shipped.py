"""Weights that come with the package, by the name of their model."""

import pathlib

FOLDER = pathlib.Path(__file__).parents[1] / "weights"


def names() -> list[str]:
  """Returns the names of the models whose weights are here, sorted."""
  return sorted(path.stem.replace(".", "/", 1) for path in FOLDER.glob("*.safetensors"))


def path_of(name: str) -> pathlib.Path | None:
  """Returns the file of a model's weights; None if there are none."""
  return FOLDER / f"{name.replace('/', '.', 1)}.safetensors" if name in names() else None
