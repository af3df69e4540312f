"""Resizing as OpenCV does it, without OpenCV."""

import numpy as np
from jaxtyping import Float, Num, Shaped


def nearest(
  picture: Shaped[np.ndarray, "H W *c"], size: tuple[int, int], *, use_centres: bool = False
) -> Shaped[np.ndarray, "h w *c"]:
  """Returns the image in another size, each pixel taken from one pixel.

  Args:
    picture: Any values.
    size: (h, w).
    use_centres: If True, pixels are matched by their centres (`INTER_NEAREST_EXACT`) or by their
      upper left corners (`INTER_NEAREST`).
  """
  shift = 0.5 if use_centres else 0.0
  index = [
    np.minimum(((np.arange(new) + shift) * old / new).astype(int), old - 1)
    for new, old in zip(size, picture.shape, strict=False)
  ]
  return picture[index[0][:, None], index[1]]


def bilinear(
  picture: Num[np.ndarray, "H W *c"], size: tuple[int, int]
) -> Float[np.ndarray, "h w *c"]:
  """Returns the image in another size by linear interpolation, pixel centres at (i + 0.5).

  Beyond the outer centres the edge is repeated; when shrinking nothing is smoothed.
  """
  for axis, new in enumerate(size):
    picture = _along(picture, axis, new)
  return picture


def _along(picture: np.ndarray, axis: int, new: int) -> np.ndarray:
  old = picture.shape[axis]
  at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
  below = np.minimum(at.astype(int), max(old - 2, 0))
  share = (at - below).reshape((-1,) + (1,) * (picture.ndim - 1 - axis))
  low = np.take(picture, below, axis=axis)
  return low + share * (np.take(picture, np.minimum(below + 1, old - 1), axis=axis) - low)
