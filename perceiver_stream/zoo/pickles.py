"""Pickled arrays without running them: containers, bytes and plain arrays, all else refused.

A pickle is a program. This reader lets it build dicts, lists, tuples, strings, bytes, numbers and
numpy arrays of numbers or byte strings (as data sets store JPEG files), and nothing else; it is checked before it runs, so that a small file cannot claim much
memory either.
"""

import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np

MOST_LEAVES = 10_000  # the largest published file has about a thousand
_HAIKU = ("haiku._src.data_structures", "haiku._src.data_structures.frozendict")
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMBER = re.compile(r"[<>|=]?[biufc]\d{1,2}|\?|float(16|32|64)|u?int(8|16|32|64)|bool")
_BYTES = re.compile(r"\|?S\d{1,9}")
_REFUSED = {"PERSID", "BINPERSID", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}


class Refused(ValueError):
  """The file asks for something that a file of parameters has no need of."""


def load_pickle(data: bytes, source: str) -> Any:
  """Returns what a pickle of plain containers and numpy arrays holds.

  Args:
    data: The whole pickle.
    source: What the file is called in errors.

  Raises:
    Refused: It asks for anything else, which is named.
    ValueError: It is not a pickle.
  """
  try:
    _check_program(data)
    return _Reader(BytesIO(data), encoding="latin1").load()
  except Refused as error:
    raise Refused(f"{source}: refused: {error}") from None
  except Exception as error:  # a damaged program can fail in any way
    raise ValueError(f"{source}: not a readable pickle of arrays ({error!r}).") from error


def flat_arrays(tree: Any, source: str) -> dict[str, np.ndarray]:
  """Returns the arrays of nested dicts by their path, keys joined by slashes.

  Raises:
    ValueError: There is something else than dicts and arrays, or far too much.
  """
  flat: dict[str, np.ndarray] = {}

  def visit(path: str, node: Any, depth: int) -> None:
    if isinstance(node, Mapping) and depth < 16:
      for key, value in node.items():
        visit(f"{path}/{key}" if path else str(key), value, depth + 1)
    elif isinstance(node, np.ndarray | np.generic) and node.dtype.kind in "biufc":
      flat[path] = np.asarray(node)
    else:
      raise ValueError(
        f"{source}: '{path}' is a {type(node).__name__}, expected an array of numbers or a dict."
      )
    if len(flat) > MOST_LEAVES:
      raise ValueError(f"{source}: more than {MOST_LEAVES} arrays; this is no parameter file.")

  visit("", tree, 0)
  return flat


def _check_program(data: bytes) -> None:
  """Refuses opcodes that parameters do not need, and memo numbers made to waste memory."""
  count = 0
  for opcode, argument, _ in pickletools.genops(data):
    count += 1
    if opcode.name in _REFUSED:
      raise Refused(f"the pickle uses {opcode.name}; only arrays are read.")
    if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
      raise Refused(f"memo number {argument} at instruction {count}.")


class _Reader(pickle.Unpickler):
  """Finds only what `load_pickle` allows."""

  def find_class(self, module: str, name: str) -> Callable:
    allowed = {
      ("collections", "OrderedDict"): OrderedDict,
      ("builtins", "dict"): dict,
      ("numpy", "ndarray"): _Array,
      ("numpy", "dtype"): _Dtype,
      ("_codecs", "encode"): _encode,
    }
    allowed |= {(m, "_reconstruct"): _reconstruct for m in _NUMPY}
    allowed |= {(m, "scalar"): _scalar for m in _NUMPY}
    allowed |= {
      (m, "_frombuffer"): _frombuffer for m in ("numpy.core.numeric", "numpy._core.numeric")
    }
    allowed |= {(m, n): _plain for m in _HAIKU for n in ("FlatMapping", "FlatMap", "frozendict")}
    if (module, name) not in allowed:
      raise Refused(
        f"the pickle asks for {module}.{name}; only dicts, lists, tuples, "
        f"strings, numbers and numpy arrays are read. Nothing of it was executed."
      )
    return allowed[module, name]


class _Dtype:
  """What a dtype is rebuilt as: a code and a byte order, nothing that numpy would act on."""

  def __init__(self, code: Any, *flags: Any):
    del flags
    if not isinstance(code, str) or not (_NUMBER.fullmatch(code) or _BYTES.fullmatch(code)):
      raise Refused(f"dtype {code!r}; only numbers and byte strings are read.")
    self.value = np.dtype(code)

  def __setstate__(self, state: Any) -> None:
    plain = (None, -1, 0) if self.value.kind != "S" else (None, 0, 1, self.value.itemsize)
    if any(x not in plain for x in state[2:]) or state[1] not in ("<", ">", "|", "="):
      raise Refused(f"dtype with state {state!r}; only plain numbers are read.")
    self.value = self.value.newbyteorder(state[1])


class _Array(np.ndarray):
  """What arrays are rebuilt as: only ever filled with bytes that the file holds."""

  def __setstate__(self, state: Any) -> None:
    version, shape, dtype, fortran, data = state
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
      raise Refused("an array whose contents are not plain numbers.")
    super().__setstate__((version, shape, dtype.value, fortran, data))


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
  if kind is not _Array or shape != (0,):
    raise Refused(f"an array that starts with shape {shape!r}.")
  del code
  return np.ndarray.__new__(_Array, (0,), np.int8)


def _scalar(dtype: Any, data: Any) -> np.generic:
  return _frombuffer(data, dtype, (1,), "C")[0]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
  if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
    raise Refused("an array whose contents are not plain numbers.")
  return np.frombuffer(data, dtype.value).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
  if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
    raise Refused(f"text in encoding {encoding!r}.")
  return text.encode("latin1")


def _plain(*arguments: Any) -> dict:
  if len(arguments) != 1 or not isinstance(arguments[0], Mapping):
    raise Refused("a haiku mapping that was not made from a dict.")
  return dict(arguments[0])
