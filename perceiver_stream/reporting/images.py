"""RGB images of flow, depth, sound, labels and errors; film strips; PNG.

Every function returns RGB as uint8, and every scale is an argument, so that images side by side
can share it. No plotting library is needed; only text on a film strip uses OpenCV.
"""

import base64
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Integer, Num, UInt8

from perceiver_stream.utils.opencv import opencv

# Number of steps between the six hues of the Middlebury wheel: red, yellow, green, cyan, blue,
# magenta, and red again; as many as can be distinguished by eye.
_WHEEL_STEPS = (15, 6, 4, 11, 13, 6)
_HUES = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255))

# Dark to light, even to the eye, readable without colour ("magma" of matplotlib, every eighth).
_HEAT = (
  (0, 0, 4),
  (28, 16, 68),
  (79, 18, 123),
  (129, 37, 129),
  (181, 54, 122),
  (229, 80, 100),
  (251, 135, 97),
  (254, 194, 135),
  (252, 253, 191),
)
_FULL_ERROR = 0.25  # mean absolute difference, of values in [0, 1], that is drawn brightest
_DB = 10 / np.log(10)


def colour_wheel() -> UInt8[np.ndarray, "55 3"]:
  """Returns the hues of the Middlebury flow wheel, from red over yellow round to magenta.

  Source: Baker et al. 2011, "A Database and Evaluation Methodology for Optical Flow".
  """
  hues = np.asarray(_HUES, float)
  arcs = [
    first + (second - first) * (np.arange(steps) / steps)[:, None]
    for first, second, steps in zip(hues, np.roll(hues, -1, axis=0), _WHEEL_STEPS, strict=True)
  ]
  return np.floor(np.concatenate(arcs)).astype(np.uint8)


def flow_to_rgb(
  flow: Num[np.ndarray, "*n 2"], max_speed: float | None = None
) -> UInt8[np.ndarray, "*n 3"]:
  """Returns flow in the Middlebury colours: direction as hue, speed as saturation.

  Right is red, down yellow, left cyan-blue, up violet; no motion is white, and speeds above
  `max_speed` are darker. Non-finite flow is black.

  Args:
    flow: (x, y), y down.
    max_speed: Speed of full saturation; None takes the fastest there is.
  """
  known = np.asarray(np.isfinite(flow).all(axis=-1))
  x, y = np.moveaxis(np.where(known[..., None], flow, 0.0), -1, 0)
  speed = np.hypot(x, y)
  if max_speed is None:
    max_speed = float(speed.max(initial=0.0))
  speed = speed / max(max_speed, 1e-9)
  wheel = colour_wheel() / 255.0
  place = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (len(wheel) - 1)
  below = np.floor(place).astype(int)
  share = (place - below)[..., None]
  hue = (1 - share) * wheel[below] + share * wheel[(below + 1) % len(wheel)]
  reach = np.minimum(speed, 1.0)[..., None]
  colour = np.where(speed[..., None] <= 1, 1 - reach * (1 - hue), 0.75 * hue)
  return np.where(known[..., None], np.floor(255 * colour), 0).astype(np.uint8)


def flow_legend(size: int = 96) -> UInt8[np.ndarray, "n n 3"]:
  """Returns the wheel itself: each direction in its colour, full speed at the rim."""
  axis = np.linspace(-1, 1, size)
  flow = np.stack(np.meshgrid(axis, axis), axis=-1)
  inside = np.hypot(flow[..., 0], flow[..., 1]) <= 1
  return np.where(inside[..., None], flow_to_rgb(flow, 1.0), 255).astype(np.uint8)


def heat(
  values: Num[np.ndarray, "*n"], low: float | int, high: float | int
) -> UInt8[np.ndarray, "*n 3"]:
  """Returns numbers as colours from black over red to light yellow; NaN is grey."""
  known = np.asarray(np.isfinite(values))
  place = np.clip((np.where(known, values, low) - low) / max(high - low, 1e-12), 0, 1)
  anchors = np.linspace(0, 1, len(_HEAT))
  channels = [np.interp(place, anchors, channel) for channel in np.asarray(_HEAT, float).T]
  return np.where(known[..., None], np.round(np.stack(channels, axis=-1)), 128).astype(np.uint8)


def spectrogram(
  log_mel: Float[np.ndarray, "frames mels"],
  low_db: float | int = -50,
  high_db: float | int = 0,
) -> UInt8[np.ndarray, "mels frames 3"]:
  """Returns log-mel energies (natural logarithms) as an image: time to the right, pitch up."""
  return heat(log_mel.T[::-1] * _DB, low_db, high_db)


def segmentation_to_rgb(ids: Integer[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n 3"]:
  """Returns a fixed colour per id, neighbouring ids far apart; id 0 is black."""
  phase = 2 * np.pi * ((ids[..., None] * 0.618034) % 1 + np.asarray([0, 1 / 3, 2 / 3]))
  light = 0.65 + 0.35 * ((ids[..., None] * 0.754878) % 1)
  colour = light * (0.55 + 0.45 * np.cos(phase))
  return np.where(ids[..., None] == 0, 0, 255 * colour).astype(np.uint8)


def error_map(
  prediction: Num[np.ndarray, "*n C"], target: Num[np.ndarray, "*n C"], full: float = _FULL_ERROR
) -> UInt8[np.ndarray, "*n 3"]:
  """Returns the mean absolute difference over channels as a heat map; `full` is brightest."""
  return heat(np.abs(np.asarray(prediction, float) - target).mean(axis=-1), 0.0, full)


def to_rgb(frame: Num[np.ndarray, "*n 3"]) -> UInt8[np.ndarray, "*n 3"]:
  """Returns a frame as uint8; floats are expected in [0, 1] and clipped."""
  if frame.dtype == np.uint8:
    return frame
  return np.round(255 * np.clip(np.nan_to_num(frame), 0, 1)).astype(np.uint8)


def tile_row(
  tiles: UInt8[np.ndarray, "N H W 3"], scale: int = 1, gap: int = 2
) -> UInt8[np.ndarray, "h w 3"]:
  """Returns images side by side, enlarged by an integer factor, on white."""
  tiles = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
  tiles = np.pad(tiles, [(0, 0), (0, 0), (0, gap), (0, 0)], constant_values=255)
  count, height, width, _ = tiles.shape
  row = tiles.transpose(1, 0, 2, 3).reshape(height, count * width, 3)  # N H W 3 -> H (N W) 3
  return row[:, : count * width - gap]


def film_strip(
  rows: Mapping[str, UInt8[np.ndarray, "N _ _ 3"]], scale: int = 1, gap: int = 2
) -> UInt8[np.ndarray, "h w 3"]:
  """Returns rows of images one below the other, each with its name on the left.

  Args:
    rows: By name; rows may differ in height, not in number and width.
    scale: Enlargement, pixel by pixel.
    gap: White pixels between images.
  """
  if not rows:
    raise ValueError("film_strip: there are no rows; give at least one, e.g. {'input': frames}.")
  pictures = {name: tile_row(tiles, scale, gap) for name, tiles in rows.items()}
  widths = {name: picture.shape[1] for name, picture in pictures.items()}
  if len(set(widths.values())) > 1:
    raise ValueError(f"film_strip: rows of different widths {widths}; give all the same tiles.")
  margin = 8 + 8 * max(map(len, rows))
  lines = []
  for name, picture in pictures.items():
    label = _label(name, picture.shape[0], margin)
    line = np.concatenate([label, picture], axis=1)
    lines.append(np.pad(line, [(0, gap), (0, 0), (0, 0)], constant_values=255))
  return np.concatenate(lines)[: -gap or None]


def png_bytes(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
  """Returns an image as the bytes of a PNG file."""
  height, width, _ = picture.shape
  lines = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)
  header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
  parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
  return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def data_uri(data: bytes, kind: str = "image/png") -> str:
  """Returns a file as a data URI, for a self-contained page."""
  return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
  return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _label(text: str, height: int, width: int) -> np.ndarray:
  cv2 = opencv()
  label = np.full((height, width, 3), 255, np.uint8)
  at = (4, height // 2 + 4)
  return cv2.putText(label, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (40, 40, 40), 1, cv2.LINE_AA)
