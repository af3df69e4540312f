"""Loaders read the formats of the field, and say what is missing where data are not there."""

import pathlib
import pkgutil

import data_files
import numpy as np
import PIL.Image
import pytest
import record_files
from extras import need
from scenes import moving

from perceiver_stream.evaluation import clips, datasets
from perceiver_stream.evaluation.datasets import UNKNOWN, load
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.utils.optional import require


@pytest.mark.parametrize("name", sorted(datasets.DATASETS))
def test_a_folder_that_is_not_there_is_told_with_source_and_layout(name, tmp_path):
  if name == "jhmdb":
    need("scipy")
  message = r"there is no .*nowhere.* not fetched for you: get it from the [\s\S]*layout:\n  "
  with pytest.raises(FileNotFoundError, match=message):
    load(name, str(tmp_path / "nowhere"))


def test_an_unknown_name_lists_the_others():
  with pytest.raises(ValueError, match=r"there is no 'davos'; use one of \['davis', "):
    load("davos", "x")


def test_every_file_of_a_data_set_is_listed():
  files = {module.name for module in pkgutil.iter_modules(datasets.__path__)}
  listed = {load.__module__.rpartition(".")[2] for load in datasets.DATASETS.values()}
  assert files - {"base", "files", "hdf5", "rgbd"} == listed


@pytest.mark.parametrize("name", [n for n in sorted(datasets.DATASETS) if n != "jhmdb"])
def test_an_empty_folder_is_told_when_it_is_named_not_later(name, tmp_path):
  if name.startswith("movi"):
    need("tensorflow")
  with pytest.raises((FileNotFoundError, ValueError)):
    next(load(name, str(tmp_path)))


# --- points


def alike(frames, expected, mean=4):
  """Frames differ by a few levels where a codec was at them."""
  assert np.abs(frames.astype(int) - expected).mean() <= mean


def same_clip(clip, frames, points, occluded, mean=0):
  alike(clip.frames, frames, mean)
  np.testing.assert_allclose(clip.tracks, points * frames.shape[2:0:-1], rtol=1e-6)
  np.testing.assert_array_equal(clip.occluded, occluded)


@pytest.mark.parametrize("kind", ["dict", "list", "jpeg", "npz", "jpeg npz", "folder"])
def test_tapvid_is_read_in_every_form(kind, tmp_path):
  video = data_files.tapvid_video(as_jpeg="jpeg" in kind)
  if "npz" in kind:
    path = tmp_path / "video.npz"
    np.savez(path, **video)
  else:
    value = {"a": video} if kind == "dict" else [video]
    path = data_files.write_pickle(tmp_path / "0000_of_0001.pkl", value)
  (clip,) = load("tapvid", tmp_path if kind == "folder" else path, size=None)
  frames = data_files.tapvid_video()["video"]
  same_clip(clip, frames, video["points"], video["occluded"], mean=4 if "jpeg" in kind else 0)
  (squashed,) = load("tapvid", path, size=(16, 64))
  assert squashed.frames.shape == (6, 16, 64, 3)
  np.testing.assert_allclose(squashed.tracks, clip.tracks * [2, 0.5])
  one, two = (clips.score(clips.BASELINES["static"], [c]) for c in (clip, squashed))
  for key in one:
    np.testing.assert_allclose(one[key], two[key])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_jpegs_survive_every_pickle_protocol(protocol, tmp_path):
  video = data_files.tapvid_video(as_jpeg=True)
  for stored in (video["video"], list(video["video"]), tuple(map(bytes, video["video"]))):
    path = data_files.write_pickle(tmp_path / "x.pkl", [video | {"video": stored}], protocol)
    (clip,) = load("tapvid", path, size=None)
    alike(clip.frames, moving(6))


def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path):
  trace = tmp_path / "was_here"
  path = data_files.write_pickle(tmp_path / "x.pkl", [{"video": Command(trace)}])
  with pytest.raises(ValueError, match=r"x.pkl: refused: the pickle requests pathlib"):
    list(load("tapvid", path))
  objects = np.array([b"a", None], object)
  path = data_files.write_pickle(tmp_path / "y.pkl", [{"video": objects}])
  with pytest.raises(ValueError, match="y.pkl: refused: an array of objects; only one value"):
    list(load("tapvid", path))
  assert not trace.exists()


class Command:
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def broken(**changes):
  video = data_files.tapvid_video()
  return video | {k: change(video[k]) for k, change in changes.items()}


@pytest.mark.parametrize(
  ("video", "message"),
  [
    (broken(video=lambda v: v[:4]), r"expected points \[N, 4, 2\] and occluded \[N, 4\]"),
    (broken(points=lambda p: p[..., :1]), r"expected points \[N, 6, 2\]"),
    (broken(points=lambda p: p * np.nan), "a visible point is not finite"),
    (broken(video=lambda v: v / 255.0), r"video float64 \[6, 32, 32, 3\]; expected uint8"),
    (broken(video=lambda v: [b"no picture"] * 6), r"\(10 bytes\) cannot be decoded"),
    ({"video": 0}, r"has no \['points', 'occluded'\]"),
    ("text", r"has no \['video', "),
  ],
)
def test_a_video_that_does_not_fit_its_tracks_is_refused_by_name(video, message, tmp_path):
  path = data_files.write_pickle(tmp_path / "bad.pkl", {"cows": video})
  with pytest.raises(ValueError, match=f"bad.pkl: video cows.*{message}"):
    list(load("tapvid", path))


def test_hidden_points_may_be_nan(tmp_path):
  video = data_files.tapvid_video()
  video["points"][video["occluded"]] = np.nan
  path = data_files.write_pickle(tmp_path / "x.pkl", [video])
  numbers = clips.score(clips.BASELINES["static"], load("tapvid", path))
  assert np.isfinite(numbers["average_jaccard"]).all()


def test_perception_test_has_points_where_they_are_annotated(tmp_path):
  (clip,) = load("perception_test_points", data_files.write_perception_test(tmp_path), size=None)
  assert clip.occluded.tolist() == [[True, False, False, True, False, True]]
  np.testing.assert_allclose(clip.tracks[0, [1, 2, 4]], [[8, 16], [9, 16], [11, 16]])
  alike(clip.frames, moving(6), mean=10)


def test_perception_test_has_boxes_from_the_initial_one_on(tmp_path):
  root = data_files.write_perception_test(tmp_path)
  (clip,) = load("perception_test_boxes", root, size=(16, 16))
  assert clip.present.tolist() == [[False, False, True, False, True, False]]
  np.testing.assert_allclose(clip.boxes[0, [2, 4]], [[0.2, 0.2, 0.6, 0.4], [0.2, 0.3, 0.6, 0.5]])
  assert clip.frames.shape == (6, 16, 16, 3) and clip.name == "video_0001"


def test_a_track_that_outlasts_its_video_and_a_missing_video_are_told(tmp_path):
  track = {"id": 7, "frame_ids": [0, 6], "points": [[0.5, 0.5], [0.5, 0.5]]}
  root = data_files.write_perception_test(tmp_path, point_tracking=[track])
  with pytest.raises(ValueError, match=r"point_tracking 7: .* at frames 0 to 6 of a video of 6"):
    list(load("perception_test_points", root))
  (root / "videos" / "video_0001.mp4").unlink()
  with pytest.raises(FileNotFoundError, match="there is no .*video_0001.mp4"):
    list(load("perception_test_boxes", root))


def test_movi_points_and_masks_come_from_npz(tmp_path):
  for name in "ab":
    np.savez(tmp_path / f"{name}.npz", **data_files.movi())
  found = list(load("movi_points", tmp_path, size=(32, 32), num_ticks=4, num_points=5))
  points, occluded = data_files.tracks(ticks=4)
  seen = ~occluded.all(axis=1)
  assert len(found) == 2
  same_clip(found[1], moving(4), points[seen], occluded[seen], mean=2)
  masks = list(load("movi_masks", tmp_path, size=(32, 32), num_ticks=2))
  assert len(masks) == 4
  np.testing.assert_array_equal(masks[3].masks, data_files.masks(4)[2:])


def test_movi_without_points_says_so(tmp_path):
  stored = data_files.movi()
  del stored["target_points"]
  np.savez(tmp_path / "a.npz", **stored)
  with pytest.raises(DamagedError, match=r"a.npz has no \['target_points'\]"):
    list(load("movi_points", tmp_path))


# --- masks


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_davis_masks_are_the_ids_of_the_palette(bits, tmp_path):
  ids = data_files.masks(ids=(3, 1))
  write = lambda mask: data_files.palette_png(mask, bits)  # noqa: E731
  root = data_files.write_davis(tmp_path, {"cows": ids, "goat": ids[:3]}, write=write)
  cows, goat = load("davis", root)
  np.testing.assert_array_equal(cows.masks, ids)
  assert (cows.name, goat.name, len(goat.frames)) == ("cows", "goat", 3)
  alike(cows.frames, moving(5))
  small = next(load("davis", root, size=(16, 16)))
  assert small.masks.shape == (5, 16, 16) and set(np.unique(small.masks)) == {0, 1, 3}


def test_grey_one_bit_and_sixteen_bit_masks_are_numbers_and_colours_are_not(tmp_path):
  ids = data_files.masks(2)
  bit = lambda mask: PIL.Image.fromarray(mask > 0)  # noqa: E731
  root = data_files.write_davis(tmp_path / "grey", {"a": ids}, write=data_files.png)
  np.testing.assert_array_equal(next(load("davis", root)).masks, ids)
  wide = lambda mask: data_files.png(mask.astype(np.uint16) * 300)  # noqa: E731
  root = data_files.write_davis(tmp_path / "wide", {"a": ids}, write=wide)
  np.testing.assert_array_equal(next(load("davis", root)).masks, ids.astype(int) * 300)
  bit(ids[1]).save(tmp_path / "wide" / "Annotations" / "480p" / "a" / "00001.png")
  np.testing.assert_array_equal(next(load("davis", root)).masks[1], ids[1] > 0)
  colours = lambda mask: data_files.png(np.stack([mask] * 3, -1))  # noqa: E731
  root = data_files.write_davis(tmp_path / "rgb", {"a": ids}, write=colours)
  with pytest.raises(DamagedError, match="00000.png has rgb24 pixels, expected a palette or grey"):
    list(load("davis", root))


def test_void_is_unknown_and_frames_without_a_mask_too(tmp_path):
  ids = data_files.masks(6)
  ids[3, 0, 0] = 255
  root = data_files.write_davis(tmp_path, {"a": ids}, write=data_files.png)
  for gone in ("00000", "00004"):
    (root / "Annotations" / "480p" / "a" / f"{gone}.png").unlink()
  clip = next(load("davis", root))
  assert len(clip.frames) == 5  # what comes before the first mask is left out
  alike(clip.frames[0], moving(6)[1])
  assert (clip.masks[3] == UNKNOWN).all() and clip.masks[2, 0, 0] == UNKNOWN
  np.testing.assert_array_equal(clip.masks[[0, 1, 4]], ids[[1, 2, 5]])


@pytest.mark.parametrize(
  ("gone", "message"),
  [
    ("JPEGImages/480p/a/00002.jpg", "a: 1 frames are missing between 0 and 4, the first is 2"),
    ("JPEGImages/480p/a/00004.jpg", r"a: 4 frames, 5 masks, and no frame for the masks \[4\]"),
    ("Annotations/480p/a/*.png", "a: 5 frames, 0 masks; expected at least one mask"),
  ],
)
def test_gaps_in_folders_are_told(gone, message, tmp_path):
  root = data_files.write_davis(tmp_path, {"a": data_files.masks()}, write=data_files.png)
  for path in root.glob(gone):
    path.unlink()
  with pytest.raises(ValueError, match=message):
    list(load("davis", root))


def test_masks_of_another_size_need_a_size_to_be_given(tmp_path):
  root = data_files.write_davis(tmp_path, {"a": data_files.masks(2)}, write=data_files.png)
  path = root / "Annotations" / "480p" / "a" / "00001.png"
  path.write_bytes(data_files.png(data_files.masks(1, 64)[0]))
  with pytest.raises(ValueError, match=r"mask 00001.png is \[64, 64\], its frame \[32, 32\]"):
    list(load("davis", root))
  assert next(load("davis", root, size=(32, 32))).masks.shape == (2, 32, 32)


def test_vip_has_classes_on_frames_that_are_far_apart(tmp_path):
  ids = data_files.masks(3, ids=(5, 19))
  (clip,) = load("vip", data_files.write_vip(tmp_path, {"videos1": ids}))
  np.testing.assert_array_equal(clip.masks, ids)
  with pytest.raises(ValueError, match=r"kind='Things'; use one of \('Category_ids'"):
    load("vip", tmp_path, kind="Things")
  with pytest.raises(FileNotFoundError, match="Human_ids"):
    load("vip", tmp_path, kind="Human_ids")


# --- joints


def body(ticks=4):
  rng = np.random.default_rng(1)
  joints = rng.uniform(2, 20, (1, 15, 2)) + np.arange(ticks)[:, None, None]
  joints[:, 14] = (40, 5)  # outside
  return joints


def test_jhmdb_has_joints_of_the_split(tmp_path):
  clips_ = {("run", "one"): body(), ("run", "two"): body(3), ("sit", "three"): body(2)}
  root = data_files.write_jhmdb(tmp_path, clips_)
  one, three = load("jhmdb", root)
  assert (one.name, three.name) == ("one", "three")
  np.testing.assert_allclose(one.joints, body())
  assert one.frames.shape == (4, 24, 32, 3)
  assert one.visible[:, :14].all() and not one.visible[:, 14].any()
  (two,) = load("jhmdb", root, split="train", size=(48, 32))
  np.testing.assert_allclose(two.joints, body(3) * [1, 2])
  assert two.frames.shape == (3, 48, 32, 3)


def test_jhmdb_says_what_does_not_fit(tmp_path):
  root = data_files.write_jhmdb(tmp_path, {("run", "one"): body()})
  with pytest.raises(ValueError, match=r"split='val'; use one of \['test', 'train'\]"):
    load("jhmdb", root, split="val")
  with pytest.raises(FileNotFoundError, match="_test_split3.txt"):
    load("jhmdb", root, fold=3)
  frames = sorted((root / "Rename_Images" / "run" / "one").iterdir())
  for path in frames[2:]:
    path.unlink()
  with pytest.raises(ValueError, match=r"one: pos_img \[2, 15, 4\] for 2 frames"):
    list(load("jhmdb", root))
  (root / "joint_positions" / "run" / "one" / "joint_positions.mat").write_bytes(b"no")
  with pytest.raises(DamagedError, match="joint_positions.mat cannot be read"):
    list(load("jhmdb", root))


def test_movi_comes_from_records_too(tmp_path):
  need("tensorflow")
  record_files.write_records(
    require("tensorflow", "tf"), tmp_path / "a.tfrecord", [data_files.movi()]
  )
  (clip,) = load("movi_points", tmp_path / "a.tfrecord", size=(32, 32), num_ticks=4, num_points=5)
  points, occluded = data_files.tracks(ticks=4)
  seen = ~occluded.all(axis=1)
  same_clip(clip, moving(4), points[seen], occluded[seen], mean=2)


def test_boxes_of_ticks_are_around_their_masks():
  ticks = [
    {"pixels": np.zeros((4, 8, 3), np.uint8), "segmentation": np.zeros((4, 8), np.int32)}
    for _ in range(4)
  ]
  ticks[0]["segmentation"][1:3, 2:6] = 3
  ticks[1]["segmentation"][0, 0] = 9  # ids may jump
  first, second = datasets.boxes_from_ticks(ticks, num_ticks=2)
  assert first.present.tolist() == [[True, False], [False, True]]
  np.testing.assert_allclose(first.boxes[0, 0], [0.25, 0.25, 0.75, 0.75])
  np.testing.assert_allclose(first.boxes[1], [[0, 0, 0, 0], [0, 0, 0.25, 0.125]])
  assert second.boxes.shape == (0, 2, 4)
