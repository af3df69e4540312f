"""Windows of recordings: exact indices, edges, and refusals."""

import numpy as np
import pytest

from perceiver_stream.streams.sampling import (
  Span,
  looped,
  num_samples,
  random_span,
  spaced_spans,
  span_length,
  synced_span,
)


@pytest.mark.parametrize("frames, step, length", [(16, 2, 31), (64, 4, 253), (1, 9, 1)])
def test_a_window_covers_its_first_to_last_frame(frames, step, length):
  assert span_length(frames, step) == length == len(range(0, length - 1, step)) * step + 1
  first, last = spaced_spans(length + 7, 2, frames, step)
  assert first == Span(0, length, step) and last == Span(7, length + 7, step)
  assert len(range(*first)) == frames


def test_one_window_is_the_first_and_too_short_recordings_are_refused():
  assert spaced_spans(50, 1, 4, 2) == [Span(0, 7, 2)]
  with pytest.raises(ValueError, match="6 frames, but a window covers 7; repeat"):
    spaced_spans(6, 3, 4, 2)
  with pytest.raises(ValueError, match="6 frames from 3, but a window covers 7"):
    random_span(np.random.default_rng(0), 3, 9, 4, 2)


def test_random_windows_reach_every_start_and_stay_inside():
  rng = np.random.default_rng(0)
  starts = [random_span(rng, 5, 15, 3, 2).start for _ in range(200)]
  assert set(starts) == set(range(5, 11))


@pytest.mark.parametrize("length, least, count", [(3, 7, 9), (8, 7, 8), (3, 6, 6)])
def test_short_recordings_are_repeated_as_a_whole(length, least, count):
  assert list(looped(length, least)) == [i % length for i in range(count)]
  with pytest.raises(ValueError, match="0 frames"):
    looped(0, least)


def test_sound_of_frames():
  assert synced_span(Span(0, 25, 2), 25, 16000) == Span(0, 16000, 1)
  assert synced_span(Span(20, 30), 25, 16000).stop == 16000
  assert num_samples(64, 4, 25, 48000) == 491520 and num_samples(3, 1, 30, 44100) == 4410
