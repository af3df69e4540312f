"""Stored clips become ticks in metres and pixels; what is not there is said. No TensorFlow."""

import numpy as np
import pytest
from record_files import movi
from stream_checks import BARS
from video_files import number_of

from perceiver_stream.streams import tfrecord
from perceiver_stream.streams.clips import POINTS, features_of, make_clip
from perceiver_stream.streams.damage import DamagedError

ALL = tfrecord.MODALITIES


def clip_of(stored, **fields):
  fields = BARS | {"modalities": ALL, "num_points": 5} | fields
  return make_clip(stored, tfrecord.Config(path="x", **fields), "a.tfrecord: record 3")


def test_ranges_become_metres_and_pixels():
  clip = clip_of(movi(3, 4))
  pixels, valid = clip["pixels"]
  assert [number_of(p) for p in pixels] == [3, 4, 5, 6] and valid.all()
  np.testing.assert_allclose(clip["depth"][0].max((1, 2)), [0.3, 0.4, 0.5, 0.6], rtol=1e-5)
  assert (clip["depth"][0].min((1, 2)) == clip["depth"][0].max((1, 2))).all()
  assert [np.unique(s).tolist() for s in clip["segmentation"][0]] == [[3], [4], [5], [6]]
  np.testing.assert_allclose(clip["camera"][0][1].reshape(3, 4)[:, 3], [3, 4, 5])
  np.testing.assert_array_equal(clip["camera"][0][1].reshape(3, 4)[:, :3], np.eye(3))


def test_flow_is_x_y_and_not_valid_where_there_is_no_other_picture():
  clip = clip_of(movi(0, 4))
  flow, valid = clip["flow"]
  np.testing.assert_allclose(flow[..., 0], -1.0, atol=1e-6)
  np.testing.assert_allclose(flow[..., 1], 3.0, atol=1e-6)
  assert valid.tolist() == [True, True, True, False]
  backward, valid = clip["flow_backward"]
  np.testing.assert_allclose(backward[0, 0, 0], [3.0, -1.0], atol=1e-6)
  assert valid.tolist() == [False, True, True, True]
  np.testing.assert_array_equal(clip_of(movi(0, 4), flow_order="xy")["flow"][0], flow[..., ::-1])


@pytest.mark.parametrize("crop", ["centre", "squash"])
def test_flow_and_points_shrink_with_the_picture(crop):
  stored = movi(0, 3)  # 24 x 48
  stored["target_points"] = np.tile(
    np.array([[24.0, 12.0], [30.0, 4.0], [1.0, 12.0]], "f4")[:, None], (1, 3, 1)
  )
  stored["occluded"] = np.zeros((3, 3), np.int64)
  clip = clip_of(stored, height=12, width=12, crop=crop)
  zoom = {"centre": 0.5, "squash": 0.25}[crop]
  np.testing.assert_allclose(clip["flow"][0][0, 0, 0], [-zoom, 1.5], atol=1e-6)
  points, visible = clip["points"][0][0], clip["points_visible"][0][0]
  np.testing.assert_allclose(points[0], [6, 6])
  np.testing.assert_allclose(points[1], [6 + 6 * zoom, 2])
  assert visible.tolist() == [True, True, crop == "squash", False, False], "cut off on the left"


def test_tracks_fill_slots_and_the_rest_is_never_visible():
  clip = clip_of(movi(0, 4))
  visible = clip["points_visible"][0]
  np.testing.assert_array_equal(visible[:, :3], 1 - movi(0, 4)["occluded"].T)
  assert not visible[:, 3:].any()
  np.testing.assert_array_equal(clip["points_id"][0], np.tile(np.arange(5), (4, 1)))
  assert clip_of(movi(0, 4), num_points=2)["points"][0].shape == (4, 2, 2)


def test_distance_becomes_depth_where_the_lens_is_known():
  stored = movi(1, 2)
  stored["depth"] = np.full((2, 24, 48, 1), 65535, np.uint16)
  lens = {"camera/focal_length": np.float32(35), "camera/sensor_width": np.float32(32)}
  flat = clip_of(stored)["depth"][0]
  depth = clip_of(stored | lens)["depth"][0]
  x = (np.arange(48) + 0.5 - 24) / 48 * 32 / 35
  y = (np.arange(24) + 0.5 - 12) / 48 * 32 / 35
  expected = 6.5535 / np.sqrt(1 + x[None] ** 2 + y[:, None] ** 2)
  np.testing.assert_allclose(flat, 6.5535, rtol=1e-6)
  np.testing.assert_allclose(depth[0], expected, rtol=1e-5)


def test_only_what_is_asked_for_is_needed():
  stored = movi(0, 3)
  assert features_of(("pixels", "depth")) == ("video", "depth", "metadata/depth_range")
  del stored["segmentations"], stored["metadata/forward_flow_range"]
  assert set(clip_of(stored, modalities=("pixels", "depth"))) == {"pixels", "depth"}
  with pytest.raises(
    DamagedError, match=r"record 3 has no \['metadata/forward_flow_range', 'segmentations'\]"
  ):
    clip_of(stored)


def test_sizes_must_agree():
  stored = movi(0, 3)
  stored["depth"] = stored["depth"][:2]
  with pytest.raises(DamagedError, match=r"depth is \(2, 24, 48, 1\), expected as many"):
    clip_of(stored)


@pytest.mark.parametrize(
  "fields",
  [{"audio_rate_hz": 12000}, {"height": 0}, {"num_points": 0}, {"crop": "fit"}, {"loops": 0}]
  + [{"flow_order": "xyz"}, {"modalities": ()}, {"modalities": ("pixels", "sound")}]
  + [{"modalities": ("pixels", POINTS[0])}],
)
def test_wrong_fields_are_refused(fields):
  with pytest.raises(ValueError, match=f"tfrecord: {next(iter(fields))}="):
    tfrecord.Config(**fields)


def test_without_tensorflow_it_says_what_to_install(tmp_path, monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
  (tmp_path / "a.tfrecord").touch()
  from perceiver_stream import streams

  iterator = iter(streams.open_rows(tfrecord.Config(path=str(tmp_path)))[0])
  with pytest.raises(ImportError, match=r'tensorflow is not there .*"perceiver_stream\[tf\]"'):
    next(iterator)
