"""Layers of torch as functions of arrays with its names and layouts, channels first."""

import re

import jax
import jax.numpy as jnp


def conv(x, weight, bias=None, *, stride=1, pad=0):
  """Returns a convolution over as many axes as the weight `[O, I, ...]` has."""
  axes = weight.ndim - 2
  each = lambda v: (v,) * axes if isinstance(v, int) else tuple(v)  # noqa: E731
  letters = "DHW"[3 - axes :]
  y = jax.lax.conv_general_dilated(
    x,
    weight,
    each(stride),
    [(p, p) for p in each(pad)],
    dimension_numbers=(f"NC{letters}", f"OI{letters}", f"NC{letters}"),
  )
  return y if bias is None else y + bias.reshape(1, -1, *[1] * axes)


def batch_norm(x, params, name, *, train, momentum=0.1, eps=1e-5):
  """Returns the normalised array and the running statistics after it, by name."""
  shape = (1, -1, *[1] * (x.ndim - 2))
  axes = (0, *range(2, x.ndim))
  mean, variance = params.get(f"{name}.running_mean"), params.get(f"{name}.running_var")
  after = {}
  if train:
    batch_mean, batch_variance = jnp.mean(x, axis=axes), jnp.var(x, axis=axes)
    if mean is not None and variance is not None:
      count = x.size // x.shape[1]
      unbiased = batch_variance * count / (count - 1)
      after = {
        f"{name}.running_mean": (1 - momentum) * mean + momentum * batch_mean,
        f"{name}.running_var": (1 - momentum) * variance + momentum * unbiased,
      }
    mean, variance = batch_mean, batch_variance
  assert mean is not None and variance is not None
  y = (x - mean.reshape(shape)) * jax.lax.rsqrt(variance.reshape(shape) + eps)
  return y * params[f"{name}.weight"].reshape(shape) + params[f"{name}.bias"].reshape(shape), after


def described_convolutions(text: str) -> list[dict]:
  """Returns stride and padding of each `Conv3d(...)` in a description of layers.

  >>> described_convolutions("Conv3d(3,6,k3,stride(1,2,2),pad1) BN Conv3d(6,8,k3,s2,p1)")
  [{'stride': (1, 2, 2), 'pad': 1}, {'stride': 2, 'pad': 1}]
  """
  found = []
  for piece in text.split("Conv3d(")[1:]:
    options = {}
    for key, names in (("stride", "stride|s"), ("pad", "pad|p")):
      match = re.search(rf",\s*(?:{names})\s*(?:\(([\d,\s]+)\)|(\d+))", piece)
      options[key] = 1 - (key == "pad")
      if match:
        numbers = tuple(int(n) for n in (match[1] or match[2]).split(","))
        options[key] = numbers if len(numbers) > 1 else numbers[0]
    found.append(options)
  return found
