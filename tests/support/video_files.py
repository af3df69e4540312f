"""Writes small video files that tell on whoever misreads them.

Every picture carries its number as twelve bars, dark or bright; every sound sample is a value that
says which sample it is.
"""

import pathlib
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import numpy as np

BITS = 12


def picture(number, height=48, width=96):
  """Returns RGB `[H, W, 3]` with the bars of `number`, the highest bit on the left."""
  bits = [(number >> (BITS - 1 - k)) & 1 for k in range(BITS)]
  bars = np.array(bits)[np.arange(width) * BITS // width] * 200 + 25
  return np.broadcast_to(bars[None, :, None], (height, width, 3)).astype(np.uint8)


def number_of(pixels):
  """Returns the number that a picture, of whatever size, carries."""
  width = pixels.shape[1]
  centres = [(2 * k + 1) * width // (2 * BITS) for k in range(BITS)]
  bits = pixels[:, centres].mean((0, 2)) > 128
  return int(sum(int(bit) << (BITS - 1 - k) for k, bit in enumerate(bits)))


def sample_code(n):
  """Returns the value of sample number `n`, exact in 16 bits, never zero."""
  return ((np.asarray(n) * 7919) % 30011 + 1) / 32768


def write_video(
  path: pathlib.Path,
  *,
  num: int = 50,
  fps: Fraction | int = 25,
  times: Sequence[Fraction | float] | None = None,
  height: int = 48,
  width: int = 96,
  codec: str = "libx264",
  gop: int = 12,
  options: dict | None = None,
  container_options: dict | None = None,
  make: Callable = picture,
  rotation: int = 0,
  sound_s: float | None = None,
  sound_start_s: float = 0,
  sound: Callable = sample_code,
  audio_rate: int = 16000,
  layout: str = "mono",
  audio_codec: str = "pcm_s16le",
  audio_options: dict | None = None,
  title: str = "",
) -> str:
  """Writes a file of `num` pictures, and sound of their length unless `sound_s` says otherwise.

  Args:
    times: Of the pictures, seconds; default number / fps.
    sound_s: Length of the sound in seconds; 0 writes no track.
    sound: Makes samples, `[n]` or `[channels, n]` in [-1, 1], from sample numbers.
  """
  unit = 1 / Fraction(fps) if times is None else Fraction(1, 12800)
  times = [n * unit for n in range(num)] if times is None else times
  sound_s = float(num / Fraction(fps)) if sound_s is None else sound_s
  default = {"bf": "2", "preset": "ultrafast", "crf": "10"} if codec == "libx264" else {}
  with av.open(str(path), "w", options=container_options or {}) as container:
    if title:
      container.metadata["title"] = title
    video = container.add_stream(codec, rate=Fraction(fps), options=default | (options or {}))
    video.width, video.height, video.pix_fmt = width, height, "yuv420p"
    video.codec_context.gop_size = gop
    video.codec_context.time_base = unit
    if rotation:
      video.set_display_rotation(rotation)
    audio = None
    if sound_s:
      audio = container.add_stream(
        audio_codec, rate=audio_rate, layout=layout, options=audio_options or {}
      )
    for number, time in enumerate(times):
      frame = av.VideoFrame.from_ndarray(make(number, height, width), format="rgb24")
      frame.pts, frame.time_base = round(Fraction(time) / unit), unit
      container.mux(video.encode(frame))
    container.mux(video.encode(None))
    if audio is not None:
      _write_sound(container, audio, int(sound_s * audio_rate), sound_start_s, sound)
  return str(path)


def _write_sound(container, audio, num, start_s, sound):
  channels = audio.codec_context.layout.nb_channels
  first = round(start_s * audio.codec_context.sample_rate)
  for at in range(0, num, 1024):
    n = np.arange(at, min(at + 1024, num))
    samples = np.broadcast_to(sound(n), (channels, len(n)))
    name = audio.codec_context.format.name
    if name not in ("s16", "s16p", "flt"):
      name = "fltp"  # the encoder converts it
    samples = np.round(samples * 32768).clip(-32768, 32767) if name.startswith("s16") else samples
    samples = samples.astype(np.int16 if name.startswith("s16") else np.float32)
    data = samples if name.endswith("p") else samples.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(
      np.ascontiguousarray(data), format=name, layout=audio.codec_context.layout.name
    )
    frame.sample_rate = audio.codec_context.sample_rate
    frame.time_base = Fraction(1, frame.sample_rate)
    frame.pts = first + at
    container.mux(audio.encode(frame))
  container.mux(audio.encode(None))


def cut(path, share):
  """Cuts a file off after a share of its bytes."""
  data = pathlib.Path(path).read_bytes()
  pathlib.Path(path).write_bytes(data[: int(len(data) * share)])
  return str(path)


def flip(path, num=20, seed=0, first=0.3, last=0.7):
  """Turns random bits over in the middle of a file."""
  data = bytearray(pathlib.Path(path).read_bytes())
  for at in np.random.default_rng(seed).integers(
    int(len(data) * first), int(len(data) * last), num
  ):
    data[at] ^= 1 << (at % 8)
  pathlib.Path(path).write_bytes(bytes(data))
  return str(path)
