"""The message about a data set that is missing."""

import pathlib
from typing import NamedTuple


class About(NamedTuple):
  """The message about a data set that is missing.

  Attributes:
    name: Of the data set.
    source: Where it can be obtained.
    layout: The layout of its folder.
  """

  name: str
  source: str
  layout: str

  def need(self, path: pathlib.Path) -> pathlib.Path:
    """Returns an existing path; FileNotFoundError names the source and the layout."""
    if path.exists():
      return path
    raise FileNotFoundError(
      f"{self.name}: there is no {path}. It is not fetched for you: get it from {self.source}, and "
      f"give the folder with this layout:\n{self.layout}"
    )
