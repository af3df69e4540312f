"""The right picture, from any file, at any rate, after any stop."""

import gc
import subprocess
import sys
import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
from stream_checks import BARS, assert_restores, elements_and_states, video_row
from video_files import number_of, picture, write_video

from perceiver_stream import streams
from perceiver_stream.streams import probe, video

NTSC = Fraction(30000, 1001)
RATES = (Fraction(25), NTSC, Fraction(25, 2), Fraction(24000, 1001), Fraction(30))


def numbers(ticks):
  return [number_of(tick["pixels"]) for tick in ticks]


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mkv", "mov", "mp4", "avi", "nut", "ts"])
@pytest.mark.parametrize("fps", RATES[:3], ids=str)
def test_at_its_own_rate_every_picture_comes_once(tmp_path, fps, suffix):
  path = write_video(tmp_path / f"v.{suffix}", fps=fps, num=40, sound_s=0)
  ticks = list(video_row(path, rate_hz=float(fps), audio_rate_hz=0))
  assert numbers(ticks) == list(range(40))
  assert [i for i, tick in enumerate(ticks) if tick["is_first"]] == [0]
  assert all(tick["pixels_valid"] for tick in ticks)


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("fps", RATES, ids=str)
def test_the_picture_is_the_last_one_not_later_than_the_tick(tmp_path, fps, rate):
  path = write_video(tmp_path / "v.mp4", fps=fps, num=60, sound_s=0)
  ticks = list(video_row(path, rate_hz=float(rate), audio_rate_hz=0))
  expected = [int(i * fps / rate) for i in range(1000) if i / rate < 60 / fps]
  assert numbers(ticks) == expected
  np.testing.assert_allclose(
    [tick["timestamp_s"] for tick in ticks],
    [float(i / rate) for i in range(len(ticks))],
    rtol=1e-15,
  )


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_variable_frame_rate_follows_the_timestamps(tmp_path, suffix):
  steps = np.random.default_rng(0).integers(1, 9, 40)  # of 40 ms, so that all rounding agrees
  times = [Fraction(int(t), 25) for t in np.concatenate([[0], np.cumsum(steps)])]
  path = write_video(tmp_path / f"v.{suffix}", times=times, fps=25, sound_s=0)
  seen = numbers(video_row(path))
  expected = [max(k for k, t in enumerate(times) if t <= Fraction(i, 25)) for i in range(len(seen))]
  assert seen == expected and seen[-1] == 40


def test_the_first_picture_need_not_be_at_time_zero(tmp_path):
  path = write_video(tmp_path / "v.mkv", times=[3 + Fraction(n, 25) for n in range(10)], sound_s=0)
  ticks = list(video_row(path))
  assert numbers(ticks) == list(range(10)) and ticks[0]["timestamp_s"] == 0


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "ffv1", "libvpx-vp9"])
def test_codecs_with_and_without_reordering(tmp_path, codec):
  path = write_video(tmp_path / "v.mkv", codec=codec, num=20, sound_s=0)
  assert numbers(assert_restores(video_row(path), places=(0, 1, 13, 20))) == list(range(20))


def test_times_of_decoding_in_place_of_times_are_put_in_order(tmp_path):
  """Some files carry times of decoding: the decoder then gives pictures with leaping times."""
  source = write_video(tmp_path / "a.mkv", num=30, sound_s=0)
  path = tmp_path / "b.mkv"
  with av.open(source) as old, av.open(str(path), "w") as new:
    track = new.add_stream_from_template(old.streams.video[0])
    for number, packet in enumerate(old.demux(video=0)):
      if packet.size:
        packet.pts = packet.dts = number * 40
        packet.stream = track
        new.mux(packet)
  ticks = assert_restores(video_row(path), places=(0, 7, 29))
  assert numbers(ticks) == list(range(30))


def test_rotation_is_undone(tmp_path):
  def corner(number, height, width):
    image = np.full((height, width, 3), 30, np.uint8)
    image[: height // 2, : width // 2] = 220
    return image

  for rotation, bright in ((0, (0, 0)), (90, (1, 0)), (180, (1, 1)), (-90, (0, 1))):
    path = write_video(
      tmp_path / "v.mp4", rotation=rotation, make=corner, num=3, sound_s=0, height=48, width=64
    )
    pixels = next(iter(video_row(path, height=32, width=24)))["pixels"]
    assert pixels.shape == (32, 24, 3)
    quarters = pixels.reshape(2, 16, 2, 12, 3).mean((1, 3, 4))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == bright


@pytest.mark.parametrize("size", [(405, 720), (17, 33), (3, 5), (1, 1), (300, 7)], ids=str)
@pytest.mark.parametrize("crop", video.CROPS)
def test_odd_and_tiny_sizes(tmp_path, size, crop):
  def grey(number, height, width):
    return np.full((height, width, 3), 128, np.uint8)

  height, width = size
  path = write_video(
    tmp_path / "v.nut", codec="rawvideo", height=height, width=width, num=2, sound_s=0, make=grey
  )
  for tick in video_row(path, crop=crop, height=16, width=24):
    assert tick["pixels"].shape == (16, 24, 3)
    np.testing.assert_allclose(tick["pixels"].astype(int), 128, atol=3)


def test_centre_keeps_shapes_and_squash_keeps_all(tmp_path):
  def disc(number, height, width):
    y, x = np.mgrid[:height, :width]
    inside = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 3) ** 2
    return np.broadcast_to(np.where(inside, 220, 30)[..., None], (height, width, 3)).astype(
      np.uint8
    )

  path = write_video(tmp_path / "v.mkv", height=60, width=120, make=disc, num=1, sound_s=0)
  extent = {}
  for crop in video.CROPS:
    bright = next(iter(video_row(path, crop=crop, height=60, width=60)))["pixels"][..., 0] > 128
    extent[crop] = (bright.any(1).sum(), bright.any(0).sum())
  assert abs(extent["centre"][0] - extent["centre"][1]) <= 1
  assert abs(extent["squash"][0] - 2 * extent["squash"][1]) <= 2


def test_reduction_averages(tmp_path):
  """A fine chequerboard becomes grey, not stripes: no aliasing."""

  def board(number, height, width):
    y, x = np.mgrid[:height, :width]
    return np.repeat((((x + y) % 2) * 255)[..., None], 3, -1).astype(np.uint8)

  path = write_video(
    tmp_path / "v.mkv", codec="ffv1", height=96, width=96, make=board, num=1, sound_s=0
  )
  pixels = next(iter(video_row(path, height=12, width=12)))["pixels"].astype(int)
  assert np.ptp(pixels) < 12 and 100 < pixels.mean() < 150


# --- stopping and going on ------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
@pytest.mark.parametrize("audio_rate", [16000, 44100])
def test_going_on_equals_never_having_stopped(tmp_path, suffix, audio_rate):
  codec = "aac" if suffix == "ts" else "pcm_s16le"
  path = write_video(
    tmp_path / f"v.{suffix}", num=60, gop=17, audio_rate=audio_rate, audio_codec=codec
  )
  assert_restores(video_row(path, rate_hz=20.0))


def test_going_on_decodes_from_the_key_frame_before(tmp_path, monkeypatch):
  path = write_video(tmp_path / "v.mp4", num=300, gop=25, sound_s=0)
  _, states = elements_and_states(video_row(path))
  opened = []
  inner = video.Pictures._decoded
  monkeypatch.setattr(video.Pictures, "_decoded", lambda self, p: counted(inner(self, p), opened))
  iterator = iter(video_row(path))
  iterator.set_state(states[280])
  assert number_of(next(iterator)["pixels"]) == 280
  assert len(opened) < 60, "of 280 pictures"


def counted(items, into):
  for item in items:
    into.append(item)
    yield item


def test_another_file_in_its_place_is_noticed(tmp_path):
  path = write_video(tmp_path / "v.mkv", num=40, codec="ffv1")
  _, states = elements_and_states(video_row(path))
  write_video(tmp_path / "v.mkv", num=41, codec="ffv1")
  iterator = iter(video_row(path))
  iterator.set_state(states[20])
  with pytest.raises(ValueError, match=r"v.mkv has \d+ bytes, and had \d+ when the state"):
    next(iterator)
  size, shown = (tmp_path / "v.mkv").stat().st_size, states[20]["shown"] | {"crc": 7}
  iterator.set_state(states[20] | {"size": size, "shown": shown})
  with pytest.raises(ValueError, match="image at tick 19 is not the one that was there"):
    next(iterator)


# --- several files --------------------------------------------------------------------------------


@pytest.fixture
def playlist(tmp_path):
  """Three files, the pictures of each numbered from 100 times its place on."""
  for place, num in enumerate((12, 7, 9)):
    write_video(
      tmp_path / f"{place}.mkv",
      num=num,
      gop=4,
      make=lambda n, h, w, place=place: picture(100 * place + n, h, w),
    )
  return tmp_path


EXPECTED = [*range(12), *range(100, 107), *range(200, 209)]


def test_a_folder_is_one_stream_in_order_of_names(playlist):
  (playlist / "notes.txt").write_text("no video")
  (playlist / ".hidden.mkv").write_text("no video")
  ticks = assert_restores(video_row(playlist), places=(0, 5, 11, 12, 13, 19, 27, 28))
  assert numbers(ticks) == EXPECTED
  assert [i for i, tick in enumerate(ticks) if tick["is_first"]] == [0, 12, 19]
  assert [i for i, tick in enumerate(ticks) if not tick["audio_valid"]] == [0, 12, 19]


def test_globs_and_lists_keep_the_stated_order(playlist):
  assert numbers(video_row(playlist / "*.mkv")) == EXPECTED
  ticks = video_row(f"{playlist}/2.mkv, {playlist}/0.mkv")
  assert numbers(ticks) == EXPECTED[19:] + EXPECTED[:12]


def test_a_name_with_a_comma_is_a_name(tmp_path):
  assert len(list(video_row(write_video(tmp_path / "a, b.mkv", num=3)))) == 3


def test_loops(playlist):
  assert (
    numbers(assert_restores(video_row(playlist, loops=2), places=(27, 28, 29, 56))) == EXPECTED * 2
  )
  endless = video_row(playlist, loops=-1, max_ticks=90)
  assert numbers(endless) == (EXPECTED * 4)[:90]


def test_rows_get_the_files_in_turn(playlist):
  config = video.Config(path=str(playlist), **BARS)
  first, second = streams.open_rows(config, 2)
  assert numbers(first) == EXPECTED[:12] + EXPECTED[19:]
  assert numbers(second) == EXPECTED[12:19]
  with pytest.raises(ValueError, match="4 rows need at least as many files, .* has 3"):
    streams.open_rows(config, 4)


@pytest.mark.parametrize(
  ("path", "error", "text"),
  [
    ("", ValueError, "path is empty; give a file, a folder, a glob"),
    ("nowhere.mp4", FileNotFoundError, "no file, folder or match for '.*nowhere.mp4'"),
    ("no*.mp4", FileNotFoundError, "check the path"),
    (".", ValueError, r"has no video or image among its 0 files; name other .* by a glob"),
  ],
)
def test_paths_that_lead_nowhere(tmp_path, path, error, text):
  with pytest.raises(error, match=text):
    video_row(tmp_path / path if path else "")


@pytest.mark.parametrize(
  ("fields", "text"),
  [
    ({"height": 0}, "height=0 pixels"),
    ({"crop": "center"}, r"crop='center'; use one of \('centre', 'squash'\)"),
    ({"on_damage": "cry"}, "on_damage='cry'; use one of"),
    ({"loops": 0}, "loops=0; use at least 1, or -1"),
    ({"audio_track": -2}, "audio_track=-2"),
    ({"max_gap_s": 0.0}, "max_gap_s=0.0; use a positive"),
    ({"rate_hz": 29.97}, "533.867 samples per tick"),
  ],
)
def test_wrong_fields_are_named(fields, text):
  with pytest.raises(ValueError, match=text):
    video.Config(path="x.mp4", **fields)


def test_tracks_are_chosen_by_number(tmp_path):
  path = write_video(tmp_path / "v.mkv", num=5)
  assert len(list(video_row(path, video_track=0, audio_track=0))) == 5
  with pytest.raises(ValueError, match=r"video_track=1, but it has 1 video track\(s\); use 0 to 0"):
    next(iter(video_row(path, video_track=1)))
  with pytest.raises(ValueError, match="audio_track=3, but it has 1 audio"):
    next(iter(video_row(path, audio_track=3)))


# --- resources ------------------------------------------------------------------------------------

MEMORY = """
import resource, sys
from perceiver_stream import streams
from perceiver_stream.streams import probe, video
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
config = video.Config(path=sys.argv[1], height=32, width=32)
iterator = iter(streams.windows(streams.open_rows(config)))
for number, _ in enumerate(iterator):
  if number == 30:
    early = peak()
assert number >= 249, number
print((peak() - early) * (1 if sys.platform == "darwin" else 1024))
"""


def test_memory_is_flat_over_2000_ticks(tmp_path):
  path = write_video(tmp_path / "v.mkv", num=2016, height=96, width=128)
  command = [sys.executable, "-c", MEMORY, path]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert int(done.stdout) < 4e6, "the pictures alone, held, would be 50 MB"


def test_files_read_are_let_go_of_at_once(tmp_path, monkeypatch):
  """Not when Python next looks for cycles: decoders hold megabytes that it does not see."""
  made = []
  for kind in (video.Pictures, video.Sound):
    monkeypatch.setattr(kind, "_open", noted(kind._open, made))
  write_video(tmp_path / "v.mkv", num=6)
  iterator = iter(video_row(tmp_path, loops=3))
  gc.disable()
  try:
    assert len(list(iterator)) == 18 and len(made) == 6
    assert [reference() for reference in made] == [None] * 6
  finally:
    gc.enable()


def noted(method, into):
  def wrapped(self):
    into.append(weakref.ref(self))
    return method(self)

  return wrapped


def test_closing_lets_go_of_the_file(tmp_path):
  iterator = iter(video_row(write_video(tmp_path / "v.mkv")))
  next(iterator)
  iterator.close()
  with pytest.raises(ValueError, match="closed iterator"):
    next(iterator)


# --- packets of no bytes --------------------------------------------------------------------------


def write_still(path, *, num=50, empty=(), gop=1):
  """Writes NUT whose packets of the pictures `empty` have no bytes, as recorders do."""
  with av.open(str(path), "w", format="nut") as out:
    track = out.add_stream("mpeg4", rate=25)
    track.width, track.height, track.pix_fmt = 96, 48, "yuv420p"
    track.codec_context.gop_size = gop
    for number in range(num):
      frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
      for packet in track.encode(frame):
        if number in empty:
          bare = av.Packet(0)
          bare.pts, bare.dts, bare.time_base = packet.pts, packet.dts, packet.time_base
          bare.stream, packet = track, bare
        out.mux(packet)
  return str(path)


@pytest.mark.parametrize(
  "empty", [{20}, {1, 2, 3}, {48, 49}, set(range(1, 50)), {0}, {5, 6, 30, 49}], ids=str
)
@pytest.mark.parametrize("on_damage", ["stop", "skip"])
def test_a_packet_of_no_bytes_repeats_the_picture_before(tmp_path, empty, on_damage):
  path = write_still(tmp_path / "v.nut", empty=empty)
  iterator = iter(video_row(path, on_damage=on_damage, audio_rate_hz=0))
  shown = [
    max(n for n in range(50) if n <= i and n not in empty) for i in range(50) if i or 0 not in empty
  ]
  ticks = list(iterator)
  assert numbers(ticks) == shown
  assert all(tick["pixels_valid"] for tick in ticks) and not iterator.damage
  assert not probe.probe(path).is_picture


def test_going_on_among_packets_of_no_bytes(tmp_path):
  path = write_still(tmp_path / "v.nut", empty={7, 8, 9, 30, 48, 49})
  assert_restores(video_row(path), places=(0, 8, 9, 31, 47, 49))
