"""Masking of inputs while learning: plain, guided and masked prediction."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn import repeat_2d
from perceiver_stream.utils import moved

HINT_PATCH = 8  # side of what is shown or hidden at a time, pixels
HINT_CHANNELS = 4  # the revealed colours, and where they are


@dataclass(frozen=True, kw_only=True)
class Masking:
  """The masking of a clip before it is learnt from; scores always use unmasked inputs.

  What the paper calls vanilla, guided and masked prediction is known by name only
  (2312.00598); this is our reading.

  Attributes:
    reveal_fraction: Chance of each patch of a target that the learner is shown it: 0 is vanilla.
    hide_fraction: Chance of each patch of a frame that it is blackened.
    hidden_only: If True, only pixels that were not revealed count, as in RVM (2512.13684).
  """

  reveal_fraction: float = 0.0
  hide_fraction: float = 0.0
  hidden_only: bool = False

  def __post_init__(self):
    for name in ("reveal_fraction", "hide_fraction"):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(f"masking: {name}={getattr(self, name)}; use 0 to below 1.")


MASKINGS = {
  "vanilla": Masking(),
  "guided": Masking(reveal_fraction=0.1),
  "masked": Masking(hide_fraction=0.75),
  "masked future": Masking(reveal_fraction=0.05, hidden_only=True),
}


def raw_inputs(frames: Float[Array, "T B H W 3"], hints: bool) -> Float[Array, "T B H W C"]:
  """Returns a learner's inputs from frames alone; with empty channels for hints, or without."""
  if not hints:
    return frames
  return jnp.concatenate([frames, jnp.zeros((*frames.shape[:4], HINT_CHANNELS))], axis=-1)


def mask_inputs(
  masking: Masking,
  frames: Float[Array, "T B H W 3"],
  pictures: Float[Array, "T B H W 3"],
  key: Array,
  hints: bool,
) -> tuple[Float[Array, "T B H W C"], Float[Array, "T B H W"]]:
  """Returns a learner's masked inputs, and the weight of each pixel of its targets.

  Raises:
    ValueError: Something is to be revealed to a learner without channels for it.
  """
  if masking.reveal_fraction and not hints:
    raise ValueError(
      f"masking: reveal_fraction={masking.reveal_fraction}, but the learner has no channels "
      f"for hints; give it some."
    )
  hide_key, reveal_key = jax.random.split(key)
  hidden = _patches(hide_key, masking.hide_fraction, frames)
  shown = _patches(reveal_key, masking.reveal_fraction, frames)
  counts = jnp.ones(frames.shape[:4])
  if masking.hidden_only:
    counts = counts - shown[..., 0]
  inputs = raw_inputs(frames * (1 - jnp.broadcast_to(hidden, frames.shape)), hints)
  if hints:
    shown3 = jnp.broadcast_to(shown, pictures.shape)
    inputs = inputs.at[..., 3:].set(jnp.concatenate([pictures * shown3, shown], axis=-1))
  return inputs, counts


def _patches(key: Array, fraction: float, like: Array) -> Float[Array, "T B H W 1"]:
  """Returns 1 in random patches, 0 in the others."""
  height, width = like.shape[2:4]
  grid = (*like.shape[:2], -(-height // HINT_PATCH), -(-width // HINT_PATCH))
  chosen = jax.random.bernoulli(key, fraction, grid).astype(jnp.float32)
  return repeat_2d(chosen[..., None], HINT_PATCH)[:, :, :height, :width]


__getattr__ = moved.renamed_names(
  __name__, {"OBJECTIVES": "lab.masking.MASKINGS", "Objective": "lab.masking.Masking"}
)
