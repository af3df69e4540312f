import struct

import numpy as np
import pytest

from perceiver_stream.reporting import flow_files

FLOW = np.random.default_rng(0).normal(0, 5, (3, 5, 2)).astype(np.float32)


def test_flo_is_middleburys(tmp_path):
  path = tmp_path / "a.flo"
  flow_files.write_flo(path, FLOW)
  data = path.read_bytes()
  assert data[:4] == b"PIEH" == struct.pack("<f", 202021.25)
  assert struct.unpack("<ii", data[4:12]) == (5, 3)  # width, height
  assert struct.unpack("<2f", data[12 + 8 * 7 : 28 + 8 * 6]) == tuple(FLOW[1, 2])


@pytest.mark.parametrize("kind", ["flo", "npz"])
def test_flow_comes_back_as_it_was(tmp_path, kind):
  path, flow = tmp_path / f"a.{kind}", FLOW.copy()
  flow[1, 1] = np.nan
  if kind == "flo":
    flow_files.write_flo(path, flow)
  else:
    np.savez_compressed(path, flow=flow)
  back = flow_files.read_flow(path)
  assert back.dtype == np.float32
  np.testing.assert_array_equal(back, flow)


def test_what_is_unknown_in_a_file_is_nan(tmp_path):
  path = tmp_path / "a.flo"
  raw = FLOW.copy()
  raw[0, 0, 1] = 1.7e9
  path.write_bytes(b"PIEH" + struct.pack("<ii", 5, 3) + raw.tobytes())
  back = flow_files.read_flow(path)
  assert np.isnan(back[0, 0]).all() and np.isfinite(back).sum() == FLOW.size - 2


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"", "is no .flo file"),
    (b"HEIP" + bytes(20), "starts with b'HEIP'"),
    (b"PIEH" + struct.pack("<ii", 5, 3) + bytes(119), "5×3 and has 131 bytes; expected 132"),
    (b"PIEH" + struct.pack("<ii", -1, -1) + bytes(8), "cut off or damaged"),
    (b"PIEH" + struct.pack("<ii", 2**31 - 1, 2**31 - 1), "cut off or damaged"),
  ],
)
def test_damaged_files_are_refused(tmp_path, data, message):
  path = tmp_path / "a.flo"
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message):
    flow_files.read_flow(path)


def test_other_npz_files_are_refused(tmp_path):
  path = tmp_path / "a.npz"
  np.savez(path, speed=FLOW)
  with pytest.raises(ValueError, match="it has no array 'flow'"):
    flow_files.read_flow(path)
  np.savez(path, flow=FLOW[..., 0])
  with pytest.raises(ValueError, match=r"shape \[3, 5\], expected \[H, W, 2\]"):
    flow_files.read_flow(path)
  path.write_bytes(b"PK nonsense")
  with pytest.raises(ValueError, match="cannot be read as a flow"):
    flow_files.read_flow(path)
  with pytest.raises(FileNotFoundError, match="there is no file"):
    flow_files.read_flow(tmp_path / "gone.flo")


def test_an_archive_holds_flows_one_by_one_and_appears_when_complete(tmp_path):
  path = tmp_path / "many.npz"
  with flow_files.FlowArchive(path) as archive:
    for i in range(3):
      archive.add(FLOW + i)
      assert not path.exists()
  with np.load(path, allow_pickle=False) as file:
    assert file.files == [f"flow_00000{i}" for i in range(3)]
    np.testing.assert_array_equal(file["flow_000002"], FLOW + 2)
  with pytest.raises(RuntimeError, match="halfway"), flow_files.FlowArchive(tmp_path / "b.npz"):
    raise RuntimeError("halfway")
  assert list(tmp_path.iterdir()) == [path]
