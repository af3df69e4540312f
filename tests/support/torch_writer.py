"""Files as `torch.save` writes them, without torch: placeholders stand in for its classes while pickling."""

import collections
import io
import pickle
import sys
import types
import zipfile
from unittest import mock

import numpy as np

STORAGES = {
  np.dtype("f4"): "FloatStorage",
  np.dtype("f8"): "DoubleStorage",
  np.dtype("f2"): "HalfStorage",
  np.dtype("i8"): "LongStorage",
  np.dtype("i4"): "IntStorage",
  np.dtype("u1"): "ByteStorage",
  np.dtype("b1"): "BoolStorage",
  np.dtype("u2"): "BFloat16Storage",  # numpy has no bfloat16: the bits
}


def _rebuild_tensor_v2():
  """Stands for torch's function; never called."""


def _rebuild_parameter():
  """Stands for torch's function; never called."""


def _modules() -> dict[str, types.ModuleType]:
  torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
  for name in STORAGES.values():
    setattr(torch, name, type(name, (), {"__module__": "torch"}))
  for function in (_rebuild_tensor_v2, _rebuild_parameter):
    function.__module__ = "torch._utils"
    setattr(utils, function.__name__, function)
  return {"torch": torch, "torch._utils": utils}


class Storage:
  """Numbers that tensors view."""

  def __init__(self, values):
    self.values = np.ascontiguousarray(values).reshape(-1)


class Tensor:
  """A view of a storage, in values, or a parameter of it."""

  def __init__(self, storage, offset, size, stride, is_parameter=False):
    self.arguments = (storage, offset, tuple(size), tuple(stride), False, collections.OrderedDict())
    self.is_parameter = is_parameter

  def __reduce_ex__(self, protocol):
    made = (_rebuild_tensor_v2, self.arguments)
    if not self.is_parameter:
      return made
    tensor = Tensor(*self.arguments[:4])
    return _rebuild_parameter, (tensor, True, collections.OrderedDict())


def tensor(array, **options) -> Tensor:
  """Returns a tensor of its own storage."""
  array = np.asarray(array, order="C")
  strides = [step // array.itemsize for step in array.strides]
  return Tensor(Storage(array), 0, array.shape, strides, **options)


class _Pickler(pickle.Pickler):
  def __init__(self, file, modules, old):
    super().__init__(file, protocol=2)
    self.modules, self.old, self.storages = modules, old, []

  def persistent_id(self, obj):
    if not isinstance(obj, Storage):
      return None
    if obj not in self.storages:
      self.storages.append(obj)
    kind = getattr(self.modules["torch"], STORAGES[obj.values.dtype])
    key = str(self.storages.index(obj))
    return "storage", kind, key, "cpu", obj.values.size, *([None] if self.old else [])


def save(path, tree, *, old=False, compression=zipfile.ZIP_STORED, byteorder=b"little"):
  """Writes a file of torch: an archive, or the format before 1.6."""
  modules, file = _modules(), io.BytesIO()
  with mock.patch.dict(sys.modules, modules):
    pickler = _Pickler(file, modules, old)
    pickler.dump(tree)
  if old:
    sizes = {"short": 2, "int": 4, "long": 4}
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    data = [pickle.dumps(x, protocol=2) for x in (0x1950A86A20F9469CFC6C, 1001, info)]
    data.append(file.getvalue())
    data.append(pickle.dumps([str(i) for i in range(len(pickler.storages))], protocol=2))
    for storage in pickler.storages:
      data += [storage.values.size.to_bytes(8, "little"), storage.values.tobytes()]
    path.write_bytes(b"".join(data))
    return
  with zipfile.ZipFile(path, "w", compression) as archive:
    archive.writestr("archive/data.pkl", file.getvalue())
    archive.writestr("archive/byteorder", byteorder)
    for number, storage in enumerate(pickler.storages):
      archive.writestr(f"archive/data/{number}", storage.values.tobytes())
    archive.writestr("archive/version", b"3\n")
