"""Arrays out of files that may be hostile: nothing is executed, nothing is claimed unread."""

import math
import pathlib
import zipfile

import numpy as np
from safetensors import SafetensorError, safe_open

from perceiver_stream.zoo.pickles import flat_arrays, load_pickle

MOST_BYTES = 16 * 2**30  # the largest published file has 3 GB
_HEADERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}

Flat = dict[str, np.ndarray]


def kind_of(path: pathlib.Path) -> str:
  """Returns "npz", "safetensors" or "pickle" by a file's first bytes, whatever its name.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It is none of the three, or larger than `MOST_BYTES`.
  """
  if not path.is_file():
    raise FileNotFoundError(f"{path}: there is no such file.")
  if path.stat().st_size > MOST_BYTES:
    raise ValueError(f"{path}: {path.stat().st_size} bytes is more than {MOST_BYTES} may be.")
  with path.open("rb") as file:
    start = file.read(9)
  if start[:4] == b"PK\x03\x04":
    return "npz"
  if start[8:] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= path.stat().st_size:
    return "safetensors"
  if start[:1] == b"\x80":
    return "pickle"
  raise ValueError(
    f"{path}: not a file of parameters: it starts with {start!r}; known are .npz, .safetensors and "
    f"pickles of numpy arrays."
  )


def read_npz(path: pathlib.Path, kinds: str = "biufc") -> Flat:
  """Returns the arrays of an .npz file.

  Sizes are checked against what the file says and holds before anything is unpacked.

  Args:
    path: Of the file.
    kinds: Of numpy's dtypes that are read: numbers; "S" is byte strings.

  Raises:
    ValueError: An array has objects, or a size that does not fit; or the file is damaged.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      return _read_members(archive, path, kinds)
  except (zipfile.BadZipFile, EOFError, OSError) as error:
    raise ValueError(f"{path}: damaged .npz file ({error}).") from error


def _read_members(archive: zipfile.ZipFile, path: pathlib.Path, kinds: str) -> Flat:
  members = archive.infolist()
  total = sum(member.file_size for member in members)
  budget = min(MOST_BYTES, max(2**26, 32 * path.stat().st_size))
  if total > budget:
    raise ValueError(
      f"{path}: refused: {path.stat().st_size} bytes claim to unpack to {total}, more than "
      f"{budget}; parameters do not compress like that."
    )
  flat: Flat = {}
  for member in members:
    name = member.filename.removesuffix(".npy")
    if name in flat:
      raise ValueError(f"{path}: array '{name}' is there twice.")
    flat[name] = _read_member(archive, member, f"{path}: array '{name}'", kinds)
  return flat


def _read_member(
  archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str, kinds: str
) -> np.ndarray:
  with archive.open(member) as file:
    try:
      version = np.lib.format.read_magic(file)
      shape, fortran, dtype = _HEADERS[version](file)
    except (ValueError, KeyError) as error:
      raise ValueError(f"{what} has no readable header ({error}).") from error
    if dtype.hasobject or dtype.kind not in kinds:
      raise ValueError(f"{what} refused: its dtype is {dtype}; only numbers are read.")
    size = math.prod(shape) * dtype.itemsize  # Python integers do not overflow
    if min(shape, default=0) < 0 or size != member.file_size - file.tell():
      raise ValueError(
        f"{what} refused: shape {shape} of {dtype} needs {size} bytes, the file has "
        f"{member.file_size - file.tell()}."
      )
    data = file.read(size)
  return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def read_safetensors(path: pathlib.Path) -> tuple[Flat, dict[str, str]]:
  """Returns the arrays and the metadata of a .safetensors file.

  Raises:
    ValueError: The file is damaged or has arrays that are not numbers.
  """
  try:
    with safe_open(path, framework="numpy") as file:
      return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
  except (SafetensorError, TypeError, KeyError) as error:
    raise ValueError(f"{path}: damaged .safetensors file ({error}).") from error


def read_pickle(path: pathlib.Path) -> Flat:
  """Returns the arrays of a pickle by path; see `pickles`.

  Raises:
    ValueError: It asks for anything but containers and arrays.
  """
  return flat_arrays(load_pickle(path.read_bytes(), str(path)), str(path))
