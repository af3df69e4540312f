"""LeRobot data sets are read frame by frame; damaged and harmful ones give clear errors."""

import json
import struct

import numpy as np
import pytest
from extras import need
from lerobot_folders import CAMERAS, info, movie, write_lerobot, write_table
from stream_checks import BARS, assert_restores, assert_same
from video_files import number_of

from perceiver_stream import streams
from perceiver_stream.files import limits
from perceiver_stream.streams import lerobot
from perceiver_stream.streams.damage import DamagedError

need("pyarrow")


def ticks(path, **fields):
  (row,) = streams.open_rows(lerobot.Config(path=str(path), **BARS | fields))
  return list(row)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return write_lerobot(tmp_path_factory.mktemp("sets") / "v3", (7, 4, 6))


def test_episodes_of_one_file_are_recordings(folder):
  found = ticks(folder)
  assert [number_of(tick["pixels"]) for tick in found] == [*range(17)]
  assert [at for at, tick in enumerate(found) if tick["is_first"]] == [0, 7, 11]
  state = np.array([tick["proprioception"] for tick in found])
  np.testing.assert_array_equal(state[:, 0], [*range(7), *range(100, 104), *range(200, 206)])
  np.testing.assert_array_equal([tick["actions"] for tick in found], -state[:, :2])
  assert all(tick[f"{name}_valid"] for tick in found for name in ("pixels", "actions"))


def test_version_2_has_the_same_ticks(folder, tmp_path):
  older = write_lerobot(tmp_path / "v2", (7, 4, 6), v3=False)
  for one, other in zip(ticks(older), ticks(folder), strict=True):
    np.testing.assert_allclose(one.pop("pixels"), other.pop("pixels"), atol=12)  # other key frames
    assert_same(one, other)


@pytest.mark.parametrize("rate_hz", [12.5, 50.0])
def test_ticks_have_the_rate_of_the_config(folder, rate_hz):
  found = ticks(folder, rate_hz=rate_hz, episodes=(0,))
  numbers = [number_of(tick["pixels"]) for tick in found]
  assert numbers == [int(at * 25 / rate_hz) for at in range(len(found))] and numbers[-1] == 6


def test_cameras_features_and_episodes_are_chosen(folder):
  config = lerobot.Config(
    path=str(folder), features=(f"pixels={CAMERAS[1]}", "t=timestamp"), episodes=(1, 2), **BARS
  )
  assert {n: s.shape for n, s in streams.specs(config).items()} == {
    "pixels": (24, 48, 3),
    "t": (1,),
  }
  rows = [assert_restores(row) for row in streams.open_rows(config, 2)]
  assert [[number_of(tick["pixels"]) for tick in row] for row in rows] == [
    [*range(1007, 1011)],
    [*range(1011, 1017)],
  ]
  np.testing.assert_allclose(rows[1][5]["t"], [5 / 25])


def test_a_data_set_is_a_video_of_its_first_camera(folder):
  config = streams.video.Config(path=str(folder), **BARS)
  found = list(streams.open_rows(config)[0])
  assert [number_of(tick["pixels"]) for tick in found] == [*range(17)]
  assert found[0]["audio"].shape == (640,) and not found[3]["audio_valid"]


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"features": ("depth",)}, r"'depth' is not in .*the videos \['observation.images.top'"),
    ({"features": ("words=task",)}, "stored in a way that is not read"),
    ({"episodes": (1, 9)}, r"episodes=\[9\] are not among the 3"),
  ],
)
def test_what_is_not_there(folder, fields, message):
  with pytest.raises(ValueError, match=message):
    ticks(folder, **fields)


def test_paths_and_rows(folder, tmp_path):
  with pytest.raises(FileNotFoundError, match="is no data set: it has no meta/info.json"):
    ticks(tmp_path)
  with pytest.raises(ValueError, match="4 rows need at least as many episodes, .* has 3"):
    streams.open_rows(lerobot.Config(path=str(folder)), 4)


@pytest.mark.parametrize(
  "field",
  [
    {"height": 0},
    {"crop": "round"},
    {"on_damage": "cry"},
    {"loops": 0},
    {"features": ("a=b", "a")},
  ],
)
def test_wrong_fields_are_refused(field):
  with pytest.raises(ValueError, match=f"lerobot: {next(iter(field))}="):
    lerobot.Config(**field)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"codebase_version": "v9"}, "codebase_version is 'v9', expected one of"),
    ({"fps": 0}, "rate_hz=0.0 ticks per second"),
    ({"fps": "fast"}, "could not convert string to float"),
    ({"features": []}, "AttributeError"),
    ({"features": {"a": {"dtype": "float32", "shape": [10**9, 10**9]}}}, "has the shape"),
    ({"data_path": "../{chunk_index}"}, "not inside it"),
    ({"data_path": "/etc/passwd"}, "not inside it"),
    ({"data_path": "{chunk_index.__class__}"}, "there is no file"),
    ({"data_path": "{secret}"}, "has '{secret}'"),
  ],
)
def test_descriptions_that_are_wrong_or_harmful(tmp_path, changes, message):
  folder = tmp_path / "set"
  (folder / "meta").mkdir(parents=True)
  (folder / "meta/info.json").write_text(json.dumps(info(**changes)))
  places = {"chunk_index": [0], "file_index": [0]}
  columns = {"episode_index": [0], "length": [5]} | {f"data/{n}": v for n, v in places.items()}
  for camera in CAMERAS:
    columns |= {f"videos/{camera}/{n}": v for n, v in places.items()}
    columns[f"videos/{camera}/from_timestamp"] = [0.0]
  write_table(folder / "meta/episodes/chunk-000/file-000.parquet", columns)
  with pytest.raises(ValueError, match=message):
    ticks(folder, features=("actions",) if "features" not in changes else ())


@pytest.mark.parametrize(
  ("column", "value", "message"),
  [
    ("length", -1, "episode 0 of .* has -1 frames"),
    ("length", 2**40, "has 1099511627776 frames"),
    ("length", 3, "has 4 frames of episode 0, which should have 3"),
    ("episode_index", 7, "has 0 frames of episode 7"),
    (f"videos/{CAMERAS[0]}/from_timestamp", float("nan"), "starts at"),
    (f"videos/{CAMERAS[0]}/from_timestamp", 99.0, "has no image at 99.000 s"),
    ("data/file_index", 5, "there is no file .*file-005.parquet"),
  ],
)
def test_lists_of_episodes_that_are_wrong(tmp_path, column, value, message):
  import pyarrow.parquet

  folder = write_lerobot(tmp_path / "set", (4,))
  path = folder / "meta/episodes/chunk-000/file-000.parquet"
  columns = pyarrow.parquet.read_table(path).to_pydict()
  write_table(path, columns | {column: [value]})
  with pytest.raises(ValueError, match=message):
    ticks(folder)


def test_tables_that_are_damaged_or_state_too_much(tmp_path, monkeypatch):
  folder = write_lerobot(tmp_path / "set", (4,))
  path = folder / "data/chunk-000/file-000.parquet"
  whole = path.read_bytes()
  for data in (whole[:-20], whole[:50], b"", whole[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1"):
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="cannot be read"):
      ticks(folder)
  path.write_bytes(whole)
  write_table(folder / "meta/episodes/chunk-000/file-000.parquet", {"episode_index": [0]})
  with pytest.raises(DamagedError, match=r"has no column \['length', 'data/chunk_index'"):
    ticks(folder)
  monkeypatch.setattr(limits, "MAX_MESSAGES", 3)
  with pytest.raises(limits.RefusedError, match="states 4 rows and .* the most is 3"):
    lerobot.read_vectors(*_source(folder), ["action"])


def _source(folder):
  place = {"data": {"chunk_index": 0, "file_index": 0}}
  return lerobot.read_info(str(folder)), lerobot.Episode(0, 4, place, {})


def test_a_column_of_another_size(tmp_path):
  folder = write_lerobot(tmp_path / "set", (3,))
  path = folder / "data/chunk-000/file-000.parquet"
  write_table(path, {"episode_index": [0] * 3, "action": [[1.0, 2.0], [3.0], [4.0, 5.0]]})
  with pytest.raises(DamagedError, match="'action' of .* 5 values of float64 in 3 rows of 2"):
    ticks(folder, features=("actions",))
  write_table(path, {"episode_index": [0] * 3, "action": ["a", "b", "c"]})
  with pytest.raises(DamagedError, match="'action' of .* cannot be used"):
    ticks(folder, features=("actions",))


def test_a_video_that_is_too_short(tmp_path):
  folder = write_lerobot(tmp_path / "set", (6,))
  movie(folder / f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4", 0, 4)
  with pytest.raises(
    DamagedError, match="frame 4 of observation.images.top: .*has no image at 0.160"
  ):
    ticks(folder)
  found = ticks(folder, on_damage="skip")
  assert [bool(tick["pixels_valid"]) for tick in found] == [True] * 4 + [False] * 2
  assert number_of(found[5]["pixels"]) == 3
