"""Reader for pickled arrays without execution: containers, bytes and plain arrays only.

A pickle is a program. `Machine` interprets it on inert records: names, calls and states are
recorded and never executed, so the file cannot reach objects of this process, and nesting,
instructions and bytes are bounded during reading. When the program has ended, `pickled_records`
builds dicts, lists, tuples and arrays of numbers or byte strings (data sets store JPEG files in
them) from the records.
"""

import codecs
import pickletools
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from perceiver_stream.files import limits
from perceiver_stream.files.limits import RefusedError
from perceiver_stream.files.pickled_records import Builder, Name, Record, call, set_state

MAX_LEAVES = 10_000  # arrays in one parameter file; the largest published one has 1,000
_MAX_WORD = 64  # maximum bytes of a number written as text
_LONG_TEXT = 2**20
_WIDE = re.compile(rb"[\xc4-\xff]")  # in UTF-8: starts of characters beyond latin-1
_WIDE_ESCAPE = re.compile(rb"\\(?:u(?!00)|U(?!000000))")
_HAIKU = ("haiku._src.data_structures", "haiku._src.data_structures.frozendict")
NAMES = {
  ("collections", "OrderedDict"): Name("dict"),
  **{(m, n): Name(n) for m in ("builtins", "__builtin__") for n in ("bytes", "dict")},
  ("numpy", "ndarray"): Name("ndarray"),
  ("numpy", "dtype"): Name("dtype"),
  ("_codecs", "encode"): Name("encode"),
  **{(f"numpy.{m}.multiarray", "_reconstruct"): Name("array") for m in ("core", "_core")},
  **{(f"numpy.{m}.multiarray", "scalar"): Name("scalar") for m in ("core", "_core")},
  **{(f"numpy.{m}.numeric", "_frombuffer"): Name("frombuffer") for m in ("core", "_core")},
  **{(m, n): Name("dict") for m in _HAIKU for n in ("FlatMapping", "FlatMap", "frozendict")},
}


def load_pickle(data: bytes, source: str) -> Any:
  """Returns the contents of a pickle of plain containers and numpy arrays.

  Args:
    data: The whole pickle.
    source: Name of the file in errors.

  Raises:
    RefusedError: It contains anything else; the message names it.
    ValueError: It is not a pickle.
  """
  try:
    return Builder(len(data)).make(Machine(data).run())
  except RefusedError as error:
    raise RefusedError(f"{source}: refused: {error}") from None
  except Exception as error:  # a damaged program can fail in any way
    raise ValueError(f"{source}: not a readable pickle of arrays ({error!r}).") from error


def flat_arrays(tree: Any, source: str) -> dict[str, np.ndarray]:
  """Returns the arrays of nested dicts, keyed by path: keys joined by slashes.

  Raises:
    ValueError: There is anything but dicts and arrays, or too many arrays.
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
    if len(flat) > MAX_LEAVES:
      raise ValueError(f"{source}: more than {MAX_LEAVES} arrays; this is not a parameter file.")

  visit("", tree, 0)
  return flat


class Machine:
  """Runs the program of a pickle on inert records."""

  def __init__(self, data: bytes | memoryview, names: Mapping[tuple[str, str], Name] = NAMES):
    """Takes the program, and the names that it may use."""
    self._data, self._at, self._names = memoryview(data), 0, names
    self._stack: list[Any] = []
    self._marks: list[int] = []
    self._memo: dict[int, Any] = {}
    self._encoded = 0

  @property
  def position(self) -> int:
    """Bytes of the program that ran."""
    return self._at

  def run(self) -> Any:
    """Returns the record that the program ends with."""
    most = limits.max_values(len(self._data))
    for _ in range(most):
      name, argument = self._next()
      if name == "STOP":
        if self._marks or len(self._stack) != 1:
          raise RefusedError(f"the pickle ends with {len(self._stack)} values, expected one.")
        return self._stack[0]
      if name in _ATOMS:
        self._stack.append(_ATOMS[name](argument))
      elif name in _STEPS:
        _STEPS[name](self, argument)
      elif name not in ("PROTO", "FRAME"):
        raise RefusedError(f"the pickle uses {name}; only arrays are read.")
    raise RefusedError(f"more than {most} instructions in {len(self._data)} bytes.")

  def _next(self) -> tuple[str, memoryview]:
    """Returns the next instruction and the bytes of its argument."""
    opcode = _OPCODES[self._data[self._at]]
    self._at += 1
    size = opcode.arg.n if opcode.arg else 0
    if size == pickletools.UP_TO_NEWLINE:
      parts = [self._line() for _ in range(2 if opcode.name in ("GLOBAL", "INST") else 1)]
      return opcode.name, memoryview(b"\n".join(parts))
    if size < 0:
      width, signed = _COUNTS[size]
      size = int.from_bytes(self._take(width), "little", signed=signed)
    return opcode.name, self._take(size)

  def _take(self, size: int) -> memoryview:
    taken = self._data[self._at : self._at + size]
    if size < 0 or len(taken) != size:
      raise ValueError(f"{size} bytes at {self._at} of {len(self._data)}")
    self._at += size
    return taken

  def _line(self) -> bytes:
    found = _NEWLINE.search(self._data, self._at)
    if found is None:
      raise ValueError(f"no end of the line at {self._at}")
    line = bytes(self._data[self._at : found.start()])
    self._at = found.end()
    return line

  def _pop(self, count: int) -> list[Any]:
    """Pops values from the stack, never below the last mark."""
    if len(self._stack) - count < (self._marks[-1] if self._marks else 0):
      raise ValueError("nothing on the stack")
    taken = self._stack[len(self._stack) - count :]
    del self._stack[len(self._stack) - count :]
    return taken

  def _pop_mark(self) -> list[Any]:
    taken = self._pop(len(self._stack) - self._marks[-1])
    self._marks.pop()
    return taken

  # --- steps, by the names of their opcodes
  # ---------------------------------------------------------

  def mark(self, _: memoryview) -> None:
    """Marks the start of the values of a container."""
    self._marks.append(len(self._stack))

  def container(self, kind: str, count: int | None) -> None:
    """Creates a container from the `count` newest values; None: from those since the mark."""
    values = self._pop_mark() if count is None else self._pop(count)
    record = Record(kind)
    record.add(values)
    self._stack.append(record)

  def extend(self, kind: str, count: int | None) -> None:
    """Adds the newest values to the container below them."""
    values = self._pop_mark() if count is None else self._pop(count)
    [record] = self._pop(1)
    if not isinstance(record, Record) or record.kind != kind:
      raise RefusedError(f"the pickle adds to a {type(record).__name__}, expected a {kind}.")
    record.add(values)
    self._stack.append(record)

  def put(self, number: int) -> None:
    """Stores the newest value in the memo; the number cannot exceed the bytes read so far."""
    if not 0 <= number <= self._at:
      raise RefusedError(f"memo number {number} at byte {self._at}.")
    [value] = self._pop(1)
    self._stack.append(value)
    self._memo[number] = value

  def get(self, number: int) -> None:
    """Pushes a value of the memo."""
    self._stack.append(self._memo[number])

  def memoize(self, _: memoryview) -> None:
    """Stores the newest value in the memo under the next number."""
    self.put(len(self._memo))

  def find(self, module: Any, name: Any) -> None:
    """Pushes the placeholder of a named object; only a few names are allowed."""
    if (module, name) not in self._names:
      raise RefusedError(
        f"the pickle requests {module}.{name}; only dicts, lists, tuples, "
        f"strings, numbers and numpy arrays are read. Nothing of it was executed."
      )
    self._stack.append(self._names[module, name])

  def find_words(self, words: memoryview) -> None:
    """Pushes a name given as the instruction's argument."""
    self.find(*bytes(words).decode().split("\n"))

  def find_values(self, _: memoryview) -> None:
    """Pushes a name given on the stack."""
    module, name = self._pop(2)
    if not isinstance(module, str) or not isinstance(name, str):
      raise RefusedError("the pickle requests a name that is not text.")
    self.find(module, name)

  def reduce(self, _: memoryview) -> None:
    """Records a call."""
    name, arguments = self._pop(2)
    value = call(name, arguments)
    if isinstance(value, bytes):
      self._encoded += len(value)
      if self._encoded > len(self._data):
        raise RefusedError("the same text encoded many times.")
    self._stack.append(value)

  def persistent(self, _: memoryview) -> None:
    """Refuses objects that are not in the pickle itself."""
    raise RefusedError("the pickle uses BINPERSID; only arrays are read.")

  def build(self, _: memoryview) -> None:
    """Records the state of an array or a dtype."""
    record, state = self._pop(2)
    set_state(record, state)
    self._stack.append(record)


def _number(argument: memoryview) -> int:
  return int.from_bytes(argument, "little")


def _signed(argument: memoryview) -> int:
  return int.from_bytes(argument, "little", signed=True)


def _word(argument: memoryview) -> str:
  if len(argument) > _MAX_WORD:
    raise RefusedError(f"a number of {len(argument)} characters.")
  return bytes(argument).decode("ascii")


def _int(argument: memoryview) -> int | bool:
  word = _word(argument)
  return word == "01" if word in ("00", "01") else int(word.removesuffix("L"))


def _text(argument: memoryview, encoding: str = "utf-8", wide: re.Pattern[bytes] = _WIDE) -> str:
  """Returns text. Long texts are encoded bytes; one wide character would take 4 times the memory."""
  if len(argument) > _LONG_TEXT and wide.search(argument):
    raise RefusedError(f"a text of {len(argument)} bytes that encodes none.")
  return codecs.decode(argument, encoding, "surrogatepass" if encoding == "utf-8" else "strict")


def _quoted(argument: memoryview) -> str:
  line = bytes(argument)
  if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
    raise ValueError("a string without its quotes")
  return codecs.escape_decode(line[1:-1])[0].decode("latin1")  # type: ignore[attr-defined]


_NEWLINE = re.compile(rb"\n")
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_COUNTS = {
  pickletools.TAKEN_FROM_ARGUMENT1: (1, False),
  pickletools.TAKEN_FROM_ARGUMENT4: (4, True),
  pickletools.TAKEN_FROM_ARGUMENT4U: (4, False),
  pickletools.TAKEN_FROM_ARGUMENT8U: (8, False),
}
_ATOMS: dict[str, Callable[[memoryview], Any]] = {
  "NONE": lambda _: None,
  "NEWTRUE": lambda _: True,
  "NEWFALSE": lambda _: False,
  "INT": _int,
  "LONG": _int,
  "FLOAT": lambda a: float(_word(a)),
  "BINFLOAT": lambda a: struct.unpack(">d", a)[0],
  **dict.fromkeys(("BININT", "LONG1"), _signed),
  **dict.fromkeys(("BININT1", "BININT2"), _number),
  **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), bytes),
  **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _text),
  **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), lambda a: bytes(a).decode("latin1")),
  "UNICODE": lambda a: _text(a, "raw-unicode-escape", _WIDE_ESCAPE),
  "STRING": _quoted,
}
_STEPS: dict[str, Callable[[Machine, memoryview], None]] = {
  "MARK": Machine.mark,
  "EMPTY_LIST": lambda m, _: m.container("list", 0),
  "EMPTY_TUPLE": lambda m, _: m.container("tuple", 0),
  "EMPTY_DICT": lambda m, _: m.container("dict", 0),
  "LIST": lambda m, _: m.container("list", None),
  "TUPLE": lambda m, _: m.container("tuple", None),
  "DICT": lambda m, _: m.container("dict", None),
  "TUPLE1": lambda m, _: m.container("tuple", 1),
  "TUPLE2": lambda m, _: m.container("tuple", 2),
  "TUPLE3": lambda m, _: m.container("tuple", 3),
  "APPEND": lambda m, _: m.extend("list", 1),
  "APPENDS": lambda m, _: m.extend("list", None),
  "SETITEM": lambda m, _: m.extend("dict", 2),
  "SETITEMS": lambda m, _: m.extend("dict", None),
  **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda m, a: m.put(_number(a))),
  **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, a: m.get(_number(a))),
  "PUT": lambda m, a: m.put(int(_word(a))),
  "GET": lambda m, a: m.get(int(_word(a))),
  "MEMOIZE": Machine.memoize,
  "GLOBAL": Machine.find_words,
  "STACK_GLOBAL": Machine.find_values,
  **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda m, a: m.reduce(a)),
  "BUILD": lambda m, a: m.build(a),
  "BINPERSID": lambda m, a: m.persistent(a),
}
