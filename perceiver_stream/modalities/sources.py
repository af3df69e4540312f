"""Where the pixels of a picture to come are now: competing hypotheses, weighed.

What will be at a pixel need not be what is there now: a thing may arrive there, or leave. So its
own motion, the motion of places around it, and standing still compete; likely is a hypothesis
whose source moves as it says. Averaging over what stays possible is also what squared error asks
for.

Source: warping the last frame by a decoded flow is Pătrăucean et al. 2016 (1511.06309); several
hypotheses, and asking the source, are ours.
"""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perceiver_stream.nn import Linear, sample_bilinear

# Places whose motion is tried, in units of `radius`, (y, x); then comes standing still.
AROUND = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], np.float32)
_REACH = 32.0  # pixels a tick
NUM_SOURCES = len(AROUND) + 1
_FIRST_LOGITS = np.array([1.5, 0, 0, 0, 0, 1.5], np.float32)  # own motion or none, at first


def sources(
  decoded: Float[Array, "B Q E"],
  motion: Float[Array, "B H W 2"],
  index: Float[Array, "Q p p 2"],
  ticks: Float[Array, " Q"],
  leave: Float[Array, "B Q 1 1 1"],
  *,
  name: str,
) -> tuple[Float[Array, "B Q p p K 2"], Float[Array, "B Q p p K"]]:
  """Returns where each pixel may come from, as flow (x, y) in pixels, and weights that sum to 1.

  Args:
    decoded: What the latents say about each queried cell.
    motion: For each pixel of the last frame, where it was one tick before, (x, y) pixels.
    index: Array indices (row, column) of the pixels of each cell.
    ticks: How far ahead each query asks.
    leave: In [0, 1], how far a cell may move without matched motion.
    name: Of the modality; the parameters start with it.

  All flows are proportional to the ticks and zero with untrained parameters.
  """
  rows, reach = motion.shape[0], float(max(motion.shape[1:3]))
  zero = hk.initializers.Constant(0.0)
  velocity = Linear(3, w_init=zero, name=f"{name}_flow")(decoded).astype(jnp.float32)
  velocity = velocity[:, :, None, None, None]  # [B, Q, p, p, K, 3], so also below
  gain, offset = velocity[..., :1], 0.1 * velocity[..., 1:] * leave[..., None]
  ticks = ticks[None, :, None, None, None, None]
  motion = jax.lax.stop_gradient(motion)

  def flow_at(place: Float[Array, "B Q p p K 2"]) -> Float[Array, "B Q p p K 2"]:
    matched = sample_bilinear(motion, place[..., 0], place[..., 1])
    gains, offsets = (jnp.broadcast_to(x, matched.shape) for x in (gain, offset))
    moved = (gains * matched + offsets) * jnp.broadcast_to(ticks, matched.shape)
    return jnp.clip(moved, -reach, reach)

  here = index[None, :, :, :, None]
  around = jnp.minimum(2 * ticks, 8.0) * jnp.asarray(AROUND)[None, None, None, None]
  places = jnp.broadcast_to(here + around, (rows, *index.shape[:3], *AROUND.shape))
  flows = flow_at(places)
  flows = jnp.concatenate([flows, jnp.zeros_like(flows[..., :1, :])], axis=-2)
  miss = _length(flows - flow_at(here + jnp.flip(flows, axis=-1)))
  words = Linear(NUM_SOURCES + 2, w_init=zero, name=f"{name}_choice")(decoded)
  words = words.astype(jnp.float32)[:, :, None, None]
  strictness, haste, prior = words[..., :1], words[..., 1:2], words[..., 2:]
  prior = prior + jnp.asarray(_FIRST_LOGITS).reshape((1,) * 4 + (-1,))
  logits = prior + haste * _length(flows) - jax.nn.softplus(strictness) * miss
  return flows, jax.nn.softmax(logits, axis=-1)


def latent_motion(
  decoded: Float[Array, "B Q E"],
  index: Float[Array, "Q p p 2"],
  ticks: Float[Array, " Q"],
  *,
  name: str,
) -> tuple[Float[Array, "B Q p p K 2"], Float[Array, "B Q p p K"]]:
  """Returns what `sources` does, of two hypotheses: the motion told by the latents, or none.

  Args:
    decoded: What the latents say about each queried cell.
    index: Array indices (row, column) of the pixels of each cell, for their shape.
    ticks: Between the frame that is moved and the one asked for.
    name: Of the modality; the parameters start with it.

  The flow of a cell is one vector, proportional to the ticks, zero with untrained parameters, and
  at most 32 pixels long for each tick.
  """
  zero = hk.initializers.Constant(0.0)
  velocity = Linear(2, w_init=zero, name=f"{name}_velocity")(decoded).astype(jnp.float32)
  moved = jnp.clip(velocity, -_REACH, _REACH) * ticks[None, :, None]
  flows = jnp.stack([moved, jnp.zeros_like(moved)], axis=2)[:, :, None, None]
  words = Linear(2, w_init=zero, name=f"{name}_moves")(decoded).astype(jnp.float32)
  prior = jnp.asarray([2.0, 0.0]).reshape(1, 1, 2)
  weights = jax.nn.softmax(words + prior, axis=-1)[:, :, None, None]
  shape = (decoded.shape[0], *index.shape[:3], 2)
  return jnp.broadcast_to(flows, (*shape, 2)), jnp.broadcast_to(weights, shape)


def _length(flow: Float[Array, "... 2"]) -> Float[Array, "..."]:
  """Returns the length in pixels, smooth at zero."""
  return jnp.sqrt(jnp.sum(jnp.square(flow), axis=-1) + 1e-4)
