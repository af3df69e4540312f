"""Images: PSNR and SSIM.

Source: Wang et al. 2004; google-research/kauldron:kauldron/metrics/image.py (Gaussian window of 11
pixels, sigma 1.5, only where it fits, variances not below 0), which is scikit-image's
`gaussian_weights=True, sigma=1.5, use_sample_covariance=False` up to that.
"""

import numpy as np
from jaxtyping import Float, Num

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, same_shapes

MSE_FLOOR = 1e-10  # so that equal images have 100 dB
_GAUSSIAN = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)


def psnr(
  pred: Num[np.ndarray, "*n H W C"],
  target: Num[np.ndarray, "*n H W C"],
  value_range: float | int = 1.0,
  mse_floor: float | int = MSE_FLOOR,
) -> Float[np.ndarray, "*n"]:
  """Returns the peak signal-to-noise ratio of each image, dB, over all pixels and channels.

  The mean of dB over images is not the dB of the mean error.

  Args:
    pred: Images.
    target: As `pred`.
    value_range: Largest minus smallest value there can be.
    mse_floor: Smaller mean squared errors count as this; 0 lets equal images have inf dB.
  """
  same_shapes("psnr", pred=pred, target=target)
  difference = np.asarray(pred, np.float64) - target
  mse = np.maximum(np.mean(np.square(difference), axis=(-3, -2, -1)), mse_floor)
  with np.errstate(divide="ignore"):
    return np.asarray(20 * np.log10(value_range) - 10 * np.log10(mse))


def ssim(
  pred: Num[np.ndarray, "*n H W C"],
  target: Num[np.ndarray, "*n H W C"],
  value_range: float | int = 1.0,
  *,
  weights: Float[np.ndarray, " k"] = _GAUSSIAN,
  use_sample_covariance: bool = False,
  clip_variance: bool = True,
) -> Float[np.ndarray, "*n"]:
  """Returns the structural similarity of each image: at most 1, the mean over all windows.

  Args:
    pred: Images, at least as large as the window.
    target: As `pred`.
    value_range: Largest minus smallest value there can be.
    weights: Of the window along each side; they are made to sum to 1.
    use_sample_covariance: If True, variances are divided by the number of pixels less one, which is
      for equal weights.
    clip_variance: If True, a variance that rounding made negative becomes 0.

  Raises:
    ValueError: The window is larger than the image.
  """
  same_shapes("ssim", pred=pred, target=target)
  if min(pred.shape[-3:-1]) < len(weights):
    raise ValueError(
      f"ssim: images {list(pred.shape)} are smaller than the window of {len(weights)} pixels; "
      f"enlarge them or give fewer weights."
    )
  weights = np.asarray(weights, np.float64) / np.sum(weights)
  size = pred.shape[-3:]
  # Image by image: data that a window reads several times should stay in the cache.
  pairs = zip(pred.reshape(-1, *size), target.reshape(-1, *size), strict=True)
  found = [
    _index(
      np.asarray(x, np.float64),
      np.asarray(y, np.float64),
      value_range,
      weights,
      len(weights) ** 2 if use_sample_covariance else 0,
      clip_variance,
    )
    for x, y in pairs
  ]
  return np.asarray(found, np.float64).reshape(pred.shape[:-3])


def _index(
  x: np.ndarray,
  y: np.ndarray,
  value_range: float | int,
  weights: np.ndarray,
  samples: int,
  clip_variance: bool,
) -> float:
  """Returns the mean similarity of two images; `samples` other than 0 are of a covariance."""
  means = _slide(_slide(np.stack([x, y, x * x, y * y, x * y]), weights, 1), weights, 2)
  mx, my = means[:2]
  xx, yy, xy = means[2:] - np.stack([mx * mx, my * my, mx * my])
  if samples:
    xx, yy, xy = (samples / (samples - 1) * z for z in (xx, yy, xy))
  if clip_variance:
    xx, yy = np.maximum(xx, 0.0), np.maximum(yy, 0.0)
    xy = np.sign(xy) * np.minimum(np.sqrt(xx * yy), np.abs(xy))
  c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
  index = (2 * mx * my + c1) * (2 * xy + c2) / ((mx**2 + my**2 + c1) * (xx + yy + c2))
  return float(np.mean(index))


def _slide(x: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
  """Returns the weighted sum over a window along an axis, only where it fits."""
  num = x.shape[axis] - len(weights) + 1
  at = lambda i: x[(slice(None),) * axis + (slice(i, i + num),)]  # noqa: E731
  total = weights[0] * at(0)
  for i in range(1, len(weights)):
    total += weights[i] * at(i)
  return total


def _score(pred: np.ndarray, target: np.ndarray) -> dict[str, float]:
  return {"psnr": float(psnr(pred, target).mean()), "ssim": float(ssim(pred, target).mean())}


def _example(rng: np.random.Generator) -> Arrays:
  target = rng.uniform(size=(3, 16, 20, 3))
  return {"pred": target + rng.normal(0, 0.1, target.shape), "target": target}


METRIC = Metric(
  name="image",
  score=_score,
  best={"psnr": 100.0, "ssim": 1.0},
  example=_example,
  perfect=lambda arrays: arrays | {"pred": arrays["target"]},
)
