"""Live sources: ticks, gaps, ends, and addresses that are refused."""

import functools
import http.server
import itertools
import logging
import os
import pathlib
import socket
import sys
import threading
from fractions import Fraction

import av
import numpy as np
import pytest
from stream_checks import BARS
from video_files import number_of, picture, write_video

from perceiver_stream import streams
from perceiver_stream.streams import live, live_sources, mixture
from perceiver_stream.streams.damage import Ledger
from perceiver_stream.streams.live_buffer import EndOfSource
from perceiver_stream.streams.live_reader import Lag, Reader
from perceiver_stream.streams.live_sampler import Sampler, Shown
from perceiver_stream.utils.addresses import hidden

TEST_PICTURE = "lavfi:testsrc=size=96x48:rate=25:duration=1"
QUICK = BARS | {"when_faster": "wait", "timeout_s": 60.0, "reconnect_wait_s": 0.0}


def row(source, **fields):
  """Returns an iterator over a source, every tick of it."""
  return iter(streams.open_rows(live.Config(source=source, **QUICK | fields))[0])


def starts(ticks):
  return [i for i, tick in enumerate(ticks) if tick["is_first"]]


class Handler(http.server.BaseHTTPRequestHandler):
  """Serves files of a folder; the first `server.cuts` answers break off in the middle."""

  def do_GET(self):
    data = (self.server.folder / self.path.strip("/")).read_bytes()
    self.server.requests.append(self.path)
    self.send_response(200)
    self.send_header("Content-Length", str(len(data)))
    self.end_headers()
    if len(self.server.requests) <= self.server.cuts:
      data = data[: len(data) // 2]
    self.wfile.write(data)

  def log_message(self, *text):
    pass


@pytest.fixture
def server(tmp_path):
  """An HTTP server on loopback; `url` is the start of its addresses."""
  found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  found.folder, found.requests, found.cuts = tmp_path, [], 0
  found.url = f"http://{found.server_address[0]}:{found.server_address[1]}"
  thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
  thread.start()
  yield found
  found.shutdown()
  found.server_close()
  thread.join(60)
  assert not thread.is_alive()


def clip(path, num=20):
  """Writes pictures that carry their numbers, and a sound."""
  return write_video(path, num=num, gop=5, options={"tune": "zerolatency"})


def test_ticks_are_those_of_the_same_file(server, tmp_path):
  clip(tmp_path / "a.mkv")
  fields = {"rate_hz": 12.5, "audio_rate_hz": 16000} | BARS
  config = streams.video.Config(path=str(tmp_path / "a.mkv"), **fields)
  expected = list(streams.open_rows(config)[0])
  found = list(row(f"{server.url}/a.mkv", **fields))
  assert len(found) == len(expected) == 10
  for one, other in zip(found, expected, strict=True):
    for name in other:
      np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_source_that_was_cut_off_starts_again_with_is_first(server, tmp_path, caplog):
  clip(tmp_path / "a.mkv", num=40)
  server.cuts = 1
  ticks = list(row(f"{server.url}/a.mkv"))
  first, second = starts(ticks)
  assert server.requests == ["/a.mkv"] * 2 and first == 0 and 0 < second < 40
  assert [number_of(tick["pixels"]) for tick in ticks[second:]] == list(range(40))
  assert (np.diff([tick["timestamp_s"] for tick in ticks]) > 0).all()
  assert "was cut off" in caplog.text and "is over: the source ended" in caplog.text


def test_a_proper_end_can_count_as_cut_off(server, tmp_path):
  clip(tmp_path / "a.mkv", num=5)
  ticks = list(row(f"{server.url}/a.mkv", reconnect_at_end=True, max_ticks=12))
  assert starts(ticks) == [0, 5, 10]


def test_a_source_that_stays_away_ends_the_stream_with_a_message(server, tmp_path, caplog):
  clip(tmp_path / "a.mkv", num=5)
  iterator = row(f"{server.url}/a.mkv", reconnect_at_end=True, reconnects=2)
  ticks = [next(iterator) for _ in range(5)]
  (tmp_path / "a.mkv").unlink()
  ticks += list(iterator)
  assert len(ticks) % 5 == 0
  assert "2 attempts to connect again failed" in caplog.text
  assert f"{len(ticks)} ticks were given, 0 images dropped" in caplog.text


@pytest.mark.parametrize(
  "entry", ["file:///etc/passwd", "file://HERE/a.ts", "concat:HERE/a.ts|HERE/a.ts", "HERE/a.ts"]
)
def test_a_playlist_leads_to_no_file_of_this_machine(server, tmp_path, entry):
  write_video(tmp_path / "a.ts", num=5, audio_codec="aac")
  entry = entry.replace("HERE", str(tmp_path))
  text = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{entry}\n#EXT-X-ENDLIST\n"
  (tmp_path / "x.m3u8").write_text(text)
  with pytest.raises(live.LiveError, match="cannot be opened.*no file of this machine|no tick"):
    next(row(f"{server.url}/x.m3u8"))


def test_a_playlist_of_its_server_is_read(server, tmp_path):
  write_video(tmp_path / "a.ts", num=10, gop=5)
  text = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:0.4,\na.ts\n#EXT-X-ENDLIST\n"
  (tmp_path / "x.m3u8").write_text(text)
  assert len(list(row(f"{server.url}/x.m3u8"))) == 10


@pytest.mark.parametrize(
  ("source", "text"),
  [
    ("", "is no live source; use camera:0"),
    ("gopher://a/b", "'gopher://a/b' is no live source; use camera:0, .* rtsp://"),
    ("file:///etc/passwd", "is no live source"),
    ("concat:a.ts|b.ts", "is no live source"),
    ("ftp://me:secret@host/a", r"'ftp://\*\*\*@host/a' is no live source"),
    ("setup.cfg.mp4", "is a file or folder; use streams.video.Config"),
    ("lavfi:movie=/etc/passwd", "filter 'movie' is not among those allowed; use .*testsrc"),
    ("lavfi:testsrc,metadata=print:file=x", "filter 'metadata' is not"),
    ("lavfi:testsrc=size='9x9'", "quotes, backslashes and line breaks"),
    ("lavfi:testsrc\nmovie=/x", "quotes, backslashes and line breaks"),
    ("lavfi:testsrc[out0]movie=/x", r"the filter 'testsrc\[out0\]movie=/x' is not"),
    ("lavfi:testsrc=size=2x2[out0]movie=/x", r"the filter 'testsrc=size=2x2\[out0\]movie"),
    ("lavfi:testsrc[out0][x]movie=/x[out1]", "is not among those allowed"),
    ("push:nobody", "no live.Push named 'nobody' in this process; make it first"),
  ],
)
def test_what_is_no_live_source_is_refused_by_name(tmp_path, monkeypatch, source, text):
  monkeypatch.chdir(tmp_path)
  pathlib.Path("setup.cfg.mp4").write_bytes(b"")
  with pytest.raises(ValueError, match=text):
    streams.open_rows(live.Config(source=source))


@pytest.mark.parametrize(
  ("source", "text"),
  [
    ("tcp://me:secret@127.0.0.1:9", r"tcp://\*\*\*@.* cannot be opened: .*Check the address"),
    ("lavfi:testsrc=size=no", "cannot be opened: .*Check the graph"),
    ("lavfi:sine=duration=1", r"has no video to decode \(it has: audio\)"),
  ],
)
def test_errors_of_opening_name_the_source_and_the_remedy(source, text):
  with pytest.raises(live.LiveError, match=text) as found:
    next(row(source))
  assert "secret" not in str(found.value)


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("rtsp://me:p@ss@cam/1", "rtsp://***@cam/1"),
    ("rtsp://cam/1?user=me&password=x", "rtsp://cam/1?***"),
    ("of http://a:b@c/d?e=f: no, https://g/@h", "of http://***@c/d?*** no, https://g/@h"),
    ("camera:0 is there?", "camera:0 is there?"),
  ],
)
def test_messages_have_no_credentials(text, expected):
  assert hidden(text) == expected


def test_errors_and_logs_have_no_credentials(caplog):
  config = live.Config(source="http://me:p@ss@host/a?token=secret", max_ticks=1, **QUICK)
  with pytest.raises(ValueError, match=r"source='http://\*\*\*@host/a\?\*\*\*' is one"):
    streams.open_rows(config, 2)
  iterator = iter(streams.open_rows(config)[0])
  iterator.set_state({"time_us": 0, "count": 1, "dropped": 0})  # has all its ticks
  assert list(iterator) == []
  assert "http://***@host/a?*** is over" in caplog.text and "secret" not in caplog.text


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps"])
def test_rtsp_is_opened_by_tcp_first(monkeypatch, scheme):
  options = {}

  def refuse(*_, container_options, **__):
    options.update(container_options)
    raise OSError("no")

  monkeypatch.setattr(av, "open", refuse)
  with pytest.raises(live.LiveError, match="cannot be opened: "):
    live_sources.open_live(live_sources.parse(f"{scheme}://camera/1"), 1.0)
  assert options["rtsp_flags"] == "prefer_tcp"


@pytest.mark.parametrize("time_base", [Fraction(1000), Fraction(-1000), Fraction(0)])
def test_a_time_base_of_any_size_makes_no_more_ticks(time_base):
  sampler = Sampler(live.Config(source="-", **QUICK), Fraction(0), Ledger("x", "skip"))
  for number in range(3):
    frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
    frame.time_base = time_base
    sampler.image(Shown(Fraction(number, 25), frame, Fraction(1), number + 1, True))
    assert len(sampler._waiting) <= number + 2


def test_a_thread_that_collects_its_own_reader_does_not_wait_for_itself():
  reader = Reader(live_sources.parse(TEST_PICTURE), live.Config(source=TEST_PICTURE, **QUICK))
  reader._thread = threading.current_thread()
  reader.stop()
  reader.join()
  with pytest.raises(EndOfSource, match="it was closed"):
    reader.buffer.take(0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="devices are named in this way on Linux")
@pytest.mark.parametrize("source", ["camera:97", "/dev/video97"])
def test_a_camera_that_is_not_there_is_an_error_that_names_it(source):
  with pytest.raises(live.LiveError, match=f"{source} cannot be opened: .*name another one"):
    next(row(source))


def test_a_silent_address_does_not_block():
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
    taken.bind(("127.0.0.1", 0))
    port = taken.getsockname()[1]
  with pytest.raises(live.LiveError, match=r"udp:.*: nothing came for "):
    next(row(f"udp://127.0.0.1:{port}", timeout_s=0.2))


def test_udp_is_watched():
  """MPEG-TS by UDP on loopback; packets are sent until enough ticks have come."""
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
    taken.bind(("127.0.0.1", 0))
    url = f"udp://127.0.0.1:{taken.getsockname()[1]}"
  enough = threading.Event()
  sender = threading.Thread(target=send, args=(f"{url}?pkt_size=1316", enough), daemon=True)
  fields = {"audio_rate_hz": 0, "when_faster": "newest", "max_ticks": 200}
  iterator = row(f"{url}?overrun_nonfatal=1", **fields)
  sender.start()
  ticks, numbers = [], []
  try:
    while len(numbers) < 3 and (tick := next(iterator, None)) is not None:
      ticks.append(tick)
      numbers += [number_of(tick["pixels"])] if tick["pixels_valid"] else []
  finally:
    enough.set()
    iterator.close()
    sender.join(60)
  assert not sender.is_alive() and iterator.images >= 1 and numbers
  assert (np.diff([tick["timestamp_s"] for tick in ticks]) > 0).all()


def send(url, enough):
  with av.open(url, "w", format="mpegts") as container:
    track = container.add_stream("mpeg2video", rate=25)
    track.width, track.height, track.pix_fmt, track.gop_size = 96, 48, "yuv420p", 5
    for number in itertools.count():
      frame = av.VideoFrame.from_ndarray(picture(number % 4096), format="rgb24")
      container.mux(track.encode(frame))
      if enough.wait(0.04):
        return


def test_standard_input_is_read(tmp_path):
  path = write_video(tmp_path / "a.ts", num=10, gop=5, audio_codec="aac")
  before = os.dup(0)
  try:
    with open(path, "rb") as file:
      os.dup2(file.fileno(), 0)
    assert len(list(row("-"))) == 10
  finally:
    os.dup2(before, 0)
    os.close(before)


def test_a_slow_reader_gets_the_newest_and_the_count_of_what_it_missed(caplog):
  iterator = row(TEST_PICTURE, when_faster="newest", audio_rate_hz=0)
  ticks = [next(iterator)]
  thread = iterator._readings[0].feed._thread
  thread.join(60)  # all has come
  assert not thread.is_alive()
  ticks += list(iterator)
  assert starts(ticks) == [0] and len(ticks) <= 2
  assert len(ticks) + iterator.dropped == iterator.images == 25
  assert f"{iterator.dropped} images dropped" in caplog.text and iterator.rate_hz > 0


def test_the_state_is_a_time(caplog):
  caplog.set_level(logging.ERROR)
  iterator = row(TEST_PICTURE)
  for _ in range(10):
    last = next(iterator)
  state = iterator.get_state()
  assert state == {"time_us": 360_000, "count": 10, "dropped": 0}
  again = row(TEST_PICTURE, max_ticks=13)
  again.set_state(state)
  ticks = list(again)
  assert last["timestamp_s"] == 0.36 and starts(ticks) == [0]
  np.testing.assert_allclose([tick["timestamp_s"] for tick in ticks], [0.4, 0.44, 0.48])


def test_closing_ends_the_thread():
  iterator = row("lavfi:testsrc")
  next(iterator)
  thread = iterator._readings[0].feed._thread
  iterator.close()
  assert not thread.is_alive()


def test_closing_windows_read_ahead_ends_the_thread_and_logs_the_counts(caplog):
  rows = streams.open_rows(live.Config(source="lavfi:testsrc,realtime", **BARS))
  windows = iter(streams.prefetch(streams.windows(rows, 2, 1), 1))
  assert next(windows)["pixels"].shape == (3, 1, 24, 48, 3)
  windows.close()
  assert "is over: it was closed. " in caplog.text and "images dropped" in caplog.text
  assert "live lavfi:testsrc,realtime" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
  "wrap",
  [
    lambda config: streams.open_rows(config),
    lambda config: streams.open_rows(mixture.Config(sources={"camera": config})),
    lambda config: [streams.open_rows(config)[0].map(dict).map(dict)],
  ],
  ids=["alone", "mixture", "mapped"],
)
def test_a_live_row_that_ended_is_not_over_for_the_run_that_resumes(wrap):
  """Files that ended stay so; a live source is opened again."""
  make = functools.partial(streams.windows, window=4, max_displacement=0)
  rows = wrap(live.Config(source=TEST_PICTURE, **QUICK))
  windows = iter(make(rows))
  assert len(list(windows)) == 7
  again = iter(make(rows))
  again.set_state(windows.get_state())
  window = next(again)
  assert not window["ended"].any() and window["is_first"][0].all()
  np.testing.assert_allclose(window["timestamp_s"][:, 0], 1 + np.arange(4) / 25)


def test_one_source_is_one_row():
  config = live.Config(source=TEST_PICTURE, **QUICK)
  with pytest.raises(ValueError, match="2 rows, but source=.*streams.mixture.Config"):
    streams.open_rows(config, 2)
  both = mixture.Config(sources={"left": config, "right": config})
  assert [len(list(one)) for one in streams.open_rows(both, 2)] == [25, 25]


@pytest.mark.parametrize(
  "field",
  [
    {"height": 0},
    {"crop": "round"},
    {"when_faster": "sometimes"},
    {"every": 0},
    {"buffer": 0},
    {"repeat_after_s": -1.0},
    {"timeout_s": 0.0},
    {"timeout_s": float("nan")},
    {"reconnects": -1},
  ],
)
def test_wrong_fields_are_refused(field):
  with pytest.raises(ValueError, match=f"live: {next(iter(field))}="):
    live.Config(**field)


def test_images_that_come_later_and_later_lag_and_a_clock_that_drifts_does_not():
  lag = Lag()
  steady = [lag.note(0.04 * n, 100 + 0.04 * n * (1 + 1e-4) + 0.005 * (n % 3)) for n in range(5000)]
  assert 0 <= min(steady) and max(steady) < 0.02
  slow = [lag.note(200 + 0.04 * n, 300.02 + 0.05 * n) for n in range(500)]
  np.testing.assert_allclose(slow, 0.01 * np.arange(500), atol=0.02)
