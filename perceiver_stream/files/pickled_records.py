"""Inert records of a pickle's program, and the containers and arrays built from them.

A record only stores data of the file. It cannot be called or hashed, and cannot be changed once it
is part of another record, so nesting has a bounded depth and no cycles.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from perceiver_stream.files.limits import RefusedError

MAX_DEPTH = 64
_MAX_RANK = 32
_MAX_KEY = 2**31  # of integer keys; larger ones can be chosen to collide
_OBJECT, _OBJECT_FLAGS = "O8", 63  # numpy's type of Python objects, and the flags of it
_NUMBER = re.compile(r"[<>|=]?[biufc]\d{1,2}|\?|float(16|32|64)|u?int(8|16|32|64)|bool")
_BYTES = re.compile(r"\|?S[1-9]\d{0,8}")


class Name:
  """Placeholder of a class or function that a file may name.

  Attributes:
    role: `"dict"`, `"ndarray"`, `"dtype"`, `"array"`, `"scalar"`, `"frombuffer"`,
      `"bytes"` or `"encode"`.
  """

  __slots__ = ("role",)

  def __init__(self, role: str):
    self.role = role


class Record:
  """A container, an array or a dtype as the file describes it.

  Attributes:
    kind: `"list"`, `"tuple"`, `"dict"` (keys and values in turn), `"dtype"` (code, byte order),
      `"array"` (shape, dtype, order, bytes) or `"scalar"` (dtype, bytes).
    values: Contents.
    depth: Nesting depth, this record included.
    closed: True once it is part of another record; it cannot change any more.
  """

  __slots__ = ("closed", "depth", "kind", "values")

  def __init__(self, kind: str):
    self.kind, self.depth, self.closed = kind, 1, False
    self.values: list[Any] = []

  def add(self, values: Iterable[Any]) -> None:
    """Adds values and closes them.

    Raises:
      RefusedError: The record is closed or nests too deeply, or a dict key is neither text nor
        number.
    """
    start = len(self.values)
    for value in values:
      self.values.append(value)
      if isinstance(value, Record):
        value.closed = True
        self.depth = max(self.depth, value.depth + 1)
    if self.closed:
      raise RefusedError(f"a {self.kind} that changes after it was put into another.")
    if self.depth > MAX_DEPTH:
      raise RefusedError(f"containers nested more than {MAX_DEPTH} deep.")
    if self.kind == "dict":
      _check_keys(self.values[start:])


def call(name: Any, arguments: Any) -> Record | bytes:
  """Returns the record of a call that a file describes.

  Raises:
    RefusedError: The call does not create an array or a container.
  """
  role = name.role if isinstance(name, Name) else ""
  if role not in _CALLS or not _is(arguments, "tuple"):
    raise RefusedError(f"the pickle calls {role or type(name).__name__}, which makes no array.")
  return _CALLS[role](*arguments.values)


def set_state(record: Any, state: Any) -> None:
  """Stores the state of an array or a dtype that has none yet.

  Raises:
    RefusedError: The record is neither, or the state is not one of a numeric type.
  """
  if not _is(state, "tuple") or not isinstance(record, Record) or record.closed:
    raise RefusedError(f"the pickle sets the state of a {_kind(record)}.")
  if record.kind == "dtype" and len(record.values) == 1:
    record.add([_byte_order(record.values[0], state.values)])
  elif record.kind == "array" and not record.values:
    _, shape, dtype, fortran, data = state.values
    record.add([shape, dtype, "F" if fortran is True else "C", data])
  else:
    raise RefusedError(f"the pickle sets the state of a {_kind(record)}.")


class Builder:
  """Builds containers and arrays from records, each once."""

  def __init__(self, num_bytes: int):
    self._left = num_bytes  # bytes that arrays may still use: no more than the file has
    self._made: dict[int, Any] = {}

  def make(self, record: Any) -> Any:
    """Returns the container or array that a record describes.

    Raises:
      RefusedError: An array has no bytes in the file, or the record describes no data.
    """
    if not isinstance(record, Record | Name):
      return record
    if id(record) not in self._made:
      kind = "name" if isinstance(record, Name) else record.kind
      if kind not in _MAKERS:
        raise RefusedError(f"a {kind} where data should be.")
      self._made[id(record)] = _MAKERS[kind](self, record)
    return self._made[id(record)]

  def mapping(self, record: Record) -> dict[Any, Any]:
    """Returns a dict from alternating keys and values."""
    values = [self.make(value) for value in record.values]
    return dict(zip(values[::2], values[1::2], strict=True))

  def array(self, record: Record) -> Any:
    """Returns a read-only array of the file's bytes; the value alone of a single object."""
    if len(record.values) != 4:
      raise RefusedError("an array without contents.")
    shape, dtype, order, data = record.values
    if _is(dtype, "dtype") and dtype.values[0] == _OBJECT:
      return self._single(shape, data)
    if not _is(shape, "tuple") or len(shape.values) > _MAX_RANK:
      raise RefusedError("an array whose shape is no tuple of numbers.")
    return self._from_bytes(data, _dtype(dtype), shape.values).reshape(shape.values, order=order)

  def _single(self, shape: Any, data: Any) -> Any:
    """Returns the one value in an array of objects without axes, as `np.save` wraps a dict."""
    if not _is(shape, "tuple") or shape.values or not _is(data, "list") or len(data.values) != 1:
      raise RefusedError("an array of objects; only one value without axes is read.")
    return self.make(data.values[0])

  def scalar(self, record: Record) -> np.generic:
    """Returns a single number."""
    dtype, data = record.values
    return self._from_bytes(data, _dtype(dtype), [1])[0]

  def _from_bytes(self, data: Any, dtype: np.dtype, shape: Sequence[Any]) -> np.ndarray:
    if not isinstance(data, bytes) or not all(type(n) is int and n >= 0 for n in shape):
      raise RefusedError("an array whose contents are not plain numbers.")
    size = math.prod(shape) * dtype.itemsize
    self._left -= size
    if size != len(data) or self._left < 0:
      raise RefusedError(f"an array {tuple(shape)} of {dtype}, and {len(data)} bytes for it.")
    return np.frombuffer(data, dtype) if size else np.empty(0, dtype)


def _is(value: Any, kind: str) -> bool:
  return isinstance(value, Record) and value.kind == kind


def _kind(value: Any) -> str:
  return value.kind if isinstance(value, Record) else type(value).__name__


def _check_keys(values: Sequence[Any]) -> None:
  for key in values[::2]:
    if not (isinstance(key, str | bytes) or (type(key) is int and abs(key) < _MAX_KEY)):
      raise RefusedError(f"a {_kind(key)} as key of a dict; only texts and numbers are read.")
  if len(values) % 2:
    raise RefusedError("a dict with a key and no value.")


def _byte_order(code: str, state: Sequence[Any]) -> str:
  plain = (None, -1, 0) if code != _OBJECT else (None, -1, _OBJECT_FLAGS)
  if _BYTES.fullmatch(code):
    plain = (None, 0, 1, np.dtype(code).itemsize)
  odd = [x for x in state[2:] if not (x is None or type(x) is int) or x not in plain]
  if len(state) < 5 or odd or state[1] not in ("<", ">", "|", "="):
    shown = [x if isinstance(x, int | str | None) else _kind(x) for x in state]
    raise RefusedError(f"dtype with state {shown}; only plain numbers are read.")
  return state[1]


def _dtype(record: Any) -> np.dtype:
  if not _is(record, "dtype") or record.values[0] == _OBJECT:
    raise RefusedError("an array whose contents are not plain numbers.")
  code, *order = record.values
  return np.dtype(code).newbyteorder(*order) if order else np.dtype(code)


# --- calls, by role
# ---------------------------------------------------------------------------------


def _new(kind: str, *values: Any) -> Record:
  record = Record(kind)
  record.add(values)
  return record


def _call_dtype(code: Any, *flags: Any) -> Record:
  del flags
  if code == _OBJECT:
    return _new("dtype", code)
  if not isinstance(code, str) or not (_NUMBER.fullmatch(code) or _BYTES.fullmatch(code)):
    raise RefusedError(f"dtype {code if isinstance(code, str) else _kind(code)!r}; only numbers and "
                       f"byte strings are read.")  # fmt: skip
  return _new("dtype", code)


def _call_array(kind: Any, shape: Any, code: Any) -> Record:
  del code
  if not isinstance(kind, Name) or kind.role != "ndarray" or not _is(shape, "tuple"):
    raise RefusedError("an array of an unknown kind.")
  if shape.values != [0]:
    raise RefusedError(f"an array that starts with shape {shape.values}.")
  return Record("array")


def _call_frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> Record:
  return _new("array", shape, dtype, "F" if order == "F" else "C", data)


def _call_encode(text: Any, encoding: Any = "latin1") -> bytes:
  if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
    raise RefusedError("text in an encoding that is not latin1.")
  return text.encode("latin1")


def _call_dict(*arguments: Any) -> Record:
  """Returns an empty dict, or its argument without a copy: copies could be many and large."""
  if not arguments:
    return Record("dict")
  if len(arguments) != 1 or not _is(arguments[0], "dict"):
    raise RefusedError("a mapping that was not made from a dict.")
  return arguments[0]


def _call_bytes() -> bytes:
  """Returns empty bytes, which protocol 2 writes as this call."""
  return b""


_CALLS = {
  "bytes": _call_bytes,
  "dict": _call_dict,
  "dtype": _call_dtype,
  "array": _call_array,
  "scalar": lambda dtype, data: _new("scalar", dtype, data),
  "frombuffer": _call_frombuffer,
  "encode": _call_encode,
}
_MAKERS = {
  "list": lambda b, r: [b.make(value) for value in r.values],
  "tuple": lambda b, r: tuple(b.make(value) for value in r.values),
  "dict": Builder.mapping,
  "array": Builder.array,
  "scalar": Builder.scalar,
}
