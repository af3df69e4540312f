"""Reader for files of `torch.save` without torch: arrays by name, and no code of the file runs.

Both formats are read: archives (torch 1.6 and newer), and the sequence of pickles before them, which
the oldest published weights still have. The pickles run on inert records (`pickles.Machine`), with a few
names of torch added; numbers and texts beside the arrays are left out. Arrays are views of the file in
memory that the system loads when they are used, so unused ones, such as those of an optimiser, cost
nothing.

Source: the formats as pytorch/pytorch, torch/serialization.py and torch/_utils.py, writes them.
"""

import math
import mmap
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from perceiver_stream.files import limits
from perceiver_stream.files.array_files import OLD_TORCH, DirectoryReader, Flat
from perceiver_stream.files.limits import RefusedError
from perceiver_stream.files.pickled_records import Builder, Name, Record
from perceiver_stream.files.pickles import MAX_LEAVES, NAMES, Machine

MAX_PICKLE_BYTES = 2**26  # names and shapes; of the largest published weights 1 MB
_HEADER = 30  # bytes of a member's own header in an archive, without name and extra field
_STORAGES = {
  "Float": "<f4",
  "Double": "<f8",
  "Half": "<f2",
  "BFloat16": "bfloat16",
  "Long": "<i8",
  "Int": "<i4",
  "Short": "<i2",
  "Char": "<i1",
  "Byte": "<u1",
  "Bool": "|b1",
  "ComplexFloat": "<c8",
  "ComplexDouble": "<c16",
}
_NAMES = {
  **NAMES,
  **{("torch", f"{name}Storage"): Name(f"storage {code}") for name, code in _STORAGES.items()},
  ("torch._utils", "_rebuild_tensor_v2"): Name("tensor"),
  ("torch._utils", "_rebuild_parameter"): Name("parameter"),
  ("torch", "Size"): Name("size"),
}

Storage = Callable[[str, int], memoryview]
"""`(key, bytes) -> the contents of a storage of so many bytes`."""


def read_torch(path: pathlib.Path) -> Flat:
  """Returns the arrays of a file of `torch.save`, keyed by path: keys joined by slashes.

  bfloat16 becomes float32. Arrays are read-only, and change if the file is changed.

  Raises:
    RefusedError: It asks for anything but dicts, lists, numbers, texts and dense arrays.
    ValueError: It is damaged, or has no array.
  """
  if path.stat().st_size == 0:
    raise ValueError(f"{path}: an empty file.")
  try:
    with path.open("rb") as file:
      whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    is_old = bytes(whole[: len(OLD_TORCH)]) == OLD_TORCH
    tree = _read_old(whole) if is_old else _read_archive(path, whole)
  except RefusedError as error:
    raise RefusedError(f"{path}: refused: {error}") from None
  except Exception as error:  # a damaged program can fail in any way
    raise ValueError(f"{path}: not a readable file of torch ({error!r}).") from error
  flat: Flat = {}
  _collect(flat, "", tree, 0)
  if not flat:
    raise ValueError(f"{path}: a file of torch without a single array.")
  return flat


def _collect(flat: Flat, path: str, node: Any, depth: int) -> None:
  """Adds the arrays of nested dicts, lists and tuples."""
  if isinstance(node, np.ndarray):
    flat[path] = node
  elif isinstance(node, Mapping | list | tuple) and depth < 16:
    items = node.items() if isinstance(node, Mapping) else enumerate(node)
    for key, value in items:
      _collect(flat, f"{path}/{key}" if path else str(key), value, depth + 1)
  if len(flat) > MAX_LEAVES:
    raise RefusedError(f"more than {MAX_LEAVES} arrays; this is not a parameter file.")


# --- the two formats --------------------------------------------------------------------------------


def _read_archive(path: pathlib.Path, whole: memoryview) -> Any:
  with DirectoryReader(path) as file, zipfile.ZipFile(file) as archive:
    members = {member.filename: member for member in archive.infolist()}
  [pickle_name] = [name for name in members if name.endswith("/data.pkl")]
  folder = pickle_name.removesuffix("data.pkl")
  order = members.get(f"{folder}byteorder")
  if order is not None and bytes(_contents(whole, order)) != b"little":
    raise RefusedError("its numbers are big-endian; only little-endian files are read.")
  program = _contents(whole, members[pickle_name])

  def storage(key: str, size: int) -> memoryview:
    member = members.get(f"{folder}data/{key}")
    if member is None:
      raise RefusedError(f"storage {key!r} is not in the archive.")
    found = _contents(whole, member)
    if zlib.crc32(found) != member.CRC:
      raise ValueError(f"storage {key!r} is damaged: its checksum differs")
    return found

  return _Tensors(storage, len(whole)).make(_machine(program).run())


def _contents(whole: memoryview, member: zipfile.ZipInfo) -> memoryview:
  """Returns the bytes of a member, which torch never compresses."""
  if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
    raise RefusedError(f"{member.filename!r} is compressed or encrypted, as torch writes none.")
  header = whole[member.header_offset : member.header_offset + _HEADER]
  lengths = (int.from_bytes(header[i : i + 2], "little") for i in (26, 28))  # of name, extra field
  start = member.header_offset + _HEADER + sum(lengths)
  found = whole[start : start + member.file_size]
  if len(header) != _HEADER or len(found) != member.file_size:
    raise ValueError(f"{member.filename!r} is cut off")
  return found


def _read_old(whole: memoryview) -> Any:
  """Returns the contents of the old format: pickles, then storages in the order of a list of keys."""
  at, programs = 0, []
  for _ in range(5):  # a number, a version, the machine, the object, the keys of its storages
    machine = _machine(whole[at : at + MAX_PICKLE_BYTES])
    programs.append((machine, machine.run()))
    at += machine.position
  version, machine_info = (Builder(0).make(record) for _, record in programs[1:3])
  if version != 1001 or machine_info.get("little_endian") is not True:
    raise RefusedError(f"version {version} of {machine_info}; 1001 and little-endian are read.")
  places: dict[str, int] = {}
  sizes = programs[3][0].storages
  for key in Builder(0).make(programs[4][1]):
    places[key] = at + 8  # after the number of values
    at = places[key] + sizes.get(key, 0)

  def storage(key: str, size: int) -> memoryview:
    if key not in places:
      raise RefusedError(f"storage {key!r} is not in the file.")
    return whole[places[key] : places[key] + size]

  return _Tensors(storage, len(whole)).make(programs[3][1])


def _machine(program: memoryview) -> "_TorchMachine":
  if len(program) > MAX_PICKLE_BYTES:
    raise RefusedError(f"its pickle has {len(program)} bytes; at most {MAX_PICKLE_BYTES} are read.")
  return _TorchMachine(program)


# --- records ----------------------------------------------------------------------------------------


class _TorchMachine(Machine):
  """Runs a pickle of torch, which names storages by persistent ids.

  Attributes:
    storages: Bytes of each storage named so far, by key.
  """

  def __init__(self, data: memoryview):
    super().__init__(data, _NAMES)
    self.storages: dict[str, int] = {}

  def persistent(self, _: memoryview) -> None:
    """Pushes the storage that the tuple on the stack describes."""
    [record] = self._pop(1)
    values = record.values if isinstance(record, Record) and record.kind == "tuple" else []
    what, kind, key, _, size, *view = [*values, *[None] * 5][: max(len(values), 5)]
    is_storage = isinstance(kind, Name) and kind.role.startswith("storage ")
    if what != "storage" or not is_storage or not isinstance(key, str) or any(view):
      raise RefusedError("a persistent id that is no storage.")
    if type(size) is not int or size < 0:
      raise RefusedError(f"storage {key!r} of {size} values.")
    found = Record("storage")
    found.add([kind, key, size])
    self.storages[key] = size * _dtype(kind).itemsize
    self._stack.append(found)

  def reduce(self, argument: memoryview) -> None:
    """Records a call; those of torch make tensors and sizes."""
    name, arguments = self._stack[-2:] if len(self._stack) >= 2 else (None, None)
    role = name.role if isinstance(name, Name) else ""
    if role not in ("tensor", "parameter", "size"):
      super().reduce(argument)
      return
    _, arguments = self._pop(2)
    if not isinstance(arguments, Record) or arguments.kind != "tuple" or not arguments.values:
      raise RefusedError(f"a {role} without arguments.")
    if role == "tensor":
      found = Record("tensor")
      found.add(arguments.values[:4])
      self._stack.append(found)
    else:  # of a parameter the first argument is its tensor, of a size its tuple
      self._stack.append(arguments.values[0])

  def build(self, argument: memoryview) -> None:
    """Records a state; that of a dict, such as versions of modules, is left out."""
    below = self._stack[-2] if len(self._stack) >= 2 else None
    if isinstance(below, Record) and below.kind == "dict":
      self._pop(1)
    else:
      super().build(argument)


class _Tensors(Builder):
  """Builds dicts, lists and arrays; tensors are views of their storages."""

  def __init__(self, storage: Storage, num_bytes: int):
    super().__init__(num_bytes)
    self._storage, self._storages = storage, dict[str, memoryview]()
    self._most = limits.max_unpacked_bytes(num_bytes)

  def make(self, record: Any) -> Any:
    """Returns the container or array of a record; see `Builder.make`."""
    if isinstance(record, Record) and record.kind == "tensor":
      return self._tensor(*record.values)
    return super().make(record)

  def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> np.ndarray:
    if not isinstance(storage, Record) or storage.kind != "storage":
      raise RefusedError("a tensor without a storage.")
    kind, key, count = storage.values
    shape, strides = _numbers(size), _numbers(stride)
    if type(offset) is not int or offset < 0 or len(shape) != len(strides):
      raise RefusedError(f"a tensor of shape {shape} with strides {strides} from {offset!r}.")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 in shape:
      return np.zeros(shape, _dtype(kind))
    if last >= count or math.prod(shape) > count:
      raise RefusedError(
        f"a tensor of shape {shape} with strides {strides} from {offset}, in {count} values."
      )
    dtype = _dtype(kind)
    self._most -= math.prod(shape) * dtype.itemsize
    if self._most < 0:
      raise RefusedError("its tensors together are several times as large as the file.")
    flat = np.frombuffer(self._bytes_of(key, count * dtype.itemsize), dtype, count)[offset:]
    view = np.lib.stride_tricks.as_strided(
      flat, shape, [step * dtype.itemsize for step in strides], writeable=False
    )
    if kind.role.endswith("bfloat16"):  # the upper half of a float32
      return (view.astype(np.uint32) << 16).view(np.float32)
    return view

  def _bytes_of(self, key: str, size: int) -> memoryview:
    if key not in self._storages:
      self._storages[key] = self._storage(key, size)
    found = self._storages[key]
    if len(found) < size:
      raise ValueError(f"storage {key!r} has {len(found)} bytes; {size} are needed")
    return found


def _numbers(record: Any) -> Sequence[int]:
  is_tuple = isinstance(record, Record) and record.kind == "tuple"
  values: list[Any] = record.values if is_tuple else [None]
  if len(values) > 32 or not all(type(n) is int and n >= 0 for n in values):
    raise RefusedError("a tensor whose shape is no tuple of numbers.")
  return tuple(values)


def _dtype(kind: Name) -> np.dtype:
  code = kind.role.removeprefix("storage ")
  return np.dtype("<u2" if code == "bfloat16" else code)
