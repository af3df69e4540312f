"""Motion of image cells as a mixture of the motions of nearby moving points."""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.layers import LayerNorm, Linear
from perceiver_stream.nn.moving import MovingPoints, distance_features, sharpness

NUM_CARRIERS = 8  # points per cell
_STILL = -8.0  # initial log-weight of no motion: that of a point four radii away


class CellMotion(NamedTuple):
  """The points that may carry the content of each queried cell: the K with the largest weights.

  Attributes:
    position: (y, x) in [-1, 1] at the predicted tick.
    velocity: Change of the position per tick.
    log_weight: Log-weight of each point at distance 0.
    sharpness: Decrease of the log-weight per squared distance.
    still: Log-weight of no motion.
  """

  position: Float[Array, "B Q K 2"]
  velocity: Float[Array, "B Q K 2"]
  log_weight: Float[Array, "B Q K"]
  sharpness: Float[Array, " Q"]
  still: Float[Array, "B Q"]

  def flows(
    self, place: Float[Array, "Q p p 2"], ticks: Float[Array, " Q"], size: tuple[int, int]
  ) -> tuple[Float[Array, "B Q p p S 2"], Float[Array, "B Q p p S"]]:
    """Returns flows (x, y) in pixels from each pixel to its S possible sources, and weights.

    There are S = K + 1 sources; the last flow is zero. Weights sum to 1.

    Args:
      place: (y, x) of the pixels of each cell, in [-1, 1].
      ticks: Ticks from the image that is warped to the predicted one.
      size: Rows and columns of the image.
    """
    scale = jnp.asarray([size[0] / 2, size[1] / 2], jnp.float32)
    step = -self.velocity * ticks[None, :, None, None] * jnp.broadcast_to(scale, (1, 1, 1, 2))
    step = jnp.pad(step, ((0, 0), (0, 0), (0, 1), (0, 0)))[:, :, None, None]
    away = place[None, :, :, :, None] - self.position[:, :, None, None]
    away = jnp.sum(jnp.square(away), axis=-1) * self.sharpness[None, :, None, None, None]
    logits = self.log_weight[:, :, None, None] - away
    still = jnp.broadcast_to(self.still[:, :, None, None, None], (*logits.shape[:4], 1))
    weights = jax.nn.softmax(jnp.concatenate([logits, still], axis=-1), axis=-1)
    return jnp.broadcast_to(jnp.flip(step, axis=-1), (*weights.shape, 2)), weights


class Carrying(hk.Module):
  """Chooses the points that carry the content of each queried cell, and their weights.

  Weights fall with the distance as in `MovingAttention`; a learned priority of each point, for
  example of what is in front, is added to its log-weight. It is zero if untrained.
  """

  def __call__(
    self,
    decoded: Float[Array, "B Q E"],
    latents: Float[Array, "B N C"],
    points: MovingPoints,
    position: Float[Array, "Q 2"],
    ticks: Float[Array, " Q"],
  ) -> CellMotion:
    """Returns the motion of cells with centres `position` at displacements `ticks`.

    Args:
      decoded: Decoder output for each queried cell.
      latents: The vectors that `points` belong to.
      points: Their positions and velocities; those without position carry nothing.
      position: Centres of the cells, (y, x) in [-1, 1].
      ticks: Displacements.
    """
    zero = hk.initializers.Constant(0.0)
    front = Linear(1, w_init=zero, name="priority")(LayerNorm(name="input_norm")(latents))
    points = points._replace(log_weight=points.log_weight + front[..., 0].astype(jnp.float32))
    still = Linear(1, w_init=zero, name="still")(decoded)[..., 0].astype(jnp.float32)
    sharp = sharpness(points, 1)
    near = distance_features(position, ticks, sharp)[:, 0]
    logits = jnp.einsum("qf,bnf->bqn", near, points.features(), precision="highest")
    logits = jnp.where(points.placed[None, None], logits, -jnp.inf)
    count = min(NUM_CARRIERS, logits.shape[-1])
    _, best = jax.lax.top_k(jax.lax.stop_gradient(logits), count)
    pick = jax.vmap(lambda x, i: x[i])
    velocity = pick(points.velocity, best)
    log_weight = jnp.where(points.placed[None], points.log_weight, -jnp.inf)
    return CellMotion(
      position=pick(points.position, best) + ticks[None, :, None, None] * velocity,
      velocity=velocity,
      log_weight=pick(log_weight, best),
      sharpness=sharp[0] / (2 * (1 + ticks)),
      still=_STILL + still,
    )
