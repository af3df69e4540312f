"""Colour: brightness, saturation, contrast, hue and grey, as TensorFlow's image functions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

GREY = (0.2989, 0.587, 0.114)
Number = float | Float[Array, ""]


def adjust_saturation(clip: Float[Array, "T H W 3"], factor: Number) -> Float[Array, "T H W 3"]:
  """Returns colours with `factor` times the saturation of HSV, at most 1; value and hue stay."""
  value = jnp.max(clip, axis=-1, keepdims=True)
  least = jnp.min(clip, axis=-1, keepdims=True)
  spread, positive = value - least, value > 0
  saturation = jnp.where(positive, spread / jnp.where(positive, value, 1.0), 0.0)
  wanted = jnp.clip(saturation * factor, 0.0, 1.0) * value
  ratio = jnp.where(spread > 0, wanted / jnp.where(spread > 0, spread, 1.0), 0.0)
  return value - (value - clip) * ratio


def adjust_contrast(clip: Float[Array, "T H W C"], factor: Number) -> Float[Array, "T H W C"]:
  """Returns distances from the mean of each frame and channel, times `factor`."""
  mean = jnp.mean(clip, axis=(1, 2), keepdims=True)
  return mean + (clip - mean) * factor


def adjust_hue(clip: Float[Array, "T H W 3"], turn: Number) -> Float[Array, "T H W 3"]:
  """Returns colours with the hue moved by `turn` of a full circle; greatest and least channel stay."""
  red, green, blue = (clip[..., i] for i in range(3))
  most, least = jnp.max(clip, axis=-1), jnp.min(clip, axis=-1)
  spread = most - least
  safe = jnp.where(spread > 0, spread, 1.0)
  hue = jnp.where(
    red == most,
    (green - blue) / safe,
    jnp.where(green == most, 2 + (blue - red) / safe, 4 + (red - green) / safe),
  )
  hue = jnp.mod(jnp.where(spread > 0, hue, 0.0) + 6 * turn, 6.0)
  share = lambda at: jnp.clip(2 - jnp.abs(jnp.mod(hue - at + 3, 6.0) - 3), 0, 1)  # noqa: E731
  channels = [least + spread * share(at) for at in (0.0, 2.0, 4.0)]
  return jnp.stack(channels, axis=-1)


def grey(clip: Float[Array, "T H W 3"]) -> Float[Array, "T H W 3"]:
  """Returns the luminance in all channels."""
  luminance = jnp.einsum("thwc,c->thw", clip, jnp.asarray(GREY, clip.dtype))
  return jnp.broadcast_to(luminance[..., None], clip.shape)


def adjust_colour(
  clip: Float[Array, "T H W 3"],
  *,
  brightness: Number,
  saturation: Number,
  contrast: Number,
  hue: Number,
) -> Float[Array, "T H W 3"]:
  """Returns a clip with all four changes in this order, cut to [0, 1].

  Args:
    clip: RGB about [0, 1].
    brightness: Added to all values.
    saturation: Factor.
    contrast: Factor.
    hue: Share of a full circle.
  """
  clip = adjust_saturation(clip + brightness, saturation)
  return jnp.clip(adjust_hue(adjust_contrast(clip, contrast), hue), 0.0, 1.0)


def random_colour(
  rng: Array, clip: Float[Array, "T H W 3"], *, change: float = 0.8, drop: float = 0.2
) -> Float[Array, "T H W 3"]:
  """Returns a clip whose colours are changed with probability `change`, then grey with `drop`.

  Brightness ±32/255, saturation and contrast 0.6 to 1.4, hue ±0.2 of a circle.

  Source: google-deepmind/brave, brave/datasets/augmentations.py.
  """
  keys = jax.random.split(rng, 6)
  ranges = {
    "brightness": (-32 / 255, 32 / 255),
    "saturation": (0.6, 1.4),
    "contrast": (0.6, 1.4),
    "hue": (-0.2, 0.2),
  }
  drawn = {
    name: jax.random.uniform(key, (), clip.dtype, low, high)
    for key, (name, (low, high)) in zip(keys[2:], ranges.items(), strict=True)
  }
  clip = jnp.where(jax.random.bernoulli(keys[0], change), adjust_colour(clip, **drawn), clip)
  return jnp.where(jax.random.bernoulli(keys[1], drop), grey(clip), clip)
