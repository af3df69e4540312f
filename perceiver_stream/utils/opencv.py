"""Lazy import of OpenCV, and the package's function to resize images with it."""

from typing import Any

import numpy as np
from jaxtyping import UInt8


def opencv() -> Any:
  """Returns the module cv2.

  Raises:
    ImportError: OpenCV is not installed; the message names the package.
  """
  try:
    import cv2
  except ImportError as error:
    raise ImportError(
      "Baselines without learning, tracks and resizing need OpenCV, which is not installed: "
      "pip install opencv-python-headless"
    ) from error
  return cv2


def resized(
  image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int] | None
) -> UInt8[np.ndarray, "h w 3"]:
  """Returns an image resized to `size` (H, W): area means if it gets smaller, else linear.

  The aspect ratio is not kept. The image itself is returned if it has that size, or for None.
  """
  if size is None or image.shape[:2] == size:
    return image
  cv2 = opencv()
  smaller = size[0] <= image.shape[0] and size[1] <= image.shape[1]
  way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
  return cv2.resize(image, size[::-1], interpolation=way)
