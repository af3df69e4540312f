"""Where things went between two pictures: local matching, without parameters.

The correlation layer of learned flow networks (FlowNet-C, RAFT) with the expected displacement as
its read-out (GMFlow), on raw pixels: it gives the tokenizer something that moves from the first
tick on, and is input to learned layers, not an answer.
"""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def box_filter(x: Float[Array, "B H W C"], size: int) -> Float[Array, "B H W C"]:
  """Returns the mean over a `size`×`size` neighbourhood; edges repeat."""
  pad = size // 2
  x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
  total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, size, size, 1), (1, 1, 1, 1), "VALID")
  return total / size**2


def local_motion(
  previous: Float[Array, "B H W C"],
  last: Float[Array, "B H W C"],
  *,
  radius: int = 3,
  window: int = 7,
  temperature: float = 3e-4,
) -> Float[Array, "B H W 3"]:
  """Returns where each place of `last` was in `previous`, and how sure that is.

  For every displacement within `radius` the mean squared difference of a `window`² neighbourhood
  is taken; a softmax over displacements at `temperature` gives the expected one. Flat places give
  a displacement near zero and little certainty.

  Args:
    previous: The earlier picture, values in [0, 1].
    last: The later picture.
    radius: Largest displacement searched, pixels.
    window: Side of the compared neighbourhood, pixels.
    temperature: In units of mean squared difference.

  Returns:
    `[B, H, W, 3]`: displacement x and y in pixels (`last[p]` looks like `previous[p + xy]`), and
    certainty in [0, 1] (1 when one displacement takes all the weight).
  """
  height, width = last.shape[1:3]
  padded = jnp.pad(previous, ((0, 0), (radius, radius), (radius, radius), (0, 0)), mode="edge")
  offsets = list(itertools.product(range(-radius, radius + 1), repeat=2))
  differences = [
    jnp.mean(
      jnp.square(
        padded[:, radius + y : radius + y + height, radius + x : radius + x + width] - last
      ),
      axis=-1,
    )
    for y, x in offsets
  ]
  cost = box_filter(jnp.stack(differences, axis=-1), window)  # [B, H, W, offsets]
  weights = jax.nn.softmax(-cost / temperature, axis=-1)
  table = jnp.asarray([[x, y] for y, x in offsets], jnp.float32)
  certainty = jnp.sum(jnp.square(weights), axis=-1, keepdims=True)
  return jnp.concatenate([weights @ table, certainty], axis=-1)
