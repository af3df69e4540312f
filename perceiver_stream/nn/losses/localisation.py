"""Localisation of sounds in images by the similarity of places and sounds.

Source: Chen et al. 2021, 2104.02691; hche11/Localizing-Visual-Sounds-the-Hard-Way, `model.py`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.losses.contrastive import (
  Valid,
  known_columns,
  known_rows,
  mean_rows,
  unit_length,
)

_RELEASED_DIAGONAL = -99.0
_MASKED = -1e9


def heat_maps(
  images: Float[Array, "B h w D"], sounds: Float[Array, "K D"]
) -> Float[Array, "B K h w"]:
  """Returns the cosine of every place of every image with every sound."""
  return jnp.einsum("bhwd,kd->bkhw", unit_length(images), unit_length(sounds))


def localisation_logits(
  images: Float[Array, "B h w D"],
  sounds: Float[Array, "B D"],
  *,
  positive: float = 0.65,
  negative: float | None = 0.4,
  softness: float = 0.03,
  temperature: float = 0.07,
  as_released: bool = False,
  valid: Valid = None,
) -> Float[Array, "B K"]:
  """Returns logits `[B, B + 2]`: own region, the regions of all sounds, own background.

  The region of a sound is a soft mask of its heat map; places between the two thresholds belong to
  neither region nor background ("tri-map").

  Args:
    images: Feature maps.
    sounds: One feature per image.
    positive: Cosine above which a place belongs to the region.
    negative: Cosine below which it is background; None: `positive` ("hard").
    softness: Width of the masks' sigmoids.
    temperature: Divides the means.
    as_released: If True, the own sound among "all sounds" is multiplied by -99, as in the released
      code, which is harmless while it is positive; otherwise it is masked. Default False.
    valid: See the package; pass it to `localisation_loss` too.
  """
  images, sounds = known_rows(images, valid), known_rows(sounds, valid)
  maps = heat_maps(images, sounds)
  regions = _weighted(maps, (maps - positive) / softness)
  own = jnp.diagonal(regions)[:, None]
  own_map = jnp.diagonal(maps, axis1=0, axis2=1).transpose(2, 0, 1)
  threshold = positive if negative is None else negative
  background = _weighted(own_map, (threshold - own_map) / softness)[:, None]
  diagonal = jnp.eye(maps.shape[0], dtype=bool)
  others = jnp.where(diagonal, regions * _RELEASED_DIAGONAL if as_released else _MASKED, regions)
  others = known_columns(others, valid)
  return jnp.concatenate([own, others, background], axis=1) / temperature


def localisation_loss(logits: Float[Array, "B K"], valid: Valid = None) -> Float[Array, ""]:
  """Returns the mean cross-entropy of the own region, column 0."""
  return mean_rows(jax.nn.logsumexp(logits, axis=1) - logits[:, 0], valid=valid)


def _weighted(maps: Float[Array, "*B h w"], logits: Float[Array, "*B h w"]) -> Float[Array, "*B"]:
  """Returns means by the sigmoids of `logits`; finite also where all of them round to 0."""
  weights = jax.nn.softmax(jax.nn.log_sigmoid(logits), axis=(-2, -1))
  return jnp.sum(maps * weights, axis=(-2, -1))
