"""A hostile file executes nothing and exhausts nothing; the refusal says what it tried."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.zoo import files, pickles

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
    refuse(pickle.dumps(tree, protocol), r"file: refused: the pickle asks for \w+\.system; only")
  refuse(pickle.dumps({"a": np.asarray([Command(trace)], object)}, protocol), "dtype 'O8'")
  assert not trace.exists()
  path = tmp_path / "weights.pystate"
  path.write_bytes(pickle.dumps(Command(trace), max(protocol, 2)))
  with pytest.raises(ValueError, match=r"weights.pystate: refused: the pickle asks for \w+.system"):
    zoo.load(path)
  assert not trace.exists()


@pytest.mark.parametrize(
  "name", ["builtins.eval", "builtins.getattr", "numpy.load", "haiku._src.base.transform"]
)
def test_other_names_are_refused(name):
  module, _, attribute = name.rpartition(".")
  data = f"\x80\x02c{module}\n{attribute}\n(tR.".encode("latin1")
  refuse(data, f"refused: the pickle asks for {name}; only dicts")


def test_objects_in_arrays_are_refused():
  refuse(pickle.dumps(np.asarray([{}, None], object), 2), "refused: dtype 'O8'")
  refuse(pickle.dumps({"a": "text"}, 4), "'a' is a str, expected an array of numbers or a dict")


def test_arrays_that_claim_what_is_not_there_are_refused(thrifty):
  start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
  huge = b"(\x8a\x05\x00\x00\x00\x00\x01t"  # (2**32,)
  refuse(start + huge + b"C\x01b\x87R.", r"an array that starts with shape \(4294967296,\)")
  honest = pickle.dumps(np.zeros(3, np.float32), 2)
  lying = honest.replace(b"K\x03\x85", b"\x8a\x05\x00\x00\x00\x00\x01\x85")
  assert lying != honest
  refuse(lying, "not a readable pickle of arrays")


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
  refuse(b"\x80\x02]r\xff\xff\xff\x7f.", "refused: memo number 2147483647 at instruction")
  refuse(b"\x80\x02]p2147483647\n.", "refused: memo number 2147483647")


def test_lengths_that_are_not_there_are_damage(thrifty):
  refuse(b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.", "not a readable pickle of arrays")
  refuse(b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.", "not a readable pickle of arrays")
  refuse(pickle.dumps(ARRAYS)[:50], "not a readable pickle of arrays")


def test_trees_that_multiply_are_refused(thrifty):
  tree = {"w": np.zeros(1)}
  for _ in range(12):
    tree = {str(i): tree for i in range(10)}
  refuse(pickle.dumps(tree), "more than 10000 arrays")
  for _ in range(20):
    tree = {"deeper": tree}
  refuse(pickle.dumps(tree), "is a dict, expected an array")


# --- npz --------------------------------------------------------------------------------------------


def write_npz(path, members):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, data in members:
      archive.writestr(f"{name}.npy", data)
  return path


def npy(array, shape=None):
  file = io.BytesIO()
  header = np.lib.format.header_data_from_array_1_0(array)
  header["shape"] = shape or header["shape"]
  np.lib.format.write_array_header_1_0(file, header)
  return file.getvalue() + array.tobytes()


def test_npz_is_read_in_any_order_and_compression(tmp_path):
  rng = np.random.default_rng(0)
  arrays = {"a/b": rng.normal(size=(2, 3)), "c": np.asfortranarray(rng.normal(size=(4, 5))),
            "d": np.float32(2), "e": np.zeros((0, 3), np.int8)}  # fmt: skip
  for writer in (np.savez, np.savez_compressed):
    writer(tmp_path / "x.npz", **arrays)
    read = files.read_npz(tmp_path / "x.npz")
    assert set(read) == set(arrays)
    for name, value in arrays.items():
      np.testing.assert_array_equal(read[name], value)


def test_npz_with_objects_is_refused_by_name(tmp_path):
  path = tmp_path / "x.npz"
  np.savez(path, good=np.zeros(2), bad=np.asarray([Command(tmp_path / "was_here")], object))
  with pytest.raises(ValueError, match="array 'bad' refused: its dtype is object"):
    zoo.load(path)
  assert not (tmp_path / "was_here").exists()


@pytest.mark.parametrize("shape", [(10**12,), (2**40, 2**40), (3,)])
def test_npz_whose_header_lies_is_refused(shape, tmp_path, thrifty):
  path = write_npz(tmp_path / "x.npz", [("w", npy(np.zeros(2, np.float32), shape))])
  with pytest.raises(
    ValueError, match="array 'w' refused: shape .* needs .* bytes, the file has 8"
  ):
    zoo.load(path)


def test_npz_that_unpacks_to_a_bomb_is_refused(tmp_path, thrifty):
  path = tmp_path / "x.npz"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    with archive.open("w.npy", "w") as file:
      for _ in range(100):
        file.write(bytes(2**20))
  with pytest.raises(ValueError, match="claim to unpack to 104857600, more than 67108864"):
    zoo.load(path)


def test_damage_is_explained(tmp_path):
  path = tmp_path / "x.npz"
  np.savez(path, w=np.zeros(100))
  path.write_bytes(path.read_bytes()[:-60])
  with pytest.raises(ValueError, match="x.npz: damaged .npz file"):
    zoo.load(path)
  twice = [("w", npy(np.zeros(1))), ("v", b"no header")]
  with pytest.raises(ValueError, match="array 'v' has no readable header"):
    zoo.load(write_npz(tmp_path / "y.npz", twice))


# --- safetensors and everything else ------------------------------------------------------------------


@pytest.mark.parametrize(
  "header",
  [
    b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,8]}}',
    b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4398046511104]}}',
    b'{"w": nonsense}',
  ],
)
def test_safetensors_that_lie_are_damaged(header, tmp_path, thrifty):
  path = tmp_path / "model.safetensors"
  path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
  with pytest.raises(ValueError, match="damaged .safetensors file"):
    zoo.load(path)


def test_other_files_are_not_guessed_at(tmp_path):
  path = tmp_path / "model.npz"
  path.write_bytes(b"GIF89a and more")
  with pytest.raises(ValueError, match="not a file of parameters: it starts with b'GIF89a an'"):
    zoo.load(path)
  with pytest.raises(FileNotFoundError, match="there is no such file"):
    zoo.load(tmp_path / "nothing.npz")


def test_files_larger_than_memory_are_refused(tmp_path):
  path = tmp_path / "sparse.safetensors"
  with path.open("wb") as file:
    file.truncate(files.MOST_BYTES + 1)  # takes no space on disk
  with pytest.raises(ValueError, match="bytes is more than"):
    zoo.load(path)
