"""Resuming in the middle of a file's pictures gives the pictures of a run that never stopped."""

import itertools

import av
import av.error
import numpy as np
import pytest
from av.codec import Codec
from stream_checks import assert_same, elements_and_states, video_row
from video_files import write_video

from perceiver_stream.streams import key_packets, opening, pictures

NUM = 90
SUFFIXES = "mkv mov avi nut flv wmv apng rm roq".split()
SIZES = ((48, 64), (144, 176), (576, 720))
# Pictures alone, what no container here carries, and what asks for hardware.
NO_VIDEO = set(
  "a64multi a64multi5 alias_pix bitpacked bmp dirac dnxhd dpx fits hdr libwebp libwebp_anim msrle "
  "pam pbm pcx pfm pgm pgmyuv phm ppm qoi smc sunrast vbn vc2 vnull wbmp webp wrapped_avframe xbm "
  "xface xwd".split()
)
HARDWARE = ("_amf", "_nvenc", "_qsv", "_v4l2m2m", "_videotoolbox", "_mf", "_vaapi", "_vulkan")


def encoders():
  """Returns the names of all video codecs that FFmpeg here can write by itself."""
  names = []
  for name in sorted(av.codecs_available):
    try:
      names += [name] if Codec(name, "w").type == "video" else []
    except ValueError:
      pass
  return [name for name in names if not name.endswith(HARDWARE)]


def moving(number, height, width):
  """Returns a scene that slides, with a cut now and then."""
  y, x = np.mgrid[:height, :width]
  scene = np.stack([(3 * number + x) * 5 % 200, (y * 7 + number) % 180, (x ^ y) * 4 % 256], -1)
  return (scene if number % 40 < 37 else 255 - scene).astype(np.uint8)


def grey(number, height, width):
  return np.full((height, width, 3), number % 256, np.uint8)


def row(path, **fields):
  return video_row(path, height=24, width=24, audio_rate_hz=0, **fields)


def assert_resumes(path, points, **fields):
  """Checks that resuming at each point equals never having stopped, to the end."""
  ticks, states = elements_and_states(row(path, **fields))
  assert len(ticks) > max(points)
  for point in points:
    iterator = iter(row(path, **fields))
    iterator.set_state(states[point])
    for expected, state in zip(ticks[point:], states[point + 1 :], strict=True):
      assert_same(next(iterator), expected)
      assert iterator.get_state() == state
    assert next(iterator, None) is None
  return states


OPEN_GOP = "open-gop=1:keyint=12:bframes=3:b-pyramid=2"
CASES = {
  "B-frames": ("mp4", "libx264", {"bf": "3", "preset": "fast"}),
  "open groups": ("mkv", "libx264", {"preset": "fast", "x264-params": OPEN_GOP}),
  "refreshed bit by bit": ("mkv", "libx264", {"x264-params": "intra-refresh=1:keyint=20"}),
  "HEVC, open groups": (
    "mp4",
    "libx265",
    {"preset": "ultrafast", "x265-params": "open-gop=1:keyint=12:log-level=none"},
  ),
  "MPEG-2 in a program stream": ("mpg", "mpeg2video", {"bf": "2"}),
  "MPEG-2 in a transport stream": ("ts", "mpeg2video", {"bf": "2"}),
  "MPEG-4 without times": ("avi", "mpeg4", {"bf": "2"}),
  "VP9 with alternate references": ("webm", "libvpx-vp9", {"lag-in-frames": "16", "cpu-used": "6"}),
  "AV1": ("mkv", "libsvtav1", {"preset": "12", "svtav1-params": "keyint=24"}),
  "motion JPEG": ("avi", "mjpeg", {"strict": "-1"}),
}


@pytest.mark.parametrize("case", CASES)
def test_resuming_equals_never_having_stopped_to_the_end(tmp_path, case):
  suffix, codec, options = CASES[case]
  path = tmp_path / f"v.{suffix}"
  write_video(path, num=NUM, codec=codec, options=options, make=moving, sound_s=0, width=64)
  states = assert_resumes(path, points=(1, 29, 37, 60, 84))
  has_keys = "intra-refresh" not in str(options)
  assert (states[60]["shown"]["key"]["packet"] > 0) == has_keys


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("rate_hz", [25.0, 10.0, 0.0])
def test_resuming_at_a_variable_frame_rate(tmp_path, suffix, rate_hz):
  steps = np.random.default_rng(0).integers(8, 120, NUM - 1)
  times = np.concatenate([[0], np.cumsum(steps)]) / 1000
  path = write_video(tmp_path / f"v.{suffix}", times=times, make=moving, sound_s=0, gop=9)
  assert_resumes(path, points=(3, 31, 50), rate_hz=rate_hz)


def test_pictures_that_look_alike_are_not_taken_for_each_other(tmp_path):
  """After seeking in a program stream times may be a picture off, which grey on grey hides."""
  path = write_video(
    tmp_path / "v.mpg", codec="mpeg2video", num=200, make=grey, height=16, width=16, sound_s=8.0,
    audio_codec="mp2", audio_rate=44100,
  )  # fmt: skip
  assert_resumes(path, points=range(100, 200, 7))


@pytest.mark.slow
@pytest.mark.parametrize("codec", encoders())
def test_every_codec_resumes_exactly(tmp_path, codec):
  for suffix, (height, width) in itertools.product(SUFFIXES, SIZES):
    path = tmp_path / f"v.{suffix}"
    try:
      write_any(path, codec, height, width)
      if len(list(row(path))) >= 50:
        break
    except (av.error.FFmpegError, OSError, ValueError):
      pass
  else:
    assert codec in NO_VIDEO, f"no container of {SUFFIXES} gives back its pictures"
    return
  assert_resumes(path, points=(1, 13, 30, 37, 49))


def write_any(path, codec, height, width):
  """Writes pictures with any codec, in the first form of pixels that it takes."""
  known = [form.name for form in Codec(codec, "w").video_formats or ()] or ["yuv420p"]
  known = [name for name in known if name != "pal8"] or known  # nothing is converted to it
  with av.open(str(path), "w") as container:
    track = container.add_stream(codec, rate=25, options={"strict": "-2", "cpu-used": "8"})
    track.width, track.height = width, height
    track.pix_fmt = next((name for name in ("yuv420p", "rgb24") if name in known), known[0])
    track.codec_context.gop_size = 12
    for number in range(60):
      frame = av.VideoFrame.from_ndarray(moving(number, height, width), format="rgb24")
      frame.pts = number
      container.mux(track.encode(frame))
    container.mux(track.encode(None))


# --- key packets ----------------------------------------------------------------------------------


def key_packets_of(path):
  """Returns the packets of a track, and the keys of those that decoding can start from."""
  with opening.open_media(str(path)) as container:
    packets = [p for p in container.demux(video=0) if p.size]
  marked = list(key_packets.marked(iter(packets)))
  return packets, [packet.opaque for packet in marked if packet.opaque is not None]


def test_a_key_packet_is_found_again_and_no_other_taken_for_it(tmp_path):
  path = write_video(tmp_path / "v.mkv", num=40, gop=10, make=moving, sound_s=0)
  packets, keys = key_packets_of(path)
  assert [key.packet for key in keys] == [n for n, p in enumerate(packets) if p.is_keyframe]
  assert len(keys) >= 4
  for key in keys:
    found = key_packets.from_key(iter(packets), key)
    assert found is not None and len(list(found)) == len(packets) - key.packet
    for other in (key._replace(crc=key.crc ^ 1), key._replace(size=1), key._replace(packet=99)):
      assert key_packets.from_key(iter(packets), other) is None


@pytest.mark.parametrize("way", ["seek", "read", "start"])
def test_where_seeking_fails_packets_are_read_and_not_decoded(tmp_path, monkeypatch, way):
  path = write_video(tmp_path / "v.mkv", num=200, gop=10, make=moving, sound_s=0, width=64)
  ticks, states = elements_and_states(row(path))
  if way != "seek":
    monkeypatch.setattr(pictures, "seek_key", lambda *_: None)
  if way == "start":
    monkeypatch.setattr(pictures, "from_key", lambda *_: None)
  decoded, inner = [], pictures.Pictures._placed
  monkeypatch.setattr(
    pictures.Pictures, "_placed", lambda self, time: decoded.append(time) or inner(self, time)
  )
  iterator = iter(row(path))
  iterator.set_state(states[180])
  assert_same(next(iterator), ticks[180])
  assert len(decoded) > 180 if way == "start" else 0 < len(decoded) < 40
