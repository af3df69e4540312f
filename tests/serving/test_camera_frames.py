"""Images and sound of browsers: decoded as sent, refused before they cost anything."""

import tracemalloc

import numpy as np
import pytest
from jpegs import jpeg, resized_header

from perceiver_stream.serving.camera_frames import MAX_SCANS, decode_jpeg, sound_of
from perceiver_stream.serving.messages import MessageError


def test_an_image_is_rgb_as_it_was_sent() -> None:
  image = decode_jpeg(jpeg(), (16, 24))
  assert image.shape == (16, 24, 3) and image.dtype == np.uint8
  assert np.abs(image[8, 2].astype(int) - [200, 90, 90]).max() < 8
  assert np.abs(image[8, 22].astype(int) - 90).max() < 8


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (b"", "no JPEG"),
    (b"\x89PNG\r\n\x1a\n" + bytes(40), "no JPEG"),
    (jpeg()[:20], "no JPEG"),
    (jpeg(8, 8), "8 x 8 pixels, expected 16 x 24; scale it"),
    (resized_header(jpeg(), 65000, 65000), "65000 x 65000 pixels, expected 16 x 24"),
    (jpeg()[:200], "cannot be decoded"),
    (jpeg() + b"\xff\xda" * MAX_SCANS, f"more than {MAX_SCANS} scans"),
  ],
)
def test_what_is_no_image_of_that_size_is_refused(data, reason) -> None:
  tracemalloc.start()
  with pytest.raises(MessageError, match=reason):
    decode_jpeg(data, (16, 24))
  assert tracemalloc.get_traced_memory()[1] < 2**20
  tracemalloc.stop()


def test_even_an_expected_size_has_a_budget() -> None:
  with pytest.raises(MessageError, match="pixels"):
    decode_jpeg(resized_header(jpeg(), 60000, 60000), (60000, 60000))


@pytest.mark.parametrize("given", [0, 3, 8, 20])
def test_sound_is_the_newest_samples_after_silence(given) -> None:
  pcm = np.arange(1, given + 1, dtype=np.int16) * 100
  sound = sound_of(pcm, 8)
  newest = pcm[-8:].astype(np.float32) / 32768
  assert sound.shape == (8,) and sound.dtype == np.float32
  np.testing.assert_array_equal(sound[8 - len(newest) :], newest)
  assert not sound[: 8 - len(newest)].any()


@pytest.mark.parametrize("pcm", [np.zeros(4, np.float32), np.zeros((2, 2), np.int16)])
def test_sound_of_another_kind_is_refused(pcm) -> None:
  with pytest.raises(MessageError, match="expected int16"):
    sound_of(pcm, 8)
