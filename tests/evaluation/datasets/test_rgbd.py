"""Data sets of colour and depth: units, unknown values, cameras, poses, labels, and what is refused."""

import tracemalloc
import zlib
from fractions import Fraction

import numpy as np
import pytest
import rgbd_folders
from extras import need

from perceiver_stream.evaluation.datasets import UNKNOWN, DepthFrame, load, rgbd, tum_rgbd
from perceiver_stream.files import limits, protobuf
from perceiver_stream.utils.optional import require

SETS = {
  "scannet": rgbd_folders.write_scannet,
  "icl_nuim": rgbd_folders.write_icl,
  "sun_rgbd": rgbd_folders.write_sun,
  "scenenet_rgbd": rgbd_folders.write_scenenet,
  "tum_rgbd": lambda root: rgbd_folders.write_tum(root, [1.0, 2.0], [1.001, 2.0], [1.0, 1.99]),
}


@pytest.mark.parametrize("name", SETS)
def test_frames_have_one_size_and_intrinsics_follow_it(name, tmp_path):
  SETS[name](tmp_path)
  frames, small = list(load(name, tmp_path)), list(load(name, str(tmp_path), size=(6, 8)))
  assert len(frames) == len(small) >= 2 and len({frame.name for frame in frames}) == len(frames)
  for frame, half in zip(frames, small, strict=True):
    assert isinstance(frame, DepthFrame)
    for one, size in ((frame, (12, 16)), (half, (6, 8))):
      assert one.frame.shape == (*size, 3) and one.frame.dtype == np.uint8
      assert one.depth.shape == one.labels.shape == size
      assert one.depth.dtype == np.float32 and one.labels.dtype == np.int32
      assert np.isfinite(one.depth).all() and (one.depth >= 0).all()
    np.testing.assert_allclose(half.intrinsics, frame.intrinsics / 2)
    assert frame.intrinsics[:2].min() > 0
    np.testing.assert_array_equal(np.isnan(frame.pose), np.isnan(half.pose))
  assert abs(frames[1].frame[0, 0].astype(int) - rgbd_folders.picture(1)[0, 0]).max() <= 8 or (
    name == "scannet"
  )


def test_scannet_has_millimetres_poses_that_may_be_lost_and_labels(tmp_path):
  rgbd_folders.write_scannet(tmp_path)
  frames = list(load("scannet", tmp_path))
  assert [f.name for f in frames[:4]] == [
    "scene0000_00/0", "scene0000_00/20", "scene0000_00/40", "scene0001_00/0",
  ]  # fmt: skip
  np.testing.assert_allclose(frames[2].depth[:, 1:], rgbd_folders.depth_values(2)[:, 1:] / 1000.0)
  assert not frames[2].depth[:, 0].any()
  np.testing.assert_allclose(frames[0].intrinsics, [15, 15, 8, 6])
  np.testing.assert_allclose(frames[2].pose[:3], rgbd_folders.pose_rows(2))
  assert np.isnan(frames[1].pose).all()
  assert frames[2].time_s == pytest.approx(40 / 30)
  assert frames[2].labels[0, 0] == 0 and frames[2].labels[-1, 0] == 302
  (_, frame, _) = load("scannet", tmp_path / "scene0001_00", classes={301: 4})
  assert set(np.unique(frame.labels)) == {UNKNOWN, 4}


def test_icl_nuim_is_turned_to_y_down(tmp_path):
  frames = list(load("icl_nuim", rgbd_folders.write_icl(tmp_path)))
  assert np.isnan(frames[0].pose).all()
  np.testing.assert_allclose(frames[1].depth[:, 1:], rgbd_folders.depth_values(1)[:, 1:] / 5000.0)
  np.testing.assert_allclose(frames[1].intrinsics, [481.2, 480, 320, 240])
  np.testing.assert_allclose(frames[2].pose[:3, 3], [2, -0.25, -1])
  # A point with y up in its camera and world is the mirror image of one with y down.
  cos, sin = np.cos(0.4), np.sin(0.4)  # half angles of 0.2 in the quaternion
  point = np.asarray([0.3, 0.7, 2.0])
  theirs = np.asarray([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ point + [2, 0.25, -1]
  ours = frames[2].pose @ [*(point * [1, -1, 1]), 1]
  np.testing.assert_allclose(ours[:3], theirs * [1, -1, 1], atol=1e-6)
  assert np.linalg.det(frames[2].pose[:3, :3]) == pytest.approx(1)


def test_tum_is_associated_by_time_each_image_once(tmp_path):
  folder = tmp_path / "rgbd_dataset_freiburg2_desk"
  rgbd_folders.write_tum(folder, [5.0, 5.01, 6.0, 7.0], [5.008, 6.019, 7.03], [5.02, 6.0, 9.0])
  frames = list(load("tum_rgbd", folder))
  assert [f.name for f in frames] == ["5.010000", "6.000000"]
  np.testing.assert_allclose(frames[1].depth[:, 1:], rgbd_folders.depth_values(1)[:, 1:] / 5000.0)
  assert frames[1].time_s == pytest.approx(1.0)
  np.testing.assert_allclose(frames[0].intrinsics, [520.9, 521.0, 325.6, 250.2])
  expected = [[0, 0, 1, 6], [0, 1, 0, 0], [-1, 0, 0, 1]]  # a quarter turn about y
  np.testing.assert_allclose(frames[1].pose[:3], expected, atol=1e-6)
  np.testing.assert_allclose(frames[0].pose[0, 3], 5.02, atol=1e-6)
  assert not list(load("tum_rgbd", folder, max_difference_s=0.001))


@pytest.mark.parametrize("seed", range(5))
def test_association_takes_the_closest_pairs_first(seed):
  rng = np.random.default_rng(seed)
  one, other = (
    [Fraction(int(n)) for n in np.sort(rng.choice(1000, 20, replace=False))] for _ in range(2)
  )
  pairs = tum_rgbd.associate(one, other, 30.0)
  rest = sorted((abs(a - b), i, j) for i, a in enumerate(one) for j, b in enumerate(other))
  expected, taken = {}, set()
  for difference, i, j in rest:
    if difference < 30 and i not in expected and j not in taken:
      expected[i] = j
      taken.add(j)
  assert pairs == expected


def test_sun_has_rotated_bits_gravity_and_polygons(tmp_path):
  root = rgbd_folders.write_sun(tmp_path, broken=("xtion/a/b",))
  with pytest.warns(UserWarning, match="index.json has no polygons that can be read"):
    frames = list(load("sun_rgbd", root, classes=("chair", "wall")))
  assert [f.name for f in frames] == ["kv1/NYUdata/NYU0001", "xtion/a/b"]
  np.testing.assert_allclose(frames[1].depth[:, 1:], rgbd_folders.depth_values(1)[:, 1:] / 1000.0)
  np.testing.assert_allclose(frames[0].intrinsics, [15, 14, 8, 6])
  np.testing.assert_allclose(frames[0].pose[1, :3], [0, 0.8, -0.6])
  assert frames[0].labels[5, 8] == 0 and frames[0].labels[0, 0] == 1
  assert (frames[1].labels == UNKNOWN).all()
  frames = load("sun_rgbd", root / "kv1", depth="depth")
  assert next(frames).depth[0, 1] == pytest.approx(1.015)
  with pytest.raises(ValueError, match=r"depth='x'; use one of \('depth_bfx', 'depth'\)"):
    load("sun_rgbd", root, depth="x")


def test_scenenet_has_depth_along_the_axis_and_looks_at_its_target(tmp_path):
  frames = list(load("scenenet_rgbd", rgbd_folders.write_scenenet(tmp_path)))
  np.testing.assert_allclose(frames[0].depth, 2.0, atol=1e-3)
  fx = 8 / np.tan(np.radians(30))
  np.testing.assert_allclose(frames[0].intrinsics[[0, 2, 3]], [fx, 8, 6])
  assert set(np.unique(frames[0].labels)) == {0, 9}
  np.testing.assert_allclose(frames[1].pose[:3, 3], [1.25, 1, 3])
  np.testing.assert_allclose(frames[1].pose[:3, 2], [1, 0, 0], atol=1e-6)  # ahead
  np.testing.assert_allclose(frames[1].pose[:3, 1], [0, -1, 0], atol=1e-6)  # down
  assert np.linalg.det(frames[1].pose[:3, :3]) == pytest.approx(1)
  assert frames[1].time_s == pytest.approx(1.0, abs=1e-5)
  (frame, _) = load("scenenet_rgbd", tmp_path, classes={"04379243": 10})
  assert set(np.unique(frame.labels)) == {UNKNOWN, 10}


def write_nyu(path, num=2, **options):
  h5py = require("h5py", "eval")
  with h5py.File(path, "w") as file:
    pictures = np.stack([rgbd_folders.picture(n) for n in range(num)])
    file.create_dataset("images", data=pictures.transpose(0, 3, 2, 1), **options)
    depth = np.stack([rgbd_folders.depth_values(n) / 1000 for n in range(num)]).astype(np.float32)
    file["rawDepths"] = depth.transpose(0, 2, 1)
    file["depths"] = np.maximum(depth, 0.5).transpose(0, 2, 1)
    labels = np.stack([rgbd_folders.label_values(n) for n in range(num)])
    file["labels"] = labels.transpose(0, 2, 1)
  return path


def test_nyu_is_read_image_by_image(tmp_path):
  need("h5py")
  path = write_nyu(tmp_path / "nyu_depth_v2_labeled.mat", compression="gzip", shuffle=True)
  frames = list(load("nyuv2", tmp_path, depth="raw"))
  np.testing.assert_allclose(frames[1].depth, rgbd_folders.depth_values(1) / 1000.0, rtol=1e-6)
  np.testing.assert_array_equal(frames[1].frame, rgbd_folders.picture(1))
  assert set(np.unique(frames[1].labels)) == {UNKNOWN, 301}
  assert next(load("nyuv2", path)).depth[0, 0] == pytest.approx(0.5)
  np.testing.assert_allclose(frames[0].intrinsics[0], 518.85790117 / 40)
  assert set(np.unique(next(load("nyuv2", path, classes={300: 3})).labels)) == {UNKNOWN, 3}
  with pytest.raises(ValueError, match=r"depth='x'; use one of \['filled', 'raw'\]"):
    load("nyuv2", path, depth="x")


def test_hdf5_that_leads_elsewhere_is_refused(tmp_path):
  need("h5py")
  h5py = require("h5py", "eval")
  other, path = write_nyu(tmp_path / "other.mat"), tmp_path / "x.mat"
  layout = h5py.VirtualLayout((2, 3, 16, 12), np.uint8)
  layout[:] = h5py.VirtualSource(str(other), "images", shape=(2, 3, 16, 12))
  changes = {
    "is a link": lambda f: f.__setitem__("images", h5py.ExternalLink(str(other), "images")),
    "is a link and": lambda f: f.__setitem__("images", h5py.SoftLink("/labels")),
    "stored in other": lambda f: f.create_virtual_dataset("images", layout),
    "in other files": lambda f: f.create_dataset(
      "images", (2, 3, 16, 12), np.uint8, external=[(str(tmp_path / "raw"), 0, 1152)]
    ),
    "filters": lambda f: f.create_dataset("images", (2, 3, 16, 12), np.uint8, compression="lzf"),
    "30000 x 30000": lambda f: f.create_dataset("images", (2, 3, 30000, 30000), np.uint8, chunks=(1, 1, 8, 8)),
    "chunks of": lambda f: f.create_dataset("images", (2, 3, 9000, 12000), np.uint8, chunks=(1, 3, 9000, 12000)),
  }  # fmt: skip
  for message, change in changes.items():
    write_nyu(path)
    with h5py.File(path, "r+") as file:
      del file["images"]
      change(file)
    with pytest.raises(limits.RefusedError, match=message):
      list(load("nyuv2", path))
  path.write_bytes(other.read_bytes()[:200])
  with pytest.raises(ValueError, match="is no HDF5 file, or cut off"):
    list(load("nyuv2", path))
  write_nyu(path)
  with h5py.File(path, "r+") as file:
    del file["labels"]
  with pytest.raises(ValueError, match="has no array 'labels' of 3 axes of numbers"):
    list(load("nyuv2", path))


@pytest.mark.parametrize(
  ("options", "size", "message"),
  [
    ({}, 2**20, "a chunk of 576 bytes inflates to more"),
    ({"shuffle": True, "fletcher32": True}, 577, "a chunk of 576 bytes inflates to more"),
    ({}, 575, "a chunk of 576 bytes inflates to 575"),
  ],
)
def test_a_chunk_that_inflates_to_another_size_is_refused_before_hdf5_reads_it(
  tmp_path, options, size, message
):
  need("h5py")
  h5py = require("h5py", "eval")
  path = write_nyu(tmp_path / "x.mat", compression="gzip", chunks=(1, 3, 16, 12), **options)
  assert len(list(load("nyuv2", path))) == 2
  deflate = zlib.compressobj()
  bomb = b"".join(deflate.compress(bytes(min(2**20, size - i))) for i in range(0, size, 2**20))
  with h5py.File(path, "r+") as file:
    file["images"].id.write_direct_chunk((1, 0, 0, 0), bomb + deflate.flush())
  frames = load("nyuv2", path)
  next(frames)  # the first is intact
  tracemalloc.start()
  try:
    with pytest.raises(limits.RefusedError, match=message):
      next(frames)
    assert tracemalloc.get_traced_memory()[1] < 2**19  # Python's; HDF5 has not read the chunk
  finally:
    tracemalloc.stop()


def test_a_chunk_that_is_no_deflated_data_or_has_a_filter_twice(tmp_path):
  need("h5py")
  h5py = require("h5py", "eval")
  path = write_nyu(tmp_path / "x.mat", compression="gzip", chunks=(1, 3, 16, 12))
  with h5py.File(path, "r+") as file:
    file["images"].id.write_direct_chunk((0, 0, 0, 0), b"no zlib")
  with pytest.raises(ValueError, match="'images': a chunk is damaged"):
    next(load("nyuv2", path))
  with h5py.File(path, "r+") as file:
    file["images"].id.write_direct_chunk((0, 0, 0, 0), bytes(2000))
  with pytest.raises(limits.RefusedError, match="a chunk has 2000 bytes, over 1605"):
    next(load("nyuv2", path))
  with h5py.File(path, "r+") as file:
    del file["images"]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((1, 3, 16, 12))
    plan.set_deflate(1)
    plan.set_filter(1, 0, (9,))
    space = h5py.h5s.create_simple((2, 3, 16, 12))
    h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, space, plan)
  with pytest.raises(limits.RefusedError, match=r"has a filter twice: \[1, 1\]"):
    next(load("nyuv2", path))


@pytest.mark.parametrize(
  ("options", "mask"), [({"compression": "gzip"}, 1), ({"shuffle": True}, 0)]
)
def test_a_chunk_that_is_stored_shorter_than_declared_is_refused(tmp_path, options, mask):
  need("h5py")
  h5py = require("h5py", "eval")
  path = write_nyu(tmp_path / "x.mat", chunks=(1, 3, 16, 12), **options)
  with h5py.File(path, "r+") as file:
    file["images"].id.write_direct_chunk((1, 0, 0, 0), b"abc", mask)
  frames = load("nyuv2", path)
  next(frames)
  with pytest.raises(limits.RefusedError, match="'images': a chunk has 3 bytes instead of 576"):
    next(frames)


def test_an_entry_of_very_many_chunks_is_refused(tmp_path):
  need("h5py")
  h5py = require("h5py", "eval")
  path = write_nyu(tmp_path / "x.mat")
  with h5py.File(path, "r+") as file:
    del file["images"]
    file.create_dataset("images", (1, 3, 256, 256), np.uint8, chunks=(1, 1, 1, 1))
  with pytest.raises(limits.RefusedError, match="an entry of 'images' has 196608 chunks; the most"):
    next(load("nyuv2", path))


# --- damage


@pytest.mark.parametrize("cut", [1, 7, 40, -3])
def test_a_description_that_is_cut_off_is_an_error(cut, tmp_path):
  root = rgbd_folders.write_scenenet(tmp_path)
  path = root / "scenenet_rgbd_val.pb"
  path.write_bytes(path.read_bytes()[:cut])
  with pytest.raises(ValueError, match=r"scenenet_rgbd_val.pb: .*(cut off|damaged)"):
    list(load("scenenet_rgbd", root))


@pytest.mark.parametrize(
  ("number", "value", "text"),
  [(3, b"", "more than 100000 entries"), (2, bytes([8, 1] * 2**16), "a message of 131072 bytes")],
)
def test_a_description_that_would_fill_the_memory_is_refused(number, value, text, tmp_path):
  root = rgbd_folders.write_scenenet(tmp_path)
  one = rgbd_folders.field(number, value)
  data = rgbd_folders.field(1, one * (1 if value else 10**5 + 1))
  (root / "scenenet_rgbd_val.pb").write_bytes(data)
  with pytest.raises(limits.RefusedError, match=text):
    list(load("scenenet_rgbd", root, classes={"04379243": 10}))


def test_a_description_that_leads_elsewhere_is_refused(tmp_path):
  root = rgbd_folders.write_scenenet(tmp_path)
  view = rgbd_folders.view(0, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0))
  data = rgbd_folders.field(1, rgbd_folders.field(3, view) + rgbd_folders.field(4, "../../x"))
  (root / "scenenet_rgbd_val.pb").write_bytes(data)
  with pytest.raises(limits.RefusedError, match="is not inside it"):
    list(load("scenenet_rgbd", root))
  with pytest.raises(limits.RefusedError, match="is not inside it"):
    load("scenenet_rgbd", root, protobuf_file="../other.pb")
  (root / "scenenet_rgbd_val.pb").write_bytes(
    rgbd_folders.field(1, rgbd_folders.field(3, 5) + rgbd_folders.field(4, "0/7"))
  )
  with pytest.raises(ValueError, match="a number where a message is expected"):
    list(load("scenenet_rgbd", root))


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_fields_or_a_value_error(seed):
  data = memoryview(np.random.default_rng(seed).bytes(64))
  try:
    list(protobuf.fields(data, "x"))
  except ValueError as error:
    assert str(error).startswith("x: ")


def test_every_kind_of_field_is_read():
  nested = rgbd_folders.field(2, "äbc")
  double = bytes([4 << 3 | 1]) + np.float64(0.1).tobytes()
  data = rgbd_folders.field(1, 300) + rgbd_folders.field(3, nested) + double
  found = dict(protobuf.fields(memoryview(data + rgbd_folders.field(5, 0.5)), "x"))
  assert found[1] == 300 and found[4] == 0.1 and found[5] == 0.5
  assert isinstance(found[3], memoryview)
  assert protobuf.text(dict(protobuf.fields(found[3], "x"))[2]) == "äbc"


@pytest.mark.parametrize(
  ("name", "file", "content", "message"),
  [
    ("icl_nuim", "associations.txt", "0 depth/0.png 0", "expected a number, a depth file"),
    ("icl_nuim", "associations.txt", "0 ../0.png 0 rgb/0.png", "is not inside it"),
    ("icl_nuim", "livingRoom0.gt.freiburg", "1 2 3", "expected a number, tx ty tz qx qy qz qw"),
    ("scannet", "scene0000_00/intrinsic/intrinsic_depth.txt", "1 2", "2 numbers; expected 3 x 4"),
    ("scannet", "scene0000_00/pose/0.txt", 12 * "x ", "expected 3 x 4 numbers"),
    ("scannet", "scene0000_00/intrinsic/intrinsic_depth.txt", 12 * "0 ", "expected positive focal"),
    ("sun_rgbd", "kv1/NYUdata/NYU0001/intrinsics.txt", 9 * "nan ", "expected positive focal"),
    ("sun_rgbd", "kv1/NYUdata/NYU0001/depth_bfx/x.png", "PNG", "is cut off"),
    ("scenenet_rgbd", "val/0/7/photo/0.jpg", "x", "cannot be decoded"),
  ],
)
def test_damaged_files_are_named(name, file, content, message, tmp_path):
  SETS[name](tmp_path)
  (tmp_path / file).write_text(content)
  with pytest.raises(ValueError, match=message):
    list(load(name, tmp_path))


def test_labels_are_mapped_by_a_table_and_depth_that_is_no_number_is_unknown():
  ids = np.asarray([[3, 7], [7, 9]], np.uint16)
  np.testing.assert_array_equal(rgbd.mapped(ids, {7: 1}), [[UNKNOWN, 1], [1, UNKNOWN]])
  np.testing.assert_array_equal(rgbd.mapped(ids, None), ids)
  depth = np.asarray([[np.nan, np.inf], [-1.0, 2.0]])
  frame = rgbd.make("x", np.zeros((4, 4, 3), np.uint8), depth, np.ones(4))
  np.testing.assert_array_equal(frame.depth, [[0, 0], [0, 2]])
  assert (frame.labels == UNKNOWN).all() and np.isnan(frame.pose).all()
