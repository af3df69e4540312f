"""Animations hold each frame beside the prediction made for it, and the tracks of its points."""

import importlib.util
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from perceiver_stream import inference
from perceiver_stream.evaluation.trackers import TRACKERS
from perceiver_stream.evaluation.trackers_online import OnlineTracker
from perceiver_stream.inference import animation
from perceiver_stream.inference.animation import Options, Tick
from perceiver_stream.inference.cli import stream_for
from perceiver_stream.reporting.video_writer import VideoWriter

ROOT = pathlib.Path(__file__).parents[2]
NANO = "stream_perceiver/nano"


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  path = tmp_path_factory.mktemp("movie") / "a.mp4"
  with VideoWriter(path, rate_hz=25, audio_rate_hz=16000, min_side=1) as writer:
    for number in range(20):
      writer.write_frame(np.full((32, 32, 3), 10 * number, np.uint8))
    writer.write_sound(np.zeros(20 * 640, np.float32))
  return path


@pytest.mark.filterwarnings("ignore:.* has random weights")
def test_a_prediction_stands_beside_the_tick_it_was_made_for(movie: pathlib.Path) -> None:
  loaded = inference.load(NANO)  # untrained: it predicts the last frame
  config = stream_for(loaded, str(movie))
  ticks = list(animation.predictions(loaded, config, Options(displacement=4, side=32)))
  assert len(ticks) == 20 and all(tick.predicted is None for tick in ticks[:4])
  for before, now in zip(ticks, ticks[4:], strict=False):
    assert now.predicted is not None
    np.testing.assert_allclose(now.predicted, before.read, atol=4)
    assert abs(int(now.frame.mean()) - int(now.read.mean())) <= 4  # shades differ by 10


@pytest.mark.filterwarnings("ignore:.* has random weights")
def test_a_model_without_pixels_is_refused() -> None:
  loaded = inference.load(NANO)
  blind = loaded._replace(model=loaded.model._replace(modalities={}))
  with pytest.raises(ValueError, match="predicts no pixels"):
    next(animation.predictions(blind, None, Options()))


def ticks_of(count: int) -> list[Tick]:
  shade = lambda n, side: np.full((side, side, 3), n, np.uint8)  # noqa: E731
  return [Tick(shade(n, 64), shade(n + 100, 8), shade(n + 50, 8)) for n in range(count)]


def test_panels_of_a_tick_stand_side_by_side() -> None:
  options = Options(displacement=2, start_s=0.2, seconds=0.5, side=64)
  follow = OnlineTracker(TRACKERS["static"], np.array([[0.0, 32.0, 32.0]]))
  frames = animation.animate(ticks_of(12), follow, options, rate_hz=10)
  assert frames.shape == (5, 64 + 26, 3 * 64 + 2 * 8, 3)
  for number, frame in enumerate(frames, start=2):  # after as many ticks as are looked ahead
    assert (frame[-1, 5] == number + 100).all() and (frame[-1, 77] == number + 50).all()
    assert (frame[-1, 149] == number).all() and (frame[:26] < 200).any()  # titles
    assert (frame[26 + 32, 144 + 32] != number).any()  # the point


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"displacement": 0}, "at least 1"),
    ({"quality": 101}, "1 to 100"),
    ({"start_s": -1.0}, "0 or more"),
    ({"seconds": 0.0}, "a length"),
  ],
)
def test_options_out_of_range_are_refused(fields: dict, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    Options(**fields).validate()


def test_a_video_that_ends_before_the_start_is_refused() -> None:
  with pytest.raises(ValueError, match="no more than 30 ticks; use a smaller start"):
    follow = OnlineTracker(TRACKERS["static"], np.array([[0.0, 1.0, 1.0]]))
    animation.animate(ticks_of(4), follow, Options(start_s=3.0), rate_hz=10)


@pytest.mark.filterwarnings("ignore:.* has random weights")
def test_the_script_writes_a_looped_image(
  movie: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  spec = importlib.util.spec_from_file_location("animate", ROOT / "scripts" / "animate.py")
  assert spec and spec.loader
  script = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(script)
  output = tmp_path / "a.webp"
  arguments = [NANO, str(movie), f"--output={output}", "--seconds=0.2", "--side=32", "--grid=2"]
  monkeypatch.setattr(sys, "argv", ["animate.py", *arguments, "--tracker=static"])
  script.main()
  with Image.open(output) as image:
    assert image.format == "WEBP" and image.info["loop"] == 0
    assert image.size == (3 * 32 + 2 * 8, 32 + 26) and getattr(image, "n_frames", 1) == 5
