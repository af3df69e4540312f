"""Clips of a window that moves over images of a video, for `benchmarks/positions.py`."""

import importlib
import pathlib

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def positions(monkeypatch):
  monkeypatch.syspath_prepend(FOLDER)
  return importlib.import_module("positions")


def test_clips_are_made_of_images_of_a_video(positions, monkeypatch, tmp_path):
  monkeypatch.setattr(positions, "APART", 3)
  path = positions.common.write_video(tmp_path / "in.mp4", height=96, width=128, seconds=0.4)
  first, second = positions.moved_images(str(path), 2, ticks=3, points=5)
  assert first.frames.shape == (3, 64, 64, 3) and first.tracks.shape == (5, 3, 2)
  assert first.frames.std() > 5 and not (first.frames == second.frames).all()
  with pytest.raises(ValueError, match="images 3 apart; use --clips="):
    positions.moved_images(str(path), 99, ticks=3, points=5)


def test_simple_predictions_are_those_from_the_sources_alone(positions, monkeypatch):
  """A clip is still except for a jump, which copying from the tick before it misses."""
  monkeypatch.setattr(positions, "SOURCES", (5,))
  noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
  frames = np.stack([noise[int(t >= 6)] for t in range(8)])[:, None]
  jump = -10 * np.log10(np.mean(np.square(frames[6] / 255.0 - frames[5] / 255.0)))
  np.testing.assert_allclose(positions.baseline_errors(frames, (1,))["copy"][1], jump, rtol=1e-5)


def test_a_model_without_positions_is_refused(positions):
  with pytest.raises(ValueError, match="latents have no positions; use .*tiny_positions"):
    positions.models("stream_perceiver/nano")
