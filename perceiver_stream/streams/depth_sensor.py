"""A structured-light depth sensor: adds realistic noise to rendered depth.

Two models: `kinect`, which shifts, quantises and loses pixels as a projector and a camera do, and
`nguyen`, normal noise whose size depends on distance and slant. All randomness comes in as draws, so
that equal draws give equal depth.

Source: steps 1, 2 and 4 of `kinect` follow simkinect (ankurhanda/simkinect, read only: it has no
licence) and Barron and Malik 2013; its step 3 correlates with a stored dot pattern, which shadow,
edge, slant and range rules replace here: our reading. Nguyen, Izadi and Lovell 2012, whose
coefficients are from memory of the paper.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from perceiver_stream.streams.depth_geometry import backproject, incidence

Depth = Float[np.ndarray, "H W"]


@dataclass(kw_only=True)
class KinectConfig:
  """Parameters of the `kinect` model.

  Attributes:
    sigma_shift: Deviation in pixels of the place at which a pixel reads the scene.
    steps_per_px: Disparity is rounded to one over this.
    edge_window: Side in pixels of the window that finds depth edges.
    edge_threshold_px: Range of disparity in it from which on a pixel is at an edge.
    edge_drop: Share of edge pixels that are lost.
    max_incidence_deg: Surfaces at a flatter angle to the ray are lost.
    min_m: Nearest depth.
    max_m: Farthest depth.
    constant: Disparity of the read-out times depth in centimetres.
    sigma_disparity: Deviation of the read-out's disparity, in its steps.
  """

  sigma_shift: float = 0.5
  steps_per_px: int = 8
  edge_window: int = 3
  edge_threshold_px: float = 0.5
  edge_drop: float = 0.6
  max_incidence_deg: float = 80.0
  min_m: float = 0.4
  max_m: float = 4.4
  constant: float = 35130.0
  sigma_disparity: float = 1 / 6


class Draws(NamedTuple):
  """Randomness of one image.

  Attributes:
    shift: Standard normal, `[H, W, 2]` (x, y).
    disparity: Standard normal, `[H, W]`.
    drop: Uniform in [0, 1), `[H, W]`.
  """

  shift: Float[np.ndarray, "H W 2"]
  disparity: Depth
  drop: Depth


class Reading(NamedTuple):
  """Depth as the sensor gives it, and why pixels are missing. All `[H, W]`.

  Attributes:
    depth: Metres, 0 where missing.
    shifted: The scene's depth at the shifted places, 0 where unknown.
    quantised_disparity: Pixels, 0 where unknown.
    shadow: The projector does not reach the pixel.
    edge: At a depth edge.
    edge_dropped: Lost at an edge.
    grazing: Seen too flat.
    out_of_range: Nearer or farther than the sensor's range.
    kept: None of these.
  """

  depth: Depth
  shifted: Depth
  quantised_disparity: Depth
  shadow: Bool[np.ndarray, "H W"]
  edge: Bool[np.ndarray, "H W"]
  edge_dropped: Bool[np.ndarray, "H W"]
  grazing: Bool[np.ndarray, "H W"]
  out_of_range: Bool[np.ndarray, "H W"]
  kept: Bool[np.ndarray, "H W"]


def draw(rng: np.random.Generator, height: int, width: int) -> Draws:
  """Returns the randomness of one image."""
  normal = rng.normal(size=(height, width, 3))
  return Draws(normal[..., :2], normal[..., 2], rng.uniform(size=(height, width)))


def _read_between(depth: Depth, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns depth read bilinearly; 0 where a tap that counts is missing."""
  height, width = depth.shape
  x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
  left, top = np.floor(x).astype(int), np.floor(y).astype(int)
  total, missing = np.zeros(x.shape), np.zeros(x.shape, bool)
  for dx in (0, 1):
    for dy in (0, 1):
      weight = (x - left if dx else 1 - (x - left)) * (y - top if dy else 1 - (y - top))
      tap = depth[np.minimum(top + dy, height - 1), np.minimum(left + dx, width - 1)]
      total += weight * tap
      missing |= (weight > 0) & (tap <= 0)
  return np.where(missing, 0.0, total)


def _inverse(scale: float, values: np.ndarray) -> np.ndarray:
  """Returns scale / values, and 0 where a value is not positive."""
  known = values > 0
  return np.where(known, scale / np.where(known, values, 1.0), 0.0)


def _shadow(disparity: np.ndarray) -> np.ndarray:
  """Returns the pixels of a row behind a later one at the same place of the projector."""
  place = np.arange(disparity.shape[1]) - disparity
  place = np.where(disparity > 0, place, np.inf)
  least = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
  later = np.concatenate([least[:, 1:], np.full((len(place), 1), np.inf)], axis=1)
  return (disparity > 0) & (later <= place)


def _edges(disparity: np.ndarray, window: int, threshold: float) -> np.ndarray:
  """Returns the mask of windows whose known disparities differ by more than a threshold."""
  reach = window // 2
  known = np.pad(disparity, reach, mode="edge")
  views = np.lib.stride_tricks.sliding_window_view(known, (window, window))
  high = np.max(np.where(views > 0, views, -np.inf), axis=(2, 3))
  low = np.min(np.where(views > 0, views, np.inf), axis=(2, 3))
  return (disparity > 0) & (high - low > threshold)


def kinect(
  depth: Depth,
  intrinsics: Float[np.ndarray, " 4"],
  baseline_m: float,
  draws: Draws,
  config: KinectConfig | None = None,
) -> Reading:
  """Returns the sensor's reading of a clean depth image.

  Args:
    depth: Metres, 0 where unknown.
    intrinsics: (fx, fy, cx, cy) in pixels, centres at halves.
    baseline_m: Between projector and camera.
    draws: From `draw`.
    config: Of the sensor.
  """
  c = config or KinectConfig()
  rows, columns = np.indices(depth.shape)
  shift = c.sigma_shift * draws.shift
  shifted = _read_between(depth, columns + shift[..., 0], rows + shift[..., 1])
  reach = float(intrinsics[0]) * baseline_m
  exact = _inverse(reach, shifted)
  disparity = np.round(c.steps_per_px * exact) / c.steps_per_px
  points = backproject(depth, intrinsics)
  slant, faced = incidence(points)
  shadow = _shadow(disparity)
  edge = _edges(disparity, c.edge_window, c.edge_threshold_px)
  edge_dropped = edge & (draws.drop < c.edge_drop)
  grazing = faced & (slant > np.deg2rad(c.max_incidence_deg))
  out_of_range = (shifted > 0) & ((shifted < c.min_m) | (shifted > c.max_m))
  kept = (disparity > 0) & ~shadow & ~edge_dropped & ~grazing & ~out_of_range
  metres = _inverse(reach, disparity)
  steps = _inverse(c.constant, np.round(100 * metres)) + c.sigma_disparity * draws.disparity + 0.5
  read = _inverse(c.constant, np.round(steps)) / 100
  return Reading(
    np.where(kept, read, 0.0), shifted, disparity, shadow, edge, edge_dropped, grazing,
    out_of_range, kept,
  )  # fmt: skip


def nguyen_sigmas(depth: Depth, slant: Depth) -> tuple[Depth, Depth]:
  """Returns the deviation along the ray in metres and across it in pixels.

  Args:
    depth: Metres, 0 where unknown.
    slant: Angle between normal and ray in radians, at most 80 degrees; 0 where unknown.
  """
  known = depth > 0
  z = np.where(known, depth, 1.0)
  rest = np.pi / 2 - slant
  axial = 0.0012 + 0.0019 * (z - 0.4) ** 2 + 0.0001 / np.sqrt(z) * slant**2 / rest**2
  return np.where(known, axial, 0.0), 0.8 + 0.035 * slant / rest


def nguyen(
  depth: Depth,
  intrinsics: Float[np.ndarray, " 4"],
  lateral: Float[np.ndarray, "H W 2"],
  axial: Depth,
) -> Depth:
  """Returns depth with normal noise, sampled at a shifted position and moved along its ray.

  Args:
    depth: Metres, 0 where unknown.
    intrinsics: (fx, fy, cx, cy).
    lateral: Standard normal draws (x, y).
    axial: Standard normal draws.
  """
  slant, _ = incidence(backproject(depth, intrinsics))
  along, across = nguyen_sigmas(depth, np.minimum(slant, np.deg2rad(80.0)))
  rows, columns = np.indices(depth.shape)
  place = across[..., None] * lateral
  read = _read_between(depth, columns + place[..., 0], rows + place[..., 1])
  return np.where(read > 0, read + along * axial, 0.0)


# --- a sensor of its own randomness ---------------------------------------------------------------

_KINECT_FOCAL_PX = 580.0  # of the infrared camera, 640 x 480
_BASELINE_M = 0.075
_PATCHES = 3  # areas without an answer (dark, shiny) of a `nguyen` image, on average


def _read_kinect(depth: Depth, intrinsics: np.ndarray, rng: np.random.Generator) -> Depth:
  steps = max(1, round(KinectConfig.steps_per_px * _KINECT_FOCAL_PX / abs(float(intrinsics[0]))))
  config = KinectConfig(steps_per_px=steps)
  return kinect(depth, intrinsics, _BASELINE_M, draw(rng, *depth.shape), config).depth


def _read_nguyen(depth: Depth, intrinsics: np.ndarray, rng: np.random.Generator) -> Depth:
  height, width = depth.shape
  noise = rng.normal(size=(height, width, 3))
  read = nguyen(depth, intrinsics, noise[..., :2], noise[..., 2])
  slant, faced = incidence(backproject(depth, intrinsics))
  c = KinectConfig()
  missing = (
    (faced & (slant > np.deg2rad(c.max_incidence_deg))) | (read < c.min_m) | (read > c.max_m)
  )
  rows, columns = np.indices(depth.shape)
  for _ in range(rng.poisson(_PATCHES)):
    y, x, radius = rng.uniform([0, 0, 1 / 40], [1, 1, 1 / 8]) * [height, width, max(height, width)]
    missing |= (rows - y) ** 2 + (columns - x) ** 2 < radius**2
  return np.where(missing, 0.0, read)


SENSORS = {"kinect": _read_kinect, "nguyen": _read_nguyen}


def read(
  kind: str, depth: Depth, intrinsics: Float[np.ndarray, " 4"], rng: np.random.Generator
) -> Depth:
  """Returns depth as a sensor gives it, 0 where missing, for images of any size.

  Args:
    kind: "kinect": `kinect` with the depth steps of a real one (its disparity is that of a camera of
      580 px focal length, whatever the image's). "nguyen": `nguyen`, with the same range and slant,
      and round areas without depth.
    depth: Metres, 0 where unknown.
    intrinsics: (fx, fy, cx, cy).
    rng: Source of the noise.

  Raises:
    ValueError: The kind is unknown.
  """
  if kind not in SENSORS:
    raise ValueError(f"depth_sensor: '{kind}' is not one of {sorted(SENSORS)}.")
  return SENSORS[kind](np.asarray(depth, np.float64), np.asarray(intrinsics), rng)
