"""Reader for files of parameters in any of the known formats."""

import pathlib

from perceiver_stream.files import array_files, torch_files
from perceiver_stream.files.array_files import Flat


def read(path: pathlib.Path) -> tuple[Flat, dict[str, str]]:
  """Returns the arrays of a file by name, and the metadata of a .safetensors file.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It has an unknown format, or is damaged or hostile.
  """
  kind = array_files.kind_of(path)
  if kind == "safetensors":
    return array_files.read_safetensors(path)
  if kind == "torch":
    return torch_files.read_torch(path), {}
  flat = array_files.read_npz(path) if kind == "npz" else array_files.read_pickle(path)
  return array_files.unwrapped(flat), {}
