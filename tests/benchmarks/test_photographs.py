"""Moved photographs: tracks lie on what they follow."""

import importlib
import pathlib

import cv2
import numpy as np
import pytest
from extras import need

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def photographs(monkeypatch):
  monkeypatch.syspath_prepend(FOLDER)
  return importlib.import_module("photographs")


@pytest.mark.parametrize("seed", range(3))
def test_a_visible_point_keeps_its_colour(photographs, seed):
  y, x = np.mgrid[:160, :200]
  photo = np.stack([x, y, 255 - y], axis=-1).astype(np.uint8)  # colour is place
  clip = photographs.moved(photo, ticks=12, side=64, points=40, seed=seed)
  assert np.ptp(clip.tracks, axis=1).max() > 5 and not clip.occluded[:, 0].any()
  inside = ((clip.tracks > 1) & (clip.tracks < 63)).all(axis=(1, 2))
  assert inside.sum() > 5
  at = clip.tracks[inside].astype(np.float32) - 0.5
  colours = np.stack(
    [cv2.remap(f, at[:, t, None], None, cv2.INTER_LINEAR) for t, f in enumerate(clip.frames)]
  )
  colours = colours.astype(float)
  np.testing.assert_allclose(colours, np.broadcast_to(colours[:1], colours.shape), atol=1.5)


def test_clips_are_made_of_packaged_photographs(photographs):
  need("skimage")
  first, second = photographs.held_out(2, ticks=3, side=32, num_points=5)
  assert first.frames.shape == (3, 32, 32, 3) and first.tracks.shape == (5, 3, 2)
  assert first.frames.std() > 20 and not np.array_equal(first.frames, second.frames)
