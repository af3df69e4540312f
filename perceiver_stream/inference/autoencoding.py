"""Reconstruction of a video with sound by an autoencoder, clip after clip."""

import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree, UInt8

from perceiver_stream import zoo
from perceiver_stream.inference.model_loading import Loaded
from perceiver_stream.models.base import Model
from perceiver_stream.models.perceiver_io import autoencoder as perceiver_autoencoder
from perceiver_stream.reporting import images
from perceiver_stream.reporting.video_writer import VideoWriter
from perceiver_stream.utils.paths import user_path
from perceiver_stream.utils.suggest import check_choice

OUTPUTS = ("pixels", "audio", "label")
_AUDIO_RANGE = 2.0  # sound is in [-1, 1]
_MSE_FLOOR = 1e-10


class Clip(NamedTuple):
  """The ticks that the model encodes at once.

  Attributes:
    pixels: Frames.
    audio: Sound from the first frame on; zeros where there is none.
    ticks: Number of real ticks; the last frame is repeated after them.
    has_sound: True if any of the sound is real.
  """

  pixels: UInt8[np.ndarray, "T H W 3"]
  audio: Float[np.ndarray, " S"]
  ticks: int
  has_sound: bool


class Autoencoded(NamedTuple):
  """Result of `autoencode`.

  Attributes:
    path: Path of the video.
    ticks: Length in ticks.
    clips: Number of clips.
    has_sound: True if the input has sound.
    psnr: By output, of the reconstruction (`model`) and of a constant (`mean colour` of the clip,
      `silence`), dB, from the mean squared error of all ticks; sound has the range 2.
    label: Mean probability of each class, `[K]`; empty if not requested.
  """

  path: pathlib.Path
  ticks: int
  clips: int
  has_sound: bool
  psnr: dict[str, dict[str, float]]
  label: Float[np.ndarray, " K"]


def check_autoencoder(model: Model) -> perceiver_autoencoder.Config:
  """Returns the model's config.

  Raises:
    ValueError: The model is no autoencoder of clips.
  """
  if not isinstance(model.config, perceiver_autoencoder.Config):
    family = zoo.family(model.config).name
    raise ValueError(f"autoencode: a {family} encodes no clips; use a perceiver_autoencoder.")
  return model.config


def clips_of(ticks: Iterable[Mapping[str, Any]], length: int) -> Iterator[Clip]:
  """Yields the clips of a stream; the last clip of a recording may be padded.

  The sound of a clip starts with its first frame. A tick holds the sound since the tick before, so
  the sound of a frame comes with the next tick, and the last frame of a recording has none.

  Args:
    ticks: With `pixels` and `audio`.
    length: Ticks of a clip.
  """
  frames: list[np.ndarray] = []
  sound: list[np.ndarray] = []
  with_sound, silence = False, np.zeros(0, np.float32)
  for tick in ticks:
    silence = np.zeros_like(tick["audio"])
    starts = bool(tick["is_first"])
    valid = bool(tick.get("audio_valid", True)) and not starts
    if frames:
      sound.append(tick["audio"] if valid else silence)
      with_sound |= valid
    if frames and (starts or len(frames) == length):
      yield _filled(frames, sound, length, with_sound)
      frames, sound, with_sound = [], [], False
    frames.append(np.asarray(tick["pixels"]))
  if frames:
    yield _filled(frames, [*sound, silence], length, with_sound)


def _filled(frames: list, sound: list, length: int, with_sound: bool) -> Clip:
  missing = length - len(frames)
  pixels = np.stack(frames + [frames[-1]] * missing)
  audio = np.concatenate([*sound, *[np.zeros_like(sound[0])] * missing])
  return Clip(pixels, audio.astype(np.float32), len(frames), with_sound)


def encode_clip(model: Model, params: PyTree, clip: Clip) -> PyTree:
  """Returns the state with the latents of a whole clip, by one pass of the encoder.

  `model.decode` decodes any queries from it; displacement -n is n ticks before the last.
  """
  per_tick = len(clip.audio) // len(clip.pixels)
  image = jnp.asarray(clip.pixels, jnp.float32)[None] / 255
  audio = jnp.asarray(clip.audio)[None, :, None]
  start = model.initial_state(params)
  # All but the last tick are set directly: observing each would encode a clip per tick.
  before = {
    "image": jnp.concatenate([image[:, :1], image[:, :-1]], axis=1),
    "audio": jnp.concatenate([audio[:, :per_tick], audio[:, :-per_tick]], axis=1),
  }
  newest = {"pixels": image[None, :, -1], "audio": audio[None, :, -per_tick:, 0]}
  _, state = model.observe(params, start._replace(extra=before), newest)
  return state


def decode_clip(
  model: Model, params: PyTree, state: PyTree, outputs: Sequence[str] = OUTPUTS
) -> dict[str, np.ndarray]:
  """Returns some outputs of an encoded clip, decoded tick by tick; others are not computed.

  Args:
    model: An autoencoder.
    params: Of the model.
    state: From `encode_clip`.
    outputs: Some of `OUTPUTS`.

  Returns:
    `pixels` `[T, H, W, 3]` float in about [0, 1], `audio` `[S]` in about [-1, 1], `label` logits
    `[K]`.
  """
  c = check_autoencoder(model)
  found: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
  patches = c.samples // c.samples_per_patch // c.num_frames
  for tick in range(c.num_frames):
    back = float(tick + 1 - c.num_frames)
    queries = {}
    for name in [n for n in outputs if n != "label" or tick == 0]:
      queries |= model.queries(name, back, np.arange(patches) if name == "audio" else None)
    if queries:
      for name, answer in model.decode(params, state, queries).items():
        found[name].append(np.asarray(answer)[0])
  shapes = {"pixels": (-1, c.height, c.width, c.num_outputs), "audio": (-1,), "label": (-1,)}
  return {name: np.concatenate(parts).reshape(shapes[name]) for name, parts in found.items()}


def autoencode(
  loaded: Loaded,
  ticks: Iterable[Mapping[str, Any]],
  path: str | pathlib.Path,
  *,
  rate_hz: float | int,
  outputs: Sequence[str] = OUTPUTS,
) -> Autoencoded:
  """Writes a video of original and reconstruction side by side, with the reconstructed sound.

  Outputs that are not requested are the original's. Memory does not grow with the length.

  Args:
    loaded: An autoencoder and its parameters.
    ticks: Of a stream of the model's sizes, with `pixels` and `audio`.
    path: Path of the video.
    rate_hz: Ticks per second.
    outputs: Some of `OUTPUTS`.

  Raises:
    ValueError: The model is no autoencoder, an output is unknown, or there is no tick.
  """
  config = check_autoencoder(loaded.model)
  for name in outputs:
    check_choice("autoencode: output", name, OUTPUTS)
  per_tick = config.samples // config.num_frames
  clips = clips_of(ticks, config.num_frames)
  tally, labels, done, has_sound, count = _Tally(), [], 0, False, 0
  with VideoWriter(path, rate_hz=rate_hz, audio_rate_hz=per_tick * rate_hz) as writer:
    for clip in clips:
      state = encode_clip(loaded.model, loaded.params, clip)
      got = decode_clip(loaded.model, loaded.params, state, outputs)
      real, samples = clip.ticks, clip.ticks * per_tick
      for t in range(real):
        shown = [clip.pixels[t], *[images.to_rgb(p) for p in got.get("pixels", [])[t : t + 1]]]
        writer.write_frame(np.concatenate(shown, axis=1))
      writer.write_sound(np.clip(got.get("audio", clip.audio)[:samples], -1, 1))
      tally.add(clip, got, samples)
      labels += [np.asarray(jax.nn.softmax(got["label"]))] if "label" in got else []
      done, count, has_sound = done + real, count + 1, has_sound or clip.has_sound
    if not count:
      raise ValueError("autoencode: there is no tick; give a video with images.")
  label = np.mean(labels, axis=0) if labels else np.zeros(0, np.float32)
  return Autoencoded(user_path(path), done, count, has_sound, tally.psnr(), label)


class _Tally:
  """Squared errors over all real ticks, of the model and of a constant."""

  def __init__(self) -> None:
    self._sums: dict[str, dict[str, list[float]]] = {}

  def add(self, clip: Clip, got: Mapping[str, np.ndarray], samples: int) -> None:
    if "pixels" in got:
      true = clip.pixels[: clip.ticks] / 255
      self._book("pixels", "model", got["pixels"][: clip.ticks] - true)
      self._book("pixels", "mean colour", true - true.mean(axis=(0, 1, 2)))
    if "audio" in got and clip.has_sound:
      self._book("audio", "model", got["audio"][:samples] - clip.audio[:samples])
      self._book("audio", "silence", clip.audio[:samples])

  def _book(self, output: str, who: str, error: np.ndarray) -> None:
    total = self._sums.setdefault(output, {}).setdefault(who, [0.0, 0.0])
    total[0] += float(np.sum(np.square(error, dtype=np.float64)))
    total[1] += error.size

  def psnr(self) -> dict[str, dict[str, float]]:
    """Returns PSNR in dB by output and predictor."""
    ranges = {"pixels": 1.0, "audio": _AUDIO_RANGE}
    db: Callable[[str, list[float]], float] = lambda output, total: float(  # noqa: E731
      10 * np.log10(ranges[output] ** 2 / max(total[0] / total[1], _MSE_FLOOR))
    )
    return {o: {who: db(o, total) for who, total in by.items()} for o, by in self._sums.items()}
