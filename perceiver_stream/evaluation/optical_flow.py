"""Optical flow without learning: OpenCV's DIS, and images moved along a flow.

Flows are `[H, W, 2]` (x, y) in pixels: the content of pixel p of the first image is at p + flow(p) in
the second. OpenCV is imported by the functions that use it.
"""

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from perceiver_stream.utils.opencv import opencv

MIN_SIDE = 16  # DIS has nothing to work on in smaller images
FIXED_POINT_STEPS = 10


def dis_flow(
  first: UInt8[np.ndarray, "H W 3"], second: UInt8[np.ndarray, "H W 3"]
) -> Float[np.ndarray, "H W 2"]:
  """Returns the flow from `first` to `second`: DIS, medium preset, down to full resolution.

  The presets stop at half or quarter resolution, which is far worse on small images.

  Args:
    first: RGB.
    second: RGB.
  """
  cv2 = opencv()
  grey = [cv2.cvtColor(_at_least(picture), cv2.COLOR_RGB2GRAY) for picture in (first, second)]
  dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
  dis.setFinestScale(0)
  return dis.calc(*grey, None)[: first.shape[0], : first.shape[1]]


def extrapolate(
  picture: Shaped[np.ndarray, "H W 3"], backward: Float[np.ndarray, "H W 2"], steps: float | int
) -> Float[np.ndarray, "H W 3"]:
  """Returns the image moved on by `steps` times the reverse of a flow into the past.

  The content of p moves to p - steps * backward(p) = q. For every q that is solved by fixed-point
  iteration, p <- q + steps * backward(p), and the image is sampled at p, bicubically; outside of
  it the edge is repeated.

  Args:
    picture: Any range; uint8 is taken as it is.
    backward: Flow from this image to the one a tick (or more) ago.
    steps: Number of such steps.
  """
  here = pixel_grid(*picture.shape[:2])
  flow = np.ascontiguousarray(backward, np.float32) * np.float32(steps)
  source = here + flow
  for _ in range(FIXED_POINT_STEPS):
    source = here + sample(flow, source)
  return sample(picture.astype(np.float32), source, bicubic=True)


def sample(
  picture: Float[np.ndarray, "H W ..."], at: Float[np.ndarray, "h w 2"], *, bicubic: bool = False
) -> Float[np.ndarray, "h w ..."]:
  """Returns the image's values at positions `at`, (x, y) with pixel centres at whole numbers."""
  cv2 = opencv()
  how = cv2.INTER_CUBIC if bicubic else cv2.INTER_LINEAR
  return cv2.remap(picture, at.astype(np.float32), None, how, borderMode=cv2.BORDER_REPLICATE)


def blurred(picture: Float[np.ndarray, "H W 3"], sigma_px: float) -> Float[np.ndarray, "H W 3"]:
  """Returns the image blurred by a Gaussian of standard deviation `sigma_px`."""
  return opencv().GaussianBlur(picture, (0, 0), sigma_px)


def pixel_grid(height: int, width: int) -> Float[np.ndarray, "H W 2"]:
  """Returns the (x, y) of every pixel, centres at whole numbers."""
  x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
  return np.stack([x, y], axis=-1)


def _at_least(picture: np.ndarray) -> np.ndarray:
  missing = [max(0, MIN_SIDE - side) for side in picture.shape[:2]]
  if not any(missing):
    return np.ascontiguousarray(picture)
  return np.pad(picture, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="edge")
