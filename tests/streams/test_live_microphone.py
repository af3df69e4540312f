"""Images and the sound of a second input, on one clock; and servers that the ffmpeg program plays."""

import dataclasses
import socket
import subprocess
import sys
import threading
import time
from fractions import Fraction

import imageio_ffmpeg
import numpy as np
import pytest
from stream_checks import BARS, assert_same

from perceiver_stream import streams
from perceiver_stream.streams import live, live_microphone, live_sources
from perceiver_stream.streams.live_microphone import APART_S, WINDOW_S, Microphone, Offset

PICTURE, SOUND = "testsrc=size=96x48:rate=25:duration=1", "sine=frequency=300:duration="
QUICK = BARS | {"when_faster": "wait", "timeout_s": 60.0, "reconnects": 0}


def ticks(source, **fields):
  return list(streams.open_rows(live.Config(source=source, **QUICK | fields))[0])


def test_sound_of_a_second_input_is_as_that_of_one_source():
  alone = ticks(f"lavfi:{PICTURE}[out0];{SOUND}1[out1]")
  two = ticks(f"lavfi:{PICTURE}+lavfi:{SOUND}1")
  assert len(two) == 25 and sum(tick["audio_valid"] for tick in two) >= 23
  for one, other in zip(alone, two, strict=True):
    assert_same(one, other)


def test_images_go_on_where_the_sound_has_ended(caplog):
  found = ticks(f"lavfi:{PICTURE}+lavfi:{SOUND}0.4")
  valid = [bool(tick["audio_valid"]) for tick in found]
  assert len(found) == 25 and valid[2:9] == [True] * 7 and not any(valid[11:])
  assert "live: lavfi:sine=frequency=300:duration=0.4: it ended. Ticks continue" in caplog.text


def test_a_stream_without_sound_opens_no_microphone():
  config = live.Config(source=f"lavfi:{PICTURE}+microphone:none", **QUICK | {"audio_rate_hz": 0})
  (row,) = streams.open_rows(dataclasses.replace(config, max_ticks=3))
  assert len(list(row)) == 3


@pytest.mark.parametrize(
  ("source", "message"),
  [
    (f"lavfi:{PICTURE}+lavfi:{PICTURE}", "lavfi:testsrc.* has no sound to decode"),
    (f"lavfi:{PICTURE}+lavfi:sine=frequency=no", "sine=frequency=no cannot be opened"),
  ],
)
def test_a_second_source_that_gives_no_sound(source, message):
  with pytest.raises(live.LiveError, match=message):
    ticks(source)


@pytest.mark.skipif(sys.platform != "linux", reason="devices have other names")
def test_addresses_of_a_camera_with_a_microphone():
  address = live_sources.parse("camera:1+microphone:hw:2")
  assert address[:3] == ("camera:1+microphone:hw:2", "/dev/video1", "v4l2")
  assert address.sound is not None and address.sound[1:3] == ("hw:2", "alsa")
  with pytest.raises(live.LiveError, match="microphone:none cannot be opened.*arecord -l"):
    ticks(f"lavfi:{PICTURE}+microphone:none", timeout_s=5.0)


@pytest.mark.parametrize(
  ("source", "message"),
  [
    ("microphone:default", "is no live source; use camera:0.*camera:0[+]microphone:default"),
    ("lavfi:testsrc+lavfi:amovie=/x", "the filter 'amovie' is not among those allowed"),
    ("nowhere+microphone:default", "'nowhere' is no live source"),
  ],
)
def test_addresses_that_are_refused(source, message):
  with pytest.raises(ValueError, match=message):
    live_sources.parse(source)


def test_an_offset_is_kept_until_the_clocks_are_apart():
  offset, drift = Offset(), 0.002  # 2 ms a second; of every other frame the delivery is late
  values = []
  for n in range(6000):
    stated_s = n / 100
    offset.note(stated_s, 5 + stated_s * (1 + drift) + (0.03 if n % 2 else 0))
    values.append(offset.value)
  assert values[0] == 5 and len(set(values)) == 2
  steps = np.diff(values)
  assert APART_S < steps.max() < 0.12
  before = np.array([5 + n / 100 * drift for n in range(6000)]) - values
  assert np.abs(before).max() < APART_S + 2 * WINDOW_S * drift


def test_sound_of_another_clock_is_put_on_that_of_the_images():
  address = live_sources.parse("lavfi:testsrc+lavfi:sine=duration=0.2").sound
  assert address is not None
  microphone = Microphone(address, live.Config(**QUICK), False, threading.Event())
  images, found = Offset(), []
  images.note(1000.0, time.monotonic())  # images that come now state 1000 s
  deadline = time.monotonic() + 60
  while not microphone.is_over and time.monotonic() < deadline:
    found += microphone.take(Fraction(1000), images)
    time.sleep(0.01)
  starts = [float(frame.pts * frame.time_base) for frame in found]
  assert abs(starts[0] - 1000) < 60, "no tighter, for machines that are busy"
  np.testing.assert_allclose(np.diff(starts), 1024 / 44100, atol=1e-3)
  microphone.stop()


@pytest.fixture
def stalled(monkeypatch):
  """Opens a microphone that gives nothing and ends no read before the test does."""
  release = threading.Event()

  def packets(*_):
    release.wait()
    yield from ()

  def opened(timeout_s):
    address, closed = live_sources.parse("lavfi:testsrc+lavfi:sine").sound, threading.Event()
    assert address is not None
    config = live.Config(**QUICK | {"timeout_s": timeout_s})
    return Microphone(address, config, True, closed), closed

  monkeypatch.setattr(live_microphone, "live_packets", packets)
  yield opened
  release.set()


def test_sound_that_stalls_is_waited_for_once(stalled, caplog):
  microphone, _ = stalled(0.2)
  assert list(microphone.take(Fraction(1), Offset())) == [] and microphone.is_over
  assert caplog.text.count("no sound came for timeout_s=0.2. Ticks continue without its") == 1


def test_a_closed_stream_waits_for_no_sound(stalled, caplog):
  microphone, closed = stalled(3600.0)
  threading.Timer(0.1, closed.set).start()
  assert list(microphone.take(Fraction(1), Offset())) == []
  microphone.stop()  # while its thread is in a read
  assert "no sound came" not in caplog.text


@pytest.mark.parametrize("kind", ["rtmp", "tcp"])
def test_servers_of_the_ffmpeg_program(kind):
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    url = f"{kind}://127.0.0.1:{probe.getsockname()[1]}"
  output = {
    "rtmp": ["-f", "flv", "-listen", "1", f"{url}/live/a"],
    "tcp": ["-f", "mpegts", f"{url}?listen=1"],
  }[kind]
  command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-re", "-f", "lavfi"]
  command += ["-i", PICTURE, "-f", "lavfi", "-i", f"{SOUND}1", "-c:v", "libx264", "-g", "5"]
  command += ["-preset", "ultrafast", "-tune", "zerolatency", "-c:a", "aac"]
  server, deadline, found = subprocess.Popen([*command, *output]), time.monotonic() + 60, []
  try:
    while not found:
      try:
        found = ticks(f"{url}/live/a" if kind == "rtmp" else url)
      except live.LiveError:  # the server is not there yet
        assert time.monotonic() < deadline and server.poll() is None
        time.sleep(0.1)
  finally:
    server.kill()
    server.wait()
  assert len(found) >= 10 and found[0]["is_first"] and found[5]["pixels"].std() > 20
  assert any(tick["audio_valid"] for tick in found)
