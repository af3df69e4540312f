"""Arrays from untrusted files: no code runs, and sizes are checked before memory is taken."""

import io
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from perceiver_stream.files import limits
from perceiver_stream.files.limits import RefusedError
from perceiver_stream.files.pickles import MAX_LEAVES, flat_arrays, load_pickle
from perceiver_stream.utils import atomic
from perceiver_stream.utils.paths import user_path

MAX_HEADER_BYTES = 2**22  # names, shapes and configs of a .safetensors file; directory of an .npz
OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled number: torch before 1.6
_ZIP_NAME = 30  # byte of an archive where the name of its first member starts
_CHUNK = 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # numpy's; others need more memory
_HEADERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}

Flat = dict[str, np.ndarray]


def kind_of(path: pathlib.Path) -> str:
  """Returns "npz", "safetensors", "torch" or "pickle" from a file's first bytes; its name is ignored.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It has another format, or more than `limits.MAX_FILE_BYTES`.
  """
  if not path.is_file():
    raise FileNotFoundError(f"{path}: there is no such file.")
  size = path.stat().st_size
  if size > limits.MAX_FILE_BYTES:
    raise ValueError(f"{path}: {size} bytes is more than {limits.MAX_FILE_BYTES} may be.")
  with path.open("rb") as file:
    start = file.read(_ZIP_NAME + 256)
  if start[:4] == b"PK\x03\x04":
    length = int.from_bytes(start[26:28], "little")  # of the name of the first member
    return "torch" if start[_ZIP_NAME : _ZIP_NAME + length].endswith(b"/data.pkl") else "npz"
  if start.startswith(OLD_TORCH):
    return "torch"
  if start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= size:
    return "safetensors"
  if start[:1] == b"\x80" or start.startswith(np.lib.format.MAGIC_PREFIX):
    return "pickle"
  raise ValueError(
    f"{path}: not a file of parameters: it starts with {start[:9]!r}; known are .npz, .safetensors, "
    f"files of torch.save and pickles of numpy arrays."
  )


def read_npz(
  path: str | pathlib.Path, kinds: str = "biufc", names: Collection[str] | None = None
) -> Flat:
  """Returns the arrays of an .npz file.

  Declared sizes are checked against the size of the file before anything is unpacked.

  Args:
    path: File to read.
    kinds: Kinds of numpy dtypes to read: numbers; "S" adds byte strings, "U" adds texts.
    names: Arrays to read; missing ones are skipped. None reads all.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: An array holds objects, an array's size does not fit, or the file is damaged.
  """
  path = user_path(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path}: there is no such file.")
  try:
    with DirectoryReader(path) as file, zipfile.ZipFile(file) as archive:
      file.limit = -1
      return _read_members(archive, path, kinds, names)
  except RefusedError:
    raise
  except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
    raise ValueError(f"{path}: damaged .npz file ({error}).") from error
  except (TypeError, KeyError, UnicodeError, OverflowError) as error:  # the directory is damaged
    raise ValueError(f"{path}: damaged .npz file ({error!r}).") from error


class DirectoryReader(io.FileIO):
  """A file that refuses to read much at once until its directory has been read.

  Python's zipfile allocates 500 bytes of objects for each 46 bytes of a directory.
  """

  limit = MAX_HEADER_BYTES

  def read(self, size: int | None = -1, /) -> bytes:
    """Returns the next bytes; raises RefusedError for more than the limit."""
    if self.limit > 0:
      left = os.fstat(self.fileno()).st_size - self.tell()
      size = left if size is None or size < 0 else size
      if size > self.limit:
        raise RefusedError(f"{self.name}: refused: its directory has {size} bytes.")
    return super().read(size)


def _read_members(
  archive: zipfile.ZipFile, path: pathlib.Path, kinds: str, names: Collection[str] | None
) -> Flat:
  members = archive.infolist()
  total, size = sum(member.file_size for member in members), path.stat().st_size
  budget = limits.max_unpacked_bytes(size)
  if total > budget:
    raise RefusedError(
      f"{path}: refused: {size} bytes claim to unpack to {total}, more than {budget}; parameters "
      f"do not compress like that."
    )
  flat: Flat = {}
  for member in members:
    name = member.filename.removesuffix(".npy")
    if name in flat:
      raise ValueError(f"{path}: array '{name}' is there twice.")
    if names is None or name in names:
      flat[name] = _read_member(archive, member, f"{path}: array '{name}'", kinds)
  return flat


def _read_member(
  archive: zipfile.ZipFile, member: zipfile.ZipInfo, what: str, kinds: str
) -> np.ndarray:
  if member.compress_type not in _METHODS or member.flag_bits & 1:
    raise RefusedError(f"{what} refused: it is encrypted, or packed as numpy packs none.")
  with archive.open(member) as file:
    shape, fortran, dtype = _read_header(file, what)
    if dtype.hasobject or dtype.kind not in kinds or not dtype.itemsize:
      raise RefusedError(f"{what} refused: its dtype is {dtype}; only numbers are read.")
    if not all(type(n) is int and n >= 0 for n in shape):
      raise RefusedError(f"{what} refused: its shape is {shape}.")
    size = math.prod(shape) * dtype.itemsize  # Python integers do not overflow
    if size != member.file_size - file.tell():
      raise RefusedError(
        f"{what} refused: shape {shape} of {dtype} needs {size} bytes, the file has "
        f"{member.file_size - file.tell()}."
      )
    data = bytearray(size)
    for start in range(0, size, _CHUNK):
      part = file.read(min(_CHUNK, size - start))
      if len(part) != min(_CHUNK, size - start):
        raise ValueError(f"{what} is cut off after {start + len(part)} bytes.")
      data[start : start + len(part)] = part
  if not size:
    return np.empty(shape, dtype)
  return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _read_header(file: Any, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
  try:
    version = np.lib.format.read_magic(file)
    return _HEADERS[version](file)
  except (ValueError, KeyError, TypeError, MemoryError, RecursionError) as error:
    raise ValueError(f"{what} has no readable header ({error}).") from error


def read_safetensors(path: pathlib.Path) -> tuple[Flat, dict[str, str]]:
  """Returns the arrays and the metadata of a .safetensors file.

  Raises:
    ValueError: The file is damaged, or has non-numeric arrays or too many arrays.
  """
  with path.open("rb") as file:
    header = int.from_bytes(file.read(8), "little")
  if header > MAX_HEADER_BYTES:
    raise RefusedError(f"{path}: refused: its header has {header} bytes.")
  try:
    with safe_open(path, framework="numpy") as file:
      names = list(file.keys())
      if len(names) > MAX_LEAVES:
        raise RefusedError(f"{path}: refused: {len(names)} arrays; this is not a parameter file.")
      return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
  except (SafetensorError, TypeError, KeyError) as error:
    raise ValueError(f"{path}: damaged .safetensors file ({error}).") from error


def write_safetensors(
  path: str | pathlib.Path, arrays: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
  """Writes arrays, by name, and texts into one file, complete or not at all.

  Numbers keep their shape, `()`.
  """
  flat = {name: np.asarray(value, order="C") for name, value in arrays.items()}
  with atomic.replacing(path) as part:
    save_file(flat, part, dict(metadata))


def read_pickle(path: pathlib.Path) -> Flat:
  """Returns the arrays of a pickle, keyed by path; see `pickles`.

  The pickle may stand in a `.npy` file, as `np.save` writes a dict. Of a dict with `params` only this
  and `state` are read.

  Raises:
    ValueError: It contains anything but containers and arrays.
  """
  data, source = limits.read_bytes(path), str(path)
  if data.startswith(np.lib.format.MAGIC_PREFIX):
    file = io.BytesIO(data)
    shape, _, dtype = _read_header(file, source)
    if not dtype.hasobject or shape:
      raise ValueError(f"{source}: an array {shape} of {dtype}; expected a dict of parameters.")
    data = data[file.tell() :]
  tree = load_pickle(data, source)
  if isinstance(tree, Mapping) and "params" in tree:
    tree = {name: tree[name] for name in ("params", "state") if name in tree}
  return flat_arrays(tree, source)


def unwrapped(flat: Flat) -> Flat:
  """Returns arrays without the prefixes "params" and "state" of some checkpoints."""
  if not any(name.startswith("params/") for name in flat):
    return flat
  wrapped = ("params/", "state/")
  return {name.split("/", 1)[1]: value for name, value in flat.items() if name.startswith(wrapped)}
