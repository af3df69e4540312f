"""scripts/track.py as a user runs it."""

import csv

import av
import numpy as np
import pytest
from commands import synthetic_movie

from perceiver_stream import streams
from perceiver_stream.evaluation import trackers
from perceiver_stream.evaluation.trackers_online import TrackChunk
from perceiver_stream.inference import track_videos, track_writers
from perceiver_stream.reporting import images
from perceiver_stream.reporting.video_writer import VideoWriter
from perceiver_stream.streams import probe

SIZE, TICKS = (48, 64), 19  # not a multiple of the pieces


@pytest.fixture
def run(command):
  return lambda *args: command("track", *args)


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
  return synthetic_movie(tmp_path_factory.mktemp("movie") / "in.mp4", TICKS, SIZE)


def frames_of(path):
  with av.open(str(path)) as file:
    return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def test_a_video_gives_its_tracks_in_three_files(run, movie, tmp_path):
  out = run(movie, "--points=0,20.5,30.25;11,40,10", "--model=lk", f"--output={tmp_path / 'o'}")
  assert "lk_gray, without learning" in out and f"2 points, {TICKS} frames" in out
  overlay = frames_of(tmp_path / "o" / "overlay.mp4")
  assert overlay.shape == (TICKS, *SIZE, 3)
  with np.load(tmp_path / "o" / "tracks.npz") as file:
    tracks, visible, queries = file["tracks"], file["visible"], file["queries"]
    np.testing.assert_allclose(file["time_s"], np.arange(TICKS) / 25, atol=1e-6)
    assert file["certainty"].shape == (2, TICKS)
  np.testing.assert_array_equal(queries, [[0, 20.5, 30.25], [11, 40, 10]])
  frames = frames_of(movie)
  expected, hidden = trackers.track(frames, queries[:, [0, 2, 1]], trackers.TRACKERS["lk_gray"])
  np.testing.assert_allclose(tracks[0], expected[0], atol=0.1)  # the same decoder, other rounding
  np.testing.assert_array_equal(visible[0], ~hidden[0])
  assert np.isnan(tracks[1, :11]).all() and not visible[1, :11].any()
  with (tmp_path / "o" / "tracks.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert tuple(rows[0]) == track_writers.COLUMNS and len(rows) == TICKS + TICKS - 11
  last = rows[-1]
  assert (last["point"], last["frame"], last["certainty"]) == ("1", str(TICKS - 1), "")
  np.testing.assert_allclose([float(last["x"]), float(last["y"])], tracks[1, -1], atol=1e-3)


def test_frames_are_the_files_pictures_whatever_its_rate(run, tmp_path):
  """As phones record: times shake, and some pictures stay for twice as long."""
  times = np.cumsum([0, 0.031, 0.036, 0.066, 0.033, 0.034, 0.032, 0.067, 0.033, 0.035])
  config = streams.synthetic.Config(height=48, width=64, max_ticks=len(times))
  with VideoWriter(tmp_path / "phone.mp4", min_side=1) as movie:
    for tick, time_s in zip(streams.open_rows(config)[0], times, strict=True):
      movie.write_frame(tick["pixels"], time_s)
  out = run(tmp_path / "phone.mp4", "--points=7,20,30", "--model=static", f"--output={tmp_path}")
  assert "1 points, 10 frames" in out
  with np.load(tmp_path / "tracks.npz") as file:
    np.testing.assert_allclose(file["time_s"], times, atol=1e-4)
    assert np.isfinite(file["tracks"][0, :, 0]).tolist() == [False] * 7 + [True] * 3
  with (tmp_path / "tracks.csv").open() as file:
    rows = [(int(row["frame"]), float(row["time_s"])) for row in csv.DictReader(file)]
  np.testing.assert_allclose(rows, [(n, times[n]) for n in (7, 8, 9)], atol=1e-4)
  with av.open(str(tmp_path / "overlay.mp4")) as file:
    shown = [float(frame.time) for frame in file.decode(video=0)]
  np.testing.assert_allclose(shown, times, atol=1e-4)


@pytest.mark.parametrize("pattern", ["", "/*.png"])
def test_numbered_images_are_a_video(run, tmp_path, pattern):
  (tmp_path / "bear").mkdir()
  config = streams.synthetic.Config(height=24, width=32, max_ticks=12)
  for number, tick in enumerate(streams.open_rows(config)[0]):
    (tmp_path / "bear" / f"{number}.png").write_bytes(images.png_bytes(tick["pixels"]))
  out = run(
    f"{tmp_path / 'bear'}{pattern}", "--points=10,5,6", "--model=static", f"--output={tmp_path}",
    "--rate_hz=10",
  )  # fmt: skip
  assert "1 points, 12 frames" in out
  with np.load(tmp_path / "tracks.npz") as file:
    np.testing.assert_allclose(file["time_s"], np.arange(12) / 10)
  overlay = frames_of(tmp_path / "overlay.mp4")
  expected = [tick["pixels"] for tick in streams.open_rows(config)[0]]
  errors = np.abs(overlay[:10, None].astype(int) - np.stack(expected)[None]).mean((2, 3, 4))
  np.testing.assert_array_equal(errors.argmin(axis=1), np.arange(10))


def test_a_grid_enlarged_with_event_files(run, movie, tmp_path):
  options = ("--zoom=3", "--max_ticks=9", f"--tensorboard={tmp_path / 'tb'}", "--trail=0")
  run(movie, "--grid=2", "--model=static", f"--output={tmp_path}", *options)
  assert probe.probe(str(tmp_path / "overlay.mp4"))[:2] == (144, 192)
  with np.load(tmp_path / "tracks.npz") as file:
    np.testing.assert_array_equal(file["tracks"][:, 5], [[16, 12], [48, 12], [16, 36], [48, 36]])
  (events,) = (tmp_path / "tb").iterdir()
  assert b"tracks/overlay" in events.read_bytes()


@pytest.mark.parametrize(
  ("points", "message"),
  [
    ("0,65.5,3", "query 0 .* is outside the image of 48 x 64 pixels"),
    ("0,1,1;19,1,1", "query 1 .*at a time that is not there, for a video of 19 frames"),
    ("-1,1,1", "t=-1, .* is at a time that is not there"),
    ("nan,1,1", "is not finite"),
    ("0,1,nan", "is not finite"),
    (" ; ", "holds no query; give at least one"),
    ("1,2", "'1,2' is no query; give frame,x,y"),
    ("gone.csv", "there is no file gone.csv"),
  ],
)
def test_odd_queries_are_one_line_and_leave_nothing(run, movie, tmp_path, points, message):
  with pytest.raises(SystemExit, match=message):
    run(movie, f"--points={points}", "--model=static", f"--output={tmp_path / 'o'}")
  assert not list(tmp_path.glob("o/*"))


def test_what_is_no_video_is_refused(run, movie, tmp_path):
  text = tmp_path / "text.mp4"
  text.write_text("hello")
  picture = tmp_path / "one.mp4"
  synthetic_movie(picture, 1, SIZE)
  for path, message in (
    (text, "cannot be opened as video"),
    (picture, "is one image; give a video"),
    (tmp_path, r"holds 2 recordings \(.*one.mp4, .*text.mp4, ...\); give one video"),
    (tmp_path / "gone.mp4", "gone.mp4"),
  ):
    with pytest.raises(SystemExit, match=message):
      run(path, "--grid=2", "--model=static", f"--output={tmp_path / 'o'}")
  with pytest.raises(SystemExit, match="grid: 0 points"):
    run(movie, "--grid=0", "--model=static")


def test_points_come_from_a_table(tmp_path):
  table = tmp_path / "asked.csv"
  for head in ("", "t, x,y\n", "frame,x,y\n"):
    table.write_text(f"{head}0,1.5,2\n\n3,4,5\n")
    np.testing.assert_array_equal(track_videos.read_points(str(table)), [[0, 2, 1.5], [3, 5, 4]])


def test_frames_are_dropped_and_a_stop_keeps_what_was_done(tmp_path):
  """However long the video: no more than two pieces are alive; then somebody stops it."""
  alive, most, count = set(), [], [0]

  class Frame(np.ndarray):
    def __del__(self):
      alive.discard(id(self))

  def frames():
    for number in range(10_000):
      frame = np.full((8, 10, 3), number % 250, np.uint8).view(Frame)
      alive.add(id(frame))
      most.append(len(alive))
      yield {"pixels": frame, "timestamp_s": 3 + number / 25}

  def follow(asked):
    def say(piece):
      count[0] += 1
      shape = (1, len(piece))
      return TrackChunk(
        np.ones((*shape, 2), np.float32), np.ones(shape, bool), np.ones(shape, np.float32)
      )

    return say

  done = track_videos.write_tracks(
    tmp_path, frames(), np.asarray([[0.0, 1, 1]]), follow, should_stop=lambda: count[0] == 6
  )
  assert done.ticks == 48 and max(most) <= 17 and done.seen == 1
  assert len(frames_of(tmp_path / "overlay.mp4")) == 48
