"""A hostile .npz or .safetensors file exhausts nothing; the refusal says what it tried."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from perceiver_stream import zoo
from perceiver_stream.files import array_files, limits


@pytest.fixture
def thrifty():
  """Fails if a test ever holds more than 64 MB."""
  tracemalloc.start()
  yield
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 64 * 2**20


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
    read = array_files.read_npz(tmp_path / "x.npz")
    assert set(read) == set(arrays)
    for name, value in arrays.items():
      np.testing.assert_array_equal(read[name], value)


def test_npz_with_objects_is_refused_by_name(tmp_path):
  path = tmp_path / "x.npz"
  np.savez(path, good=np.zeros(2), bad=np.asarray([{}], object))
  with pytest.raises(ValueError, match="array 'bad' refused: its dtype is object"):
    zoo.load(path)


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
  with pytest.raises(ValueError, match="claim to unpack to 104857600, more than 67414"):
    zoo.load(path)


def patched(path, changes):
  """Changes bytes of the local header (a record of 30 bytes) and of the directory (46 bytes)."""
  data = bytearray(path.read_bytes())
  for mark, offset, value in changes:
    start = data.rindex(mark) + offset
    data[start : start + 2] = struct.pack("<H", value)
  path.write_bytes(data)
  return path


LOCAL, DIRECTORY = b"PK\x03\x04", b"PK\x01\x02"


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ([(LOCAL, 6, 1), (DIRECTORY, 8, 1)], "array 'w' refused: it is encrypted, or packed as numpy"),
    ([(LOCAL, 8, 93), (DIRECTORY, 10, 93)], "array 'w' refused: it is encrypted, or packed"),
    ([(LOCAL, 8, 14), (DIRECTORY, 10, 14)], "array 'w' refused: it is encrypted, or packed"),
    ([(DIRECTORY, 42, 3)], "damaged .npz file"),
    ([(DIRECTORY, 16, 7)], "damaged .npz file .*CRC"),
  ],
  ids=["encrypted", "zstd", "lzma", "offset", "checksum"],
)
def test_npz_that_numpy_does_not_write_is_refused(changes, message, tmp_path):
  path = write_npz(tmp_path / "x.npz", [("w", npy(np.zeros(2)))])
  with pytest.raises(ValueError, match=message):
    array_files.read_npz(patched(path, changes))


@pytest.mark.parametrize("shape", [(True, 2), (2, -1), (2.0,), ("2",)])
def test_npz_with_odd_shapes_is_refused(shape, tmp_path):
  header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape!r}, }}".encode()
  data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)
  with pytest.raises(ValueError, match="array 'w' (refused: its shape is|has no readable header)"):
    array_files.read_npz(write_npz(tmp_path / "x.npz", [("w", data)]))


def test_npz_with_a_directory_of_many_members_is_refused(tmp_path, thrifty, monkeypatch):
  monkeypatch.setattr(array_files.DirectoryReader, "limit", 2000)
  path = write_npz(tmp_path / "x.npz", [(f"{i}", npy(np.zeros(1))) for i in range(100)])
  with pytest.raises(ValueError, match="x.npz: refused: its directory has [0-9]+ bytes"):
    array_files.read_npz(path)


def test_npz_gives_the_arrays_asked_for(tmp_path):
  np.savez(tmp_path / "x.npz", a=np.zeros(2), b=np.asarray(["text"]), c=np.ones(3))
  assert set(array_files.read_npz(tmp_path / "x.npz", names=("a", "z"))) == {"a"}
  assert array_files.read_npz(tmp_path / "x.npz", "U", names=("b",))["b"] == "text"
  with pytest.raises(ValueError, match="array 'b' refused: its dtype is <U4"):
    array_files.read_npz(tmp_path / "x.npz")
  with pytest.raises(FileNotFoundError, match="there is no such file"):
    array_files.read_npz(tmp_path / "y.npz")


def test_npz_arrays_may_be_changed(tmp_path):
  np.savez(tmp_path / "x.npz", a=np.zeros(2))
  array = array_files.read_npz(tmp_path / "x.npz")["a"]
  array += 1
  assert array.sum() == 2


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


def test_safetensors_with_a_long_header_or_many_arrays_is_refused(tmp_path, thrifty, monkeypatch):
  path = tmp_path / "model.safetensors"
  save_file({str(i): np.zeros(1) for i in range(20)}, path)
  monkeypatch.setattr(array_files, "MAX_LEAVES", 19)
  with pytest.raises(ValueError, match="refused: 20 arrays; this is not a parameter file"):
    array_files.read_safetensors(path)
  monkeypatch.setattr(array_files, "MAX_HEADER_BYTES", 500)
  with pytest.raises(ValueError, match="refused: its header has [0-9]+ bytes"):
    array_files.read_safetensors(path)


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
    file.truncate(limits.MAX_FILE_BYTES + 1)  # takes no space on disk
  with pytest.raises(ValueError, match="bytes is more than"):
    zoo.load(path)


def test_what_is_written_keeps_its_shape_and_values(tmp_path):
  arrays = {"number": np.float32(2), "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T}
  array_files.write_safetensors(tmp_path / "a.safetensors", arrays, {"format": "mine"})
  found, metadata = array_files.read_safetensors(tmp_path / "a.safetensors")
  assert metadata["format"] == "mine" and found["number"].shape == ()
  np.testing.assert_array_equal(found["turned"], arrays["turned"])
