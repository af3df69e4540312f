"""A hostile pickle executes nothing and exhausts nothing; the refusal says what it tried."""

import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.files import array_files, limits, pickles

ARRAYS = {"a/~/b": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, "c": np.float64(3)}


class Command:
  """Runs a command when it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.system, (f"touch {self.path}",)


def refuse(data, message):
  with pytest.raises(ValueError, match=message):
    pickles.flat_arrays(pickles.load_pickle(data, "file"), "file")


@pytest.fixture
def thrifty():
  """Fails if a test ever holds more than 64 MB."""
  tracemalloc.start()
  yield
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 64 * 2**20


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_pickles_are_read(protocol):
  flat = pickles.flat_arrays(pickles.load_pickle(pickle.dumps(ARRAYS, protocol), "file"), "file")
  assert set(flat) == {"a/~/b/w", "c"}
  np.testing.assert_array_equal(flat["a/~/b/w"], ARRAYS["a/~/b"]["w"])
  assert flat["c"] == 3


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("order", ["C", "F"])
def test_orders_and_byte_orders_are_kept(protocol, order):
  value = np.asarray(np.random.default_rng(0).normal(size=(3, 4)), ">f4", order=order)
  flat = pickles.flat_arrays(pickles.load_pickle(pickle.dumps({"x": value}, protocol), "f"), "f")
  np.testing.assert_array_equal(flat["x"], value)
  assert np.dtype("f4").isnative  # unpickling a byte order must not change numpy's own dtype


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_by_name_and_not_run(protocol, tmp_path):
  trace = tmp_path / "was_here"
  for tree in (Command(trace), {"a": [Command(trace)]}):
    refuse(pickle.dumps(tree, protocol), r"file: refused: the pickle requests \w+\.system; only")
  refuse(
    pickle.dumps({"a": np.asarray([Command(trace)], object)}, protocol), r"requests \w+\.system"
  )
  assert not trace.exists()
  path = tmp_path / "weights.pystate"
  path.write_bytes(pickle.dumps(Command(trace), max(protocol, 2)))
  with pytest.raises(ValueError, match=r"weights.pystate: refused: the pickle requests \w+.system"):
    zoo.load(path)
  assert not trace.exists()


@pytest.mark.parametrize(
  "name", ["builtins.eval", "builtins.getattr", "numpy.load", "haiku._src.base.transform"]
)
def test_other_names_are_refused(name):
  module, _, attribute = name.rpartition(".")
  data = f"\x80\x02c{module}\n{attribute}\n(tR.".encode("latin1")
  refuse(data, f"refused: the pickle requests {name}; only dicts")


def test_objects_in_arrays_are_refused():
  refuse(pickle.dumps(np.asarray([{}, None], object), 2), "refused: an array of objects")
  refuse(pickle.dumps({"a": "text"}, 4), "'a' is a str, expected an array of numbers or a dict")


def test_arrays_that_claim_what_is_not_there_are_refused(thrifty):
  start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
  huge = b"(\x8a\x05\x00\x00\x00\x00\x01t"  # (2**32,)
  refuse(start + huge + b"C\x01b\x87R.", r"an array that starts with shape \[4294967296\]")
  honest = pickle.dumps(np.zeros(3, np.float32), 2)
  lying = honest.replace(b"K\x03\x85", b"\x8a\x05\x00\x00\x00\x00\x01\x85")
  assert lying != honest
  refuse(lying, r"refused: an array \(4294967296,\) of float32, and 12 bytes for it")


@pytest.mark.parametrize("protocol", range(2, 6))
def test_byte_strings_are_read_where_they_are_there_and_are_no_parameters(protocol, thrifty):
  texts = np.asarray([b"\xff\xd8one", b"\xff\xd8three\xff\xd9"])
  data = pickle.dumps({"a": texts}, protocol)
  np.testing.assert_array_equal(pickles.load_pickle(data, "file")["a"], texts)
  refuse(data, "'a' is a .*, expected an array of numbers or a dict")
  assert data.count(b"S9") == 1
  refuse(data.replace(b"S9", b"U9"), "refused: dtype 'U9'; only numbers and byte strings")
  refuse(data.replace(b"K\x09K\x01", b"K\x7fK\x01"), "refused: dtype with state")
  lying = data.replace(b"\x02\x00\x00\x00S9", b"\x0a\x00\x00\x00S999999999")
  lying = lying.replace(b"\x8c\x02S9", b"\x8c\x0aS999999999")
  assert lying != data
  refuse(lying, "file: (refused|not a readable pickle of arrays)")


def test_memo_numbers_cannot_claim_memory(thrifty):
  refuse(b"\x80\x02]r\xff\xff\xff\x7f.", "refused: memo number 2147483647 at byte")
  refuse(b"\x80\x02]p2147483647\n.", "refused: memo number 2147483647")


def test_lengths_that_are_not_there_are_damage(thrifty):
  refuse(b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.", "not a readable pickle of arrays")
  refuse(b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.", "not a readable pickle of arrays")
  refuse(pickle.dumps(ARRAYS)[:50], "not a readable pickle of arrays")


def test_trees_that_multiply_are_refused(thrifty, monkeypatch):
  monkeypatch.setattr(pickles, "MAX_LEAVES", 500)
  tree = {"w": np.zeros(1)}
  for _ in range(12):
    tree = {str(i): tree for i in range(10)}
  refuse(pickle.dumps(tree), "more than 500 arrays")
  for _ in range(20):
    tree = {"deeper": tree}
  refuse(pickle.dumps(tree), "is a dict, expected an array")


# --- programs that no pickler writes ----------------------------------------------------------------

NDARRAY, DTYPE = b"cnumpy\nndarray\n", b"cnumpy\ndtype\n(U\x02%stR"
EIGHT = b"C\x08ABCDEFGH"  # bytes that could be an address


@pytest.mark.parametrize("call", [b"R", b"\x81"], ids=["reduce", "newobj"])
@pytest.mark.parametrize(
  "arguments",
  [
    b"((K\x01t" + DTYPE % b"O8" + EIGHT + b"t",  # pointers that the file chose
    b"((K\x01t" + DTYPE % b"f8" + EIGHT + b"J\xf8\xff\xff\xfft",  # a negative offset
    b"((K\x08t" + DTYPE % b"f8" + b"t",  # no buffer: what memory held before
    b"((J\x00\x00\x00\x40t" + DTYPE % b"f8" + EIGHT + b"K\x00(K\x00tt",  # stride 0: 8 GB of 8 bytes
  ],
  ids=["objects", "offset", "no buffer", "strides"],
)
def test_a_file_cannot_call_the_class_of_arrays(call, arguments, thrifty):
  for start, end in ((b"", b""), (b"cbuiltins\ndict\n(}U\x01w", b"stR")):
    refuse(b"\x80\x02" + start + NDARRAY + arguments + call + end + b".", "file: refused: ")


def test_a_file_gets_no_hold_of_functions_and_classes(thrifty):
  encode = b"c_codecs\nencode\n"
  defaults = b"N}U\x0c__defaults__(X\x00\x00\x00\x00U\x04utf8ts\x86"
  refuse(b"\x80\x02" + encode + defaults + b"b.", "refused: the pickle sets the state of a Name")
  refuse(b"\x80\x02" + NDARRAY + b".", "refused: a name where data should be")
  refuse(b"\x80\x02]" + DTYPE % b"f8" + b"a.", "refused: a dtype where data should be")
  refuse(b"\x80\x02]" + encode + b"a.", "refused: a name where data should be")
  refuse(b"\x80\x02K\x01(tR.", "refused: the pickle calls int, which makes no array")
  refuse(b"\x80\x02" + NDARRAY + b"(tR.", "refused: the pickle calls ndarray, which makes no array")


@pytest.mark.parametrize("opcode", ["2", "0", "1", "\x8f", "\x97", "Q", "o", "\x82\x01"])
def test_instructions_that_arrays_do_not_need_are_refused(opcode):
  refuse(b"\x80\x02]" + opcode.encode("latin1") + b".", "refused: the pickle uses [A-Z_0-9]+; only")


def test_nesting_is_bounded_while_it_is_read(thrifty, monkeypatch):
  deep = b"\x80\x02}" + b")" + 3_000_000 * b"\x85"
  refuse(deep + b"K\x01s.", "refused: containers nested more than 64 deep")
  refuse(b"\x80\x02" + 1000 * b"]" + 999 * b"a" + b".", "containers nested more than 64 deep")
  assert pickles.load_pickle(b"\x80\x02" + 60 * b"]" + 59 * b"a" + b".", "file")
  monkeypatch.setattr(limits, "max_values", lambda num_bytes: num_bytes // 10_000)
  refuse(b"\x80\x02" + 3_000_000 * b"(" + b".", "more than 300 instructions in 3000003 bytes")


def test_keys_are_texts_and_numbers(thrifty):
  for key in (b")", b"]", b"N", b"G" + bytes(8), NDARRAY, b"\x8a\x05\x00\x00\x00\x00\x01"):
    refuse(
      b"\x80\x02}" + key + b"K\x01s.", "refused: a .* as key of a dict; only texts and numbers"
    )
  refuse(b"\x80\x02(K\x01K\x02K\x03d.", "a dict with a key and no value")


def test_what_lies_in_another_does_not_change_any_more(thrifty):
  change = "refused: a list that changes after it was put into another"
  refuse(b"\x80\x02]q\x00h\x00a.", change)  # a list in itself
  refuse(b"\x80\x02]q\x00]q\x01h\x00ah\x00h\x01a.", change)  # in a circle
  chain = b"".join(b"]r" + struct.pack("<I", i) for i in range(500))
  links = b"".join(
    b"j" + struct.pack("<I", i) + b"j" + struct.pack("<I", i + 1) + b"a" for i in range(499)
  )
  refuse(b"\x80\x02" + chain + links + b"\x85.", change)  # each within bounds when it is made


def test_what_is_made_many_times_is_made_once(thrifty):
  text = 2**20 * "a"
  start = pickle.dumps(text, 2)[:-1] + b"q\x01c_codecs\nencode\nq\x02]"
  refuse(start + 1000 * b"h\x02h\x01\x85Ra" + b".", "refused: the same text encoded many times")
  one = pickle.dumps({"w": np.zeros(2**17)}, 2)[:-1].removeprefix(b"\x80\x02")
  many = pickles.load_pickle(
    b"\x80\x02]" + one + b"r\xff\x00\x00\x00a" + 1000 * b"h\xffa" + b".", "f"
  )
  assert len({id(x) for x in many}) == 1
  # 6 bytes for each further number of 8 bytes: all of them are more than the file has.
  one = b"cnumpy.core.multiarray\nscalar\nq\x09" + DTYPE % b"f8" + EIGHT + b"\x86q\x08Ra"
  refuse(b"\x80\x02]" + one + 100 * b"h\x09h\x08Ra" + b".", "and 8 bytes for it")


def test_texts_of_wide_characters_do_not_take_four_times_their_size(thrifty):
  for data in (2**21 * "a" + "\U0001f600", 2**21 * "a" + "\u0100"):
    for protocol in (0, 2, 4):
      refuse(pickle.dumps(data, protocol), "refused: a text of 20971.. bytes that encodes none")
  assert pickles.load_pickle(pickle.dumps("\U0001f600", 0), "file") == "\U0001f600"


@pytest.mark.parametrize(
  "value",
  [
    {"a": (1, (2.5, None), [True, False, -(2**70)]), b"b": {}, 3: "\xe9\u0416'\n"},
    [np.float32(2), np.arange(5), np.zeros((0, 3), np.int8), np.asarray(b"ab"), np.asarray([True])],
    [bytes(300), b"", np.zeros((2, 0, 2**40)), 70_000, -70_000, 200 * "x"],
    [OrderedDict(a=1, b=[OrderedDict()])],
  ],
)
@pytest.mark.parametrize("protocol", range(6))
def test_containers_and_arrays_come_back_as_they_were(value, protocol):
  read = pickles.load_pickle(pickle.dumps(value, protocol), "file")
  assert type(read) is type(value)
  pairs = zip(
    *(x.items() if isinstance(x, dict) else enumerate(x) for x in (read, value)), strict=True
  )
  for (key, one), (its_key, other) in pairs:
    assert key == its_key
    if isinstance(other, np.ndarray | np.generic):
      assert one.dtype == other.dtype and one.shape == other.shape
      np.testing.assert_array_equal(one, other)
    else:
      assert one == other


@pytest.mark.parametrize(
  "value",
  [np.array([1, "a"], dtype=object), np.array([[{}]], dtype=object), {"a": np.array(None, object)}],
)
def test_arrays_of_objects_are_refused_but_for_one_dict(value):
  with pytest.raises(ValueError, match="array of objects|is a NoneType"):
    pickles.flat_arrays(pickles.load_pickle(pickle.dumps(value), "file"), "file")


def test_a_dict_that_numpy_saved_is_read_and_what_runs_in_it_is_not(tmp_path):
  path, target = tmp_path / "a.npy", tmp_path / "ran"
  np.save(path, np.array({"params": ARRAYS, "config": {"x": 1}}, dtype=object), allow_pickle=True)
  flat = array_files.read_pickle(path)
  np.testing.assert_array_equal(flat["params/a/~/b/w"], ARRAYS["a/~/b"]["w"])
  assert set(array_files.unwrapped(flat)) == {"a/~/b/w", "c"}
  np.save(path, np.array({"params": Command(target)}, dtype=object), allow_pickle=True)
  with pytest.raises(ValueError, match="refused"):
    array_files.read_pickle(path)
  np.save(path, np.zeros(3))
  with pytest.raises(ValueError, match="expected a dict of parameters"):
    array_files.read_pickle(path)
  assert not target.exists()
