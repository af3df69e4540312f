"""Video of predictions: each frame and its sound as predicted some ticks before."""

import pathlib
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from perceiver_stream.inference.griffin_lim import FLOOR, waveform
from perceiver_stream.inference.model_loading import Loaded, ticks_left, watch
from perceiver_stream.modalities.dense import Dense
from perceiver_stream.reporting.video_writer import VideoWriter
from perceiver_stream.streams.base import TIMESTAMP
from perceiver_stream.utils.paths import user_path

GREY = 128  # shown for the first ticks, which have no prediction


class Predicted(NamedTuple):
  """Result of `predict_video`.

  Attributes:
    path: Path of the video.
    ticks: Length in ticks.
    has_sound: True if sound was predicted too.
  """

  path: pathlib.Path
  ticks: int
  has_sound: bool


def predict_video(
  loaded: Loaded,
  windows: Iterable[Mapping[str, np.ndarray]],
  path: str | pathlib.Path,
  *,
  displacement: int,
  rate_hz: float | int,
  beside: bool = False,
) -> Predicted:
  """Writes a video of the prediction for every tick, made `displacement` ticks earlier.

  It shows pixels, or else the first dense output of the model, such as flow in colours. The video
  is as long as its input. Sound is made from predicted log-mel energies; see `griffin_lim`.

  Args:
    loaded: Model and parameters.
    windows: Successive windows of one row, `[T, 1, ...]`, without overlap.
    path: Path of the video.
    displacement: Ticks ahead.
    rate_hz: Ticks per second; 0 shows each frame at the time of its tick.
    beside: Show the input on the left.

  Raises:
    ValueError: The model predicts no image, or sound for ticks without a rate.
  """
  outputs = {n for n, m in loaded.model.modalities.items() if m.config.use_output}
  shows = loaded.model.modalities[_picture_of(loaded, outputs)]
  audio = loaded.model.modalities["audio"].config if "audio" in outputs else None
  if audio and not rate_hz:
    raise ValueError(
      "predict_video: the model predicts sound, of which ticks with rate_hz=0 have no fixed length; "
      "give a stream with a rate_hz."
    )
  sound: list[np.ndarray] = []
  late: deque[np.ndarray] = deque()
  ticks, start_s = 0, None
  with VideoWriter(path, rate_hz=rate_hz, audio_rate_hz=audio.rate_hz if audio else 0) as writer:
    for window, out, _ in watch(loaded, windows, (displacement,)):
      new = ticks_left(window)
      late.extend(map(shows.picture, np.asarray(out.predictions[shows.name])[:new, 0, 0]))
      if audio:
        sound.extend(np.asarray(out.predictions["audio"])[:new, 0, 0])
      start_s = window[TIMESTAMP][0, 0] if start_s is None else start_s
      times_s = [None] * new if rate_hz else window[TIMESTAMP][:new, 0] - start_s
      for frame, time_s in zip(np.asarray(window["pixels"])[:new, 0], times_s, strict=True):
        shown = np.full_like(frame, GREY) if ticks < displacement else late.popleft()
        writer.write_frame(np.concatenate([frame, shown], axis=1) if beside else shown, time_s)
        ticks += 1
    if audio and ticks:
      writer.write_sound(_sound(sound, displacement, audio))
  return Predicted(user_path(path), ticks, audio is not None)


def _sound(predictions: list[np.ndarray], displacement: int, audio: Any) -> np.ndarray:
  """Returns the samples, silent for the first ticks, which have no prediction.

  The sound of a tick ends at the time of its frame (see `streams.video`), so it plays one tick earlier.
  """
  silence = np.log(FLOOR) if audio.predict == "log_mel" else 0.0
  nothing = [np.full_like(predictions[0], silence)]
  aligned = np.stack((nothing * displacement + predictions + nothing)[1 : len(predictions) + 1])
  return waveform(aligned, audio) if audio.predict == "log_mel" else aligned.reshape(-1)


def _picture_of(loaded: Loaded, outputs: set[str]) -> str:
  """Returns the name of the output to show."""
  dense = sorted(n for n in outputs if isinstance(loaded.model.modalities[n], Dense))
  if not dense:
    raise ValueError(f"predict_video: the model predicts {sorted(outputs)}, no image.")
  return "pixels" if "pixels" in outputs else dense[0]
