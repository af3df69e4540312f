"""A looped animation of a video: the input of a model, its prediction, and tracked points."""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from perceiver_stream import streams
from perceiver_stream.inference import tracking
from perceiver_stream.inference.model_loading import Loaded, ticks_left, watch
from perceiver_stream.reporting.track_images import draw_tracks
from perceiver_stream.utils import atomic
from perceiver_stream.utils.opencv import opencv

WATCHED = 8  # ticks that the model is given at once
_GAP, _BAR = 8, 26  # pixels between the panels, and of the line of text above them
_INK, _PAPER = (40, 40, 40), 255


@dataclasses.dataclass(kw_only=True)
class Options:
  """Contents and size of an animation.

  Attributes:
    displacement: Ticks ahead of the prediction that is shown.
    start_s: Time in the video at which the animation starts.
    seconds: Its length.
    side: Rows and columns of a panel, pixels.
    quality: Of the WebP file, 1 to 100.
  """

  displacement: int = 4
  start_s: float = 0.0
  seconds: float = 4.0
  side: int = 256
  quality: int = 60

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.displacement < 1 or self.side < 16 or not 1 <= self.quality <= 100:
      raise ValueError(
        f"animation: displacement={self.displacement}, side={self.side}, quality={self.quality}; "
        f"use at least 1, at least 16, and 1 to 100."
      )
    if self.start_s < 0 or self.seconds <= 0:
      raise ValueError(
        f"animation: start_s={self.start_s}, seconds={self.seconds}; use 0 or more, and a length."
      )


class Tick(NamedTuple):
  """Images of one tick.

  Attributes:
    frame: The video at the size of a panel.
    read: The same frame as the model reads it.
    predicted: The prediction for this tick, made `displacement` ticks before; None at the start.
  """

  frame: UInt8[np.ndarray, "S S 3"]
  read: UInt8[np.ndarray, "H W 3"]
  predicted: UInt8[np.ndarray, "H W 3"] | None


def predictions(loaded: Loaded, config: Any, options: Options) -> Iterator[Tick]:
  """Yields the ticks of a video with the model's predictions of them.

  Args:
    loaded: A model that predicts pixels.
    config: Of the stream, as `cli.stream_for` returns it.
    options: The displacement, and the size of `Tick.frame`.

  Raises:
    ValueError: The model predicts no pixels.
  """
  pixels = loaded.model.modalities.get("pixels")
  if pixels is None or not pixels.config.use_output:
    raise ValueError("animation: the model predicts no pixels; choose one that does.")
  windows = streams.windows(streams.open_rows(config), WATCHED, 0)
  large = dataclasses.replace(config, height=options.side, width=options.side, audio_rate_hz=0)
  frames = (tick["pixels"] for tick in streams.open_rows(large)[0])
  made: list[np.ndarray | None] = [None] * options.displacement
  for window, out, _ in watch(loaded, windows, (options.displacement,)):
    count = ticks_left(window)
    made += [pixels.picture(x) for x in np.asarray(out.predictions["pixels"])[:count, 0, 0]]
    for read, frame in zip(window["pixels"][:count, 0], frames, strict=False):
      yield Tick(frame, read, made.pop(0))


def animate(
  ticks: Iterable[Tick], follow: tracking.FrameTracker, options: Options, rate_hz: float | int
) -> UInt8[np.ndarray, "T h w 3"]:
  """Returns the frames of the animation: input, prediction and tracks, each with its title.

  Args:
    ticks: Of a video from its start.
    follow: Tracks points from the first frame of the animation on.
    options: See `Options`.
    rate_hz: Ticks per second.

  Raises:
    ValueError: The video ends before the animation starts, or before a prediction for it.
  """
  first = max(round(options.start_s * rate_hz), options.displacement)
  shown = list(itertools.islice(ticks, first, first + max(1, round(options.seconds * rate_hz))))
  if not shown:
    raise ValueError(f"animation: the video has no more than {first} ticks; use a smaller start.")
  frames = np.stack([tick.frame for tick in shown])
  height, width = shown[0].read.shape[:2]
  panels = {
    f"input, {width} x {height}": [_enlarged(tick.read, options.side) for tick in shown],
    f"predicted {options.displacement / rate_hz:.2f} s before": [
      _enlarged(tick.predicted, options.side) for tick in shown if tick.predicted is not None
    ],
    "tracked points": _tracked(frames, follow),
  }
  return np.stack([_page(panels, n) for n in range(len(shown))])


def _tracked(frames: UInt8[np.ndarray, "T S S 3"], follow: tracking.FrameTracker) -> np.ndarray:
  pieces = [follow(frames[n : n + tracking.CHUNK]) for n in range(0, len(frames), tracking.CHUNK)]
  tracks, visible = (
    np.concatenate([getattr(piece, field) for piece in pieces], axis=1)
    for field in ("tracks", "visible")
  )
  return draw_tracks(frames, tracks, visible)


def _enlarged(image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "S S 3"]:
  cv2 = opencv()
  return cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)


def _page(panels: dict[str, Any], number: int) -> UInt8[np.ndarray, "h w 3"]:
  """Returns the panels of one tick side by side, with a line of text above each."""
  cv2, columns = opencv(), []
  for title, images in panels.items():
    side = images[number].shape[1]
    bar = np.full((_BAR, side, 3), _PAPER, np.uint8)
    cv2.putText(
      bar, title, (2, _BAR - 9), cv2.FONT_HERSHEY_SIMPLEX, side / 512, _INK, 1, cv2.LINE_AA
    )
    gap = np.full((_BAR + side, _GAP, 3), _PAPER, np.uint8)
    columns += [np.concatenate([bar, images[number]]), gap]
  return np.concatenate(columns[:-1], axis=1)


def write_webp(
  path: str | pathlib.Path, frames: UInt8[np.ndarray, "T h w 3"], rate_hz: float | int, quality: int
) -> None:
  """Writes frames as an animated WebP image that repeats for ever."""
  from PIL import Image  # of matplotlib

  images = [Image.fromarray(frame) for frame in frames]
  with atomic.replacing(path) as part:
    images[0].save(
      part,
      format="WEBP",
      save_all=True,
      append_images=images[1:],
      duration=round(1000 / rate_hz),
      loop=0,
      quality=quality,
      method=6,
    )
