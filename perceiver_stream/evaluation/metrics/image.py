"""Pictures: PSNR and SSIM.

Source: Wang et al. 2004; google-research/kauldron:kauldron/metrics/image.py (Gaussian window of 11
pixels, sigma 1.5, only where it fits, variances not below 0), which is scikit-image's
`gaussian_weights=True, sigma=1.5, use_sample_covariance=False` up to that.
"""

import numpy as np
from jaxtyping import Float, Num

from perceiver_stream.evaluation.metrics.base import Arrays, Metric, same_shapes

MSE_FLOOR = 1e-10  # so that equal pictures have 100 dB
_GAUSSIAN = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)


def psnr(
  pred: Num[np.ndarray, "*n H W C"],
  target: Num[np.ndarray, "*n H W C"],
  value_range: float | int = 1.0,
  mse_floor: float | int = MSE_FLOOR,
) -> Float[np.ndarray, "*n"]:
  """Returns the peak signal-to-noise ratio of each picture, dB, over all pixels and channels.

  The mean of dB over pictures is not the dB of the mean error.

  Args:
    pred: Pictures.
    target: As `pred`.
    value_range: Largest minus smallest value there can be.
    mse_floor: Smaller mean squared errors count as this; 0 lets equal pictures have inf dB.
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
  """Returns the structural similarity of each picture: at most 1, the mean over all windows.

  Args:
    pred: Pictures, at least as large as the window.
    target: As `pred`.
    value_range: Largest minus smallest value there can be.
    weights: Of the window along each side; they are made to sum to 1.
    use_sample_covariance: Whether variances are divided by the number of pixels less one, which is
      for equal weights.
    clip_variance: Whether a variance that rounding made negative becomes 0.

  Raises:
    ValueError: The window is larger than the picture.
  """
  same_shapes("ssim", pred=pred, target=target)
  if min(pred.shape[-3:-1]) < len(weights):
    raise ValueError(
      f"ssim: pictures {list(pred.shape)} are smaller than the window of {len(weights)} pixels; "
      f"enlarge them or give fewer weights."
    )
  x, y = np.asarray(pred, np.float64), np.asarray(target, np.float64)
  weights = np.asarray(weights, np.float64) / np.sum(weights)
  mean = lambda z: _slide(_slide(z, weights, -3), weights, -2)  # noqa: E731
  mx, my = mean(x), mean(y)
  xx, yy, xy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
  if use_sample_covariance:
    count = len(weights) ** 2
    xx, yy, xy = (count / (count - 1) * z for z in (xx, yy, xy))
  if clip_variance:
    xx, yy = np.maximum(xx, 0.0), np.maximum(yy, 0.0)
    xy = np.sign(xy) * np.minimum(np.sqrt(xx * yy), np.abs(xy))
  c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
  index = (2 * mx * my + c1) * (2 * xy + c2) / ((mx**2 + my**2 + c1) * (xx + yy + c2))
  return np.asarray(np.mean(index, axis=(-3, -2, -1)))


def _slide(x: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
  """Returns the weighted sum over a window along an axis, only where it fits."""
  windows = np.lib.stride_tricks.sliding_window_view(x, len(weights), axis=axis)
  return windows @ weights


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
