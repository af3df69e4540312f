"""Prediction of a future frame as a weighted mean of warps of the last frame.

An object may arrive at a pixel or motion_scale it. The hypotheses per pixel are therefore its own motion,
the motion of pixels around it at distance `radius`, and no motion. A hypothesis gets a high weight
if the motion at its source points to this pixel. A weighted mean of the possible sources also
minimises the expected squared error.

Source: warping the last frame by a decoded flow is from Pătrăucean et al. 2016 (1511.06309);
  multiple
hypotheses and the check of the motion at the source are ours.
"""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perceiver_stream.nn import Linear, sample_bilinear

# Offsets of the pixels whose motion is a hypothesis, in units of `radius`, (y, x); no motion is
# last.
AROUND = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], np.float32)
_REACH = 32.0  # pixels per tick
NUM_SOURCES = len(AROUND) + 1
_FIRST_LOGITS = np.array([1.5, 0, 0, 0, 0, 1.5], np.float32)  # initially its own motion or none


def warp_hypotheses(
  decoded: Float[Array, "B Q E"],
  motion: Float[Array, "B H W 2"],
  index: Float[Array, "Q p p 2"],
  ticks: Float[Array, " Q"],
  motion_scale: Float[Array, "B Q 1 1 1"],
  *,
  name: str,
) -> tuple[Float[Array, "B Q p p K 2"], Float[Array, "B Q p p K"]]:
  """Returns the flows (x, y) in pixels to possible sources of each pixel, and their weights.

  Args:
    decoded: Decoder output for each queried cell.
    motion: Offset (x, y) in pixels from each pixel of the last frame to its position one tick
      before.
    index: Array indices (row, column) of the pixels of each cell.
    ticks: Displacement of each query.
    motion_scale: Scale in [0, 1] of motion that is decoded rather than matched.
    name: Name of the modality, the prefix of the parameter names.

  Weights sum to 1. All flows are proportional to the ticks and zero with untrained parameters.
  """
  rows, reach = motion.shape[0], float(max(motion.shape[1:3]))
  zero = hk.initializers.Constant(0.0)
  velocity = Linear(3, w_init=zero, name=f"{name}_flow")(decoded).astype(jnp.float32)
  velocity = velocity[:, :, None, None, None]  # [B, Q, p, p, K, 3], so also below
  gain, offset = velocity[..., :1], 0.1 * velocity[..., 1:] * motion_scale[..., None]
  ticks = ticks[None, :, None, None, None, None]
  motion = jax.lax.stop_gradient(motion)

  def flow_at(position: Float[Array, "B Q p p K 2"]) -> Float[Array, "B Q p p K 2"]:
    matched = sample_bilinear(motion, position[..., 0], position[..., 1])
    gains, offsets = (jnp.broadcast_to(x, matched.shape) for x in (gain, offset))
    moved = (gains * matched + offsets) * jnp.broadcast_to(ticks, matched.shape)
    return jnp.clip(moved, -reach, reach)

  own = index[None, :, :, :, None]
  around = jnp.minimum(2 * ticks, 8.0) * jnp.asarray(AROUND)[None, None, None, None]
  positions = jnp.broadcast_to(own + around, (rows, *index.shape[:3], *AROUND.shape))
  flows = flow_at(positions)
  flows = jnp.concatenate([flows, jnp.zeros_like(flows[..., :1, :])], axis=-2)
  mismatch = _length(flows - flow_at(own + jnp.flip(flows, axis=-1)))
  outputs = Linear(NUM_SOURCES + 2, w_init=zero, name=f"{name}_choice")(decoded)
  outputs = outputs.astype(jnp.float32)[:, :, None, None]
  strictness, speed_bias, prior = outputs[..., :1], outputs[..., 1:2], outputs[..., 2:]
  prior = prior + jnp.asarray(_FIRST_LOGITS).reshape((1,) * 4 + (-1,))
  logits = prior + speed_bias * _length(flows) - jax.nn.softplus(strictness) * mismatch
  return flows, jax.nn.softmax(logits, axis=-1)


def latent_motion(
  decoded: Float[Array, "B Q E"],
  index: Float[Array, "Q p p 2"],
  ticks: Float[Array, " Q"],
  *,
  name: str,
) -> tuple[Float[Array, "B Q p p K 2"], Float[Array, "B Q p p K"]]:
  """Returns flows and weights of two hypotheses: motion decoded from the latents, or none.

  Args:
    decoded: Decoder output for each queried cell.
    index: Array indices (row, column) of the pixels of each cell, for their shape.
    ticks: Ticks from the warped frame to the predicted one.
    name: Name of the modality, the prefix of the parameter names.

  The flow of a cell is one vector, proportional to the ticks, zero with untrained parameters, and
  at most 32 pixels per tick along each axis.
  """
  zero = hk.initializers.Constant(0.0)
  velocity = Linear(2, w_init=zero, name=f"{name}_velocity")(decoded).astype(jnp.float32)
  moved = jnp.clip(velocity, -_REACH, _REACH) * ticks[None, :, None]
  flows = jnp.stack([moved, jnp.zeros_like(moved)], axis=2)[:, :, None, None]
  outputs = Linear(2, w_init=zero, name=f"{name}_moves")(decoded).astype(jnp.float32)
  prior = jnp.asarray([2.0, 0.0]).reshape(1, 1, 2)
  weights = jax.nn.softmax(outputs + prior, axis=-1)[:, :, None, None]
  shape = (decoded.shape[0], *index.shape[:3], 2)
  return jnp.broadcast_to(flows, (*shape, 2)), jnp.broadcast_to(weights, shape)


def sampled(
  image: Float[Array, "B H W C"],
  index: Float[Array, "Q p p 2"],
  flows: Float[Array, "B Q p p K 2"],
) -> Float[Array, "B Q p p K C"]:
  """Returns the pixels of an image at the end of K flows (x, y) from each pixel at `index`."""
  y, x = (
    jnp.broadcast_to(i[None, ..., None], flows.shape[:-1]) for i in (index[..., 0], index[..., 1])
  )
  return sample_bilinear(image, y + flows[..., 1], x + flows[..., 0])


def mean_of_warps(
  candidates: Float[Array, "B Q p p K C"], weights: Float[Array, "B Q p p K"]
) -> Float[Array, "B Q p p C"]:
  """Returns the weighted mean of warped pixels; exactly the last candidate if all equal it."""
  still = candidates[..., -1:, :]
  return still[..., 0, :] + jnp.sum(weights[..., None] * (candidates - still), axis=-2)


def _length(flow: Float[Array, "... 2"]) -> Float[Array, "..."]:
  """Returns the length in pixels, smooth at zero."""
  return jnp.sqrt(jnp.sum(jnp.square(flow), axis=-1) + 1e-4)
