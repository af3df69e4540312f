"""Pictures and sound are those that the ffmpeg program gives: codecs x containers x properties."""

import itertools
import struct

import numpy as np
import pytest

from perceiver_stream.evaluation.datasets import files
from perceiver_stream.streams import probe
from tests.support import ffmpeg_program
from tests.support.stream_checks import video_row

NUM = 6  # frames
SOURCE = (
  *("-f", "lavfi", "-i"),
  f"testsrc2=size=96x64:rate=25:duration={NUM / 25},drawbox=w=24:h=16:color=red:t=fill",
)
X264 = ("-c:v", "libx264", "-crf", "5")
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "1")
MPEG4 = ("-c:v", "mpeg4", "-q:v", "1")
LACE = ("-vf", "tinterlace=interleave_top,setfield=tff", "-flags", "+ildct+ilme")
WIDE = ("-vf", "setsar=4/3")
TALL = ("-vf", "setsar=2/3")
ENCODED = {
  "h264.mp4": X264,
  "h264.mkv": X264,
  "h264.mov": X264,
  "h264.ts": X264,
  "h264.flv": X264,
  "h264.3gp": X264,
  "10 bits.mp4": (*X264, "-pix_fmt", "yuv420p10le"),
  "444.mkv": (*X264, "-pix_fmt", "yuv444p"),
  "full range.mp4": (*X264, "-pix_fmt", "yuvj420p"),
  "bt709.mp4": ("-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", *X264),
  "hevc.mp4": ("-c:v", "libx265", "-crf", "5", "-x265-params", "log-level=none"),
  "vp8.webm": ("-c:v", "libvpx", "-b:v", "4M"),
  "vp9.webm": ("-c:v", "libvpx-vp9", "-lossless", "1"),
  "av1.mp4": ("-c:v", "libsvtav1", "-preset", "12", "-crf", "5"),
  "mpeg4.avi": MPEG4,
  "mpeg2.mpg": MPEG2,
  "mpeg2.ts": MPEG2,
  "theora.ogv": ("-c:v", "libtheora", "-q:v", "10"),
  "mjpeg.avi": ("-c:v", "mjpeg", "-q:v", "1"),
  "prores.mov": ("-c:v", "prores_ks"),
  "wmv2.asf": ("-c:v", "wmv2", "-q:v", "1"),
  "sorenson.flv": ("-c:v", "flv", "-q:v", "1"),
  "rle.mov": ("-c:v", "qtrle"),
  "palette.gif": (),
  "rgb.avi": ("-c:v", "huffyuv", "-pix_fmt", "rgb24"),
  "transparent.mkv": ("-vf", "format=rgba,colorchannelmixer=aa=0.5", "-c:v", "png"),
  "grey.mkv": ("-c:v", "ffv1", "-pix_fmt", "gray"),
  "raw.y4m": ("-pix_fmt", "yuv420p"),
  "packed.nut": ("-c:v", "rawvideo", "-pix_fmt", "yuyv422"),
  "odd size.mkv": ("-vf", "crop=95:61", "-c:v", "ffv1", "-pix_fmt", "yuv444p"),
  "wide pixels.mp4": (*WIDE, *X264),
  "wide pixels.mkv": (*WIDE, *X264),
  "wide pixels.avi": (*WIDE, *MPEG4),
  "wide pixels.ts": (*WIDE, *X264),
  "tall pixels.mp4": (*TALL, *MPEG4),
  "tall pixels.mkv": (*TALL, "-c:v", "ffv1"),
  "laced.mpg": (*LACE, *MPEG2, "-frames:v", "1"),
  "laced.mkv": (*LACE, "-c:v", "ffv1", "-frames:v", "1"),
  "laced.mp4": (*LACE, *X264, "-x264opts", "tff=1", "-frames:v", "1"),
}
TURNED = {
  f"{angle}{'h' * across}{'v' * down}.{suffix}": ("-display_rotation", str(angle))
  + ("-display_hflip",) * across
  + ("-display_vflip",) * down
  for suffix, angle, across, down in itertools.product(
    ("mp4", "mov"), (0, 90, 180, 270), (False, True), (False, True)
  )
} | {f"{angle}.mkv": ("-display_rotation", str(angle)) for angle in (90, 180, 270)}
# Matroska's elements PixelCropLeft, -Right, -Top and -Bottom; other containers get them by copying.
MARGINS = {
  "left, top": b"\x54\xcc\x81\x0a\x54\xbb\x81\x0c",
  "right, bottom": b"\x54\xdd\x81\x06\x54\xaa\x81\x04",
}
CROPPED = tuple(
  f"cropped {which}.{suffix}" for which in MARGINS for suffix in ("mkv", "mp4", "mov")
)
NAMES = (*ENCODED, *TURNED, *CROPPED)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
  """Returns the folder of all files, and the program's frames of each."""
  folder = tmp_path_factory.mktemp("as_shown")
  ffmpeg_program.make(SOURCE, {folder / name: options for name, options in ENCODED.items()})
  for name, options in TURNED.items():
    ffmpeg_program.run(*options, "-i", folder / "h264.mp4", "-c", "copy", folder / name)
  for name in CROPPED:
    which, suffix = name.removeprefix("cropped ").split(".")
    if suffix == "mkv":
      (folder / name).write_bytes(with_margins((folder / "h264.mkv").read_bytes(), MARGINS[which]))
    else:
      ffmpeg_program.run("-i", folder / f"cropped {which}.mkv", "-c", "copy", folder / name)
  filters = {folder / name: "yadif=deint=interlaced" * name.startswith("laced") for name in NAMES}
  return folder, ffmpeg_program.pictures(filters, folder)


def with_margins(data: bytes, margins: bytes) -> bytes:
  """Returns a Matroska file that states margins in place of 10 other bytes on its video."""
  at = data.index(b"\x9a\x81", data.index(b"\xb0\x81\x60\xba\x81\x40"))  # after width and height
  void = b"\xec\x80"
  return data[:at] + margins + void + data[at + 10 :]


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_those_of_the_program(shown, name):
  folder, expected = shown
  about = probe.probe(str(folder / name))
  row = video_row(
    folder / name, height=about.height, width=about.width, rate_hz=0.0, audio_rate_hz=0
  )
  got = np.stack([tick["pixels"] for tick in row])
  want = np.frombuffer(expected[folder / name], np.uint8)
  assert want.size == got.size, f"the program gives {want.size / got[0].size} times {got[0].shape}"
  assert np.abs(want.reshape(got.shape).astype(int) - got).mean() < 0.1


@pytest.mark.parametrize("name", ["h264.mp4", "90h.mov", *CROPPED, "laced.mkv"])
def test_videos_of_data_sets_are_those_of_the_program(shown, name):
  folder, expected = shown
  got = files.read_video(folder / name, None)
  want = np.frombuffer(expected[folder / name], np.uint8).reshape(got.shape)
  assert np.abs(want.astype(int) - got).mean() < 0.1


def test_each_frame_has_the_shape_of_its_own_pixels(tmp_path):
  aspects = {tmp_path / "1.ts": "4:3", tmp_path / "2.ts": "16:9", tmp_path / "3.ts": "4:3"}
  for number, (path, aspect) in enumerate(aspects.items()):
    late = ("-output_ts_offset", str(number * (NUM + 2) / 25))
    ffmpeg_program.make(SOURCE, {path: (*MPEG2, "-bf", "2", "-aspect", aspect, *late)})
  (tmp_path / "all.ts").write_bytes(b"".join(path.read_bytes() for path in aspects))
  size = {"height": 64, "width": 64, "crop": "centre", "rate_hz": 0.0, "audio_rate_hz": 0}
  alone = [tick["pixels"] for path in aspects for tick in video_row(path, **size)]
  joined = [tick["pixels"] for tick in video_row(tmp_path / "all.ts", **size)]
  assert len(alone) == len(joined) == 3 * NUM
  for one, other in zip(joined, alone, strict=True):
    assert np.abs(one.astype(int) - other).mean() < 1
  assert np.abs(alone[0].astype(int) - alone[NUM]).mean() > 5  # they are not alike


@pytest.fixture(scope="module")
def laced(tmp_path_factory):
  """Returns interlaced video of a bar that moves 8 pixels a frame, 4 between the fields."""
  path = tmp_path_factory.mktemp("laced") / "v.mpg"
  moving = "color=black:size=96x64:rate=50:duration=0.32[g];color=white:size=16x40:rate=50[b];"
  moving += "[g][b]overlay=x=4*n:y=12:shortest=1"
  ffmpeg_program.make(("-f", "lavfi", "-i", moving), {path: (*LACE, *MPEG2)})
  return path


def test_a_frame_of_two_fields_shows_one_moment(laced):
  ticks = list(video_row(laced, height=64, width=96, audio_rate_hz=0))
  for tick in ticks:
    grey = tick["pixels"][14:50].astype(int).mean(-1)
    assert np.abs(grey[1:] - grey[:-1]).mean() < 3  # woven fields: 21
    assert 14 <= (grey > 128).sum() / len(grey) <= 18  # the bar is as wide as it is


def test_what_is_shown_does_not_know_the_next_frame(laced, tmp_path):
  ffmpeg_program.run("-i", laced, "-frames:v", "5", "-c", "copy", tmp_path / "start.mpg")
  long, short = (
    [t["pixels"] for t in video_row(p, audio_rate_hz=0)] for p in (laced, tmp_path / "start.mpg")
  )
  assert 3 < len(short) < len(long)
  np.testing.assert_array_equal(np.stack(short), np.stack(long[: len(short)]))


ORIENTED = {
  1: lambda p: p,
  2: lambda p: p[:, ::-1],
  3: lambda p: p[::-1, ::-1],
  4: lambda p: p[::-1],
  5: lambda p: p.swapaxes(0, 1),
  6: lambda p: p.swapaxes(0, 1)[:, ::-1],
  7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
  8: lambda p: p.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", ORIENTED)
def test_photos_are_turned_as_their_exif_says(tmp_path, orientation):
  ffmpeg_program.make(SOURCE, {tmp_path / "a.jpg": ("-frames:v", "1", "-update", "1", "-q:v", "2")})
  data = (tmp_path / "a.jpg").read_bytes()
  directory = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 0x112, 3, 1, orientation, 0)
  exif = b"Exif\0\0" + directory
  marker = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
  (tmp_path / "b.jpg").write_bytes(data[:2] + marker + data[2:])
  expected = ORIENTED[orientation](probe.read_picture(str(tmp_path / "a.jpg")))
  np.testing.assert_array_equal(probe.read_picture(str(tmp_path / "b.jpg")), expected)


TONES = "aevalsrc=0.9*sin(300*PI*t*(2+t))|0.7*sin(500*PI*t*(2+t)):d=2:s=48000"
ENCODED_SOUND = {
  "pcm.mkv": ("-c:a", "pcm_s16le"),
  "pcm.avi": ("-c:a", "pcm_s16le"),
  "pcm24.mov": ("-c:a", "pcm_s24le"),
  "float.mkv": ("-c:a", "pcm_f32le"),
  "flac.mkv": ("-c:a", "flac"),
  "aac.mp4": ("-c:a", "aac", "-b:a", "256k"),
  "aac.ts": ("-c:a", "aac", "-b:a", "256k"),
  "mp3.mp4": ("-c:a", "libmp3lame", "-b:a", "256k"),
  "mp2.mpg": ("-c:a", "mp2", "-b:a", "256k"),
  "ac3.ts": ("-c:a", "ac3", "-b:a", "256k"),
  "opus.webm": ("-c:v", "libvpx", "-c:a", "libopus", "-b:a", "256k"),
  "vorbis.mkv": ("-c:a", "libvorbis", "-q:a", "8"),
}


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
  """Returns a folder of videos with two tones in stereo."""
  folder = tmp_path_factory.mktemp("heard")
  picture = ("-f", "lavfi", "-i", "color=size=32x32:rate=25:duration=2")
  outputs = {folder / name: options for name, options in ENCODED_SOUND.items()}
  ffmpeg_program.make((*picture, "-f", "lavfi", "-i", TONES), outputs)
  return folder


@pytest.mark.parametrize("name", ENCODED_SOUND)
def test_sound_is_that_of_the_program(heard, tmp_path, name):
  ticks = list(video_row(heard / name, audio_rate_hz=48000))
  got = np.concatenate([tick["audio"] for tick in ticks[10:40]])
  want = ffmpeg_program.samples(heard / name, 48000, tmp_path)
  at = 9 * 1920  # tick 10 has the samples since tick 9
  early = np.arange(1500)  # MPEG's containers let the sound begin before the pictures
  errors = [np.abs(want[at + lag :][: len(got)] - got).mean() for lag in early]
  assert min(errors) < 1e-3, "another sound, or another level"
  assert np.argmin(errors) == 0 or name.endswith((".ts", ".mpg"))
