import av
import numpy as np
import pytest

from perceiver_stream.reporting import images
from perceiver_stream.streams import probe
from perceiver_stream.streams.damage import DamagedError


def save(path, size, rate=10, count=3, sound=False):
  with av.open(str(path), "w") as container:
    track = container.add_stream("mpeg4", rate=rate)
    track.height, track.width, track.pix_fmt = *size, "yuv420p"
    audio = container.add_stream("aac", rate=48000, layout="mono") if sound else None
    for i in range(count):
      frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 40 * i, np.uint8), format="rgb24")
      container.mux(track.encode(frame))
    container.mux(track.encode(None))
    if audio is not None:
      frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
      frame.sample_rate = 48000
      container.mux(audio.encode(frame))
      container.mux(audio.encode(None))


def test_a_video_is_probed(tmp_path):
  save(tmp_path / "a.mp4", (32, 48), sound=True)
  assert probe.probe(str(tmp_path / "a.mp4")) == (32, 48, 10.0, True, False)
  save(tmp_path / "b.mp4", (48, 32))
  assert probe.probe(str(tmp_path / "b.mp4")) == (48, 32, 10.0, False, False)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 64)])
def test_a_picture_is_read_as_it_is(tmp_path, size):
  picture = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
  path = tmp_path / "a.png"
  path.write_bytes(images.png_bytes(picture))
  np.testing.assert_array_equal(probe.read_picture(str(path)), picture)
  assert probe.probe(str(path)).is_picture


@pytest.mark.parametrize(
  ("size", "most", "want"),
  [
    ((10, 20), 0, (10, 20)),
    ((10, 20), 20, (10, 20)),
    ((10, 20), 10, (5, 10)),
    ((1, 99), 9, (1, 9)),
  ],
)
def test_sizes_are_reduced_in_proportion(size, most, want):
  assert probe.reduced(*size, most) == want


def test_what_is_no_picture_is_said(tmp_path):
  save(tmp_path / "a.mp4", (32, 48))
  with pytest.raises(ValueError, match="is a video, not one image; give two images"):
    probe.read_picture(str(tmp_path / "a.mp4"))
  with pytest.raises(FileNotFoundError, match="there is no file"):
    probe.probe(str(tmp_path / "gone.mp4"))
  (tmp_path / "text.png").write_text("no picture")
  with pytest.raises(DamagedError, match="cannot be opened|no image in it"):
    probe.probe(str(tmp_path / "text.png"))
