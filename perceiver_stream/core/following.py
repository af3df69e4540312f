"""State of latents with positions, and the fixed rules that update positions from images.

The rules have no parameters. A latent moves along matched motion if forward and backward motion
agree, is corrected towards the best match of its initial appearance, and stays if neither is found.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.nn import FramePair, match_patches, sample_bilinear, where_rows

SURE = 4.0  # logit of a new latent
DAMPING = 0.9  # of the velocity of a latent that is not found, per tick
_LOSS = 0.5  # of confidence, per tick without a match
_MAX_TRIP_PX = 1.0  # largest forward-backward error of accepted motion
_DRAW_LIKENESS, _DRAW = (
  0.7,
  0.4,
)  # minimum likeness of a correction by the birth key, and its weight
_KEEP_LIKENESS = 0.4  # minimum likeness of a visible latent
_FIND_LIKENESS = 0.8  # minimum likeness at which a hidden latent becomes visible
_RARE = 1e-4  # weight of steps that the rules reject, so that learned corrections can select them
_RANGE_PX = 4.0  # scale of displacements in features


class PositionedState(NamedTuple):
  """State of a `Positioned` core; P of the L latents have a position.

  Attributes:
    latents: Content, float32.
    position: (y, x) in [-1, 1]: cell centres are those of `nn.coordinates`.
    velocity: Change of the position per tick.
    visible: Logit that the tracked point is visible.
    confidence: Logit that the position is accurate; it decreases while there is no match.
    birth: Initial appearance, a patch as in `nn.patches_at`; zeros before the start.
    slow: Slow average of the appearance.
    age: Ticks since the start; 0 before the first image.
  """

  latents: Float[Array, "*T B L D"]
  position: Float[Array, "*T B P 2"]
  velocity: Float[Array, "*T B P 2"]
  visible: Float[Array, "*T B P"]
  confidence: Float[Array, "*T B P"]
  birth: Float[Array, "*T B P K"]
  slow: Float[Array, "*T B P K"]
  age: Int[Array, "*T B P"]

  def restart(
    self, start: Bool[Array, "B P"], position: Float[Array, "B P 2"]
  ) -> "PositionedState":
    """Returns the state with some latents restarted at given positions, from the next image on.

    Args:
      start: Latents to restart.
      position: Their new positions, (y, x) in [-1, 1]; ignored for other latents.
    """
    return self._replace(
      position=where_rows(start, position, self.position),
      velocity=where_rows(start, 0.0, self.velocity),
      visible=where_rows(start, -SURE, self.visible),
      confidence=where_rows(start, -SURE, self.confidence),
      birth=where_rows(start, 0.0, self.birth),
      slow=where_rows(start, 0.0, self.slow),
      age=where_rows(start, jnp.zeros_like(self.age), self.age),
    )


class Evidence(NamedTuple):
  """Measurements of each latent in the newest image, and the update by the rules.

  Attributes:
    steps: Displacements in pixels, (y, x): matched motion, damped velocity, to the best match of
      the birth key, to that of the slow key, none.
    log_weights: Log-weights of the steps in the mean by which the rules move the latent.
    likeness: Normalised correlation with the birth key and the slow key at their best matches.
    trip: Forward-backward error of the matched motion in pixels.
    found: True if the latent is visible by the rules.
    visible: `PositionedState.visible` by the rules.
    confidence: `PositionedState.confidence` by the rules.
  """

  steps: Float[Array, "B P 5 2"]
  log_weights: Float[Array, "B P 5"]
  likeness: Float[Array, "B P 2"]
  trip: Float[Array, "B P"]
  found: Bool[Array, "B P"]
  visible: Float[Array, "B P"]
  confidence: Float[Array, "B P"]

  def facts(self, state: PositionedState) -> Float[Array, "B P 14"]:
    """Returns the evidence and the previous state as features of about unit size."""
    steps = jnp.clip(self.steps[:, :, :4] / _RANGE_PX, -2.0, 2.0)
    single = [
      jnp.clip(self.trip, 0.0, _RANGE_PX) / _RANGE_PX,
      self.visible / SURE,
      state.confidence / SURE,
      jnp.log1p(state.age.astype(jnp.float32)) / 8,
    ]
    flat = steps.reshape(*steps.shape[:2], -1)
    return jnp.concatenate([flat, self.likeness, jnp.stack(single, axis=-1)], axis=-1)


def follow(frames: FramePair, state: PositionedState, *, side: int, reach: int) -> Evidence:
  """Returns the measurements of each latent in the newest image.

  Args:
    frames: The previous image and the newest one.
    state: State after the previous image.
    side: Rows and columns of the keys in pixels.
    reach: Radius of the search for the keys around the expected position in pixels.
  """
  size = frames.newest.shape[1:3]
  at = to_pixels(state.position, size)
  motion = _flow_at(frames.forward, at)
  trip = _length(motion + _flow_at(frames.backward, at + motion))
  agrees = trip <= _MAX_TRIP_PX
  coast = DAMPING * _scale(state.velocity, size)
  expected = where_rows(agrees, motion, coast)
  birth, slow = match_patches(
    frames.newest, [state.birth, state.slow], at + expected, side=side, reach=reach
  )
  steps = [motion, coast, expected + birth.offset, expected + slow.offset, jnp.zeros_like(motion)]
  draw = jnp.where(birth.likeness >= _DRAW_LIKENESS, _DRAW, 0.0)
  inside = _is_inside(at + expected + draw[..., None] * birth.offset, size)
  kept = (state.visible > 0) & agrees & (birth.likeness >= _KEEP_LIKENESS)
  found = inside & (kept | (birth.likeness >= _FIND_LIKENESS))
  ways = agrees.astype(jnp.float32), 1 - agrees.astype(jnp.float32)
  weights = jnp.stack([ways[0] * (1 - draw), ways[1] * (1 - draw), draw, 0 * draw, 0 * draw], -1)
  weights = where_rows(found, weights, jnp.zeros_like(weights).at[..., -1].set(1.0))
  sure = state.confidence + 0.5 * (2 * SURE * (birth.likeness - 0.5) - state.confidence)
  return Evidence(
    jnp.stack(steps, axis=2),
    jnp.log(weights + _RARE),
    jnp.stack([birth.likeness, slow.likeness], axis=-1),
    trip,
    found,
    jnp.where(found, SURE, -SURE),
    where_rows(found, sure, less_sure(state.confidence)),
  )


def less_sure(confidence: Float[Array, "B P"]) -> Float[Array, "B P"]:
  """Returns the confidence after a tick without a match."""
  return jnp.maximum(confidence - _LOSS, -2 * SURE)


def to_pixels(position: Float[Array, "B P 2"], size: tuple[int, ...]) -> Float[Array, "B P 2"]:
  """Returns positions in [-1, 1] as pixels (y, x), whole numbers at pixel centres."""
  return _scale(position + 1, size) - 0.5


def to_positions(pixels: Float[Array, "B P 2"], size: tuple[int, ...]) -> Float[Array, "B P 2"]:
  """Returns the inverse of `to_pixels`."""
  return (pixels + 0.5) * (2 / _vector(size)) - 1


def within(pixels: Float[Array, "B P 2"], size: tuple[int, ...]) -> Float[Array, "B P 2"]:
  """Returns pixels (y, x) clipped to at most two pixels outside the image."""
  return jnp.clip(pixels, -2.0, _vector(size) + 1.0)


def _scale(change: Array, size: tuple[int, ...]) -> Array:
  """Returns a change of positions in pixels."""
  return change * (_vector(size) / 2)


def _vector(size: tuple[int, ...]) -> Float[Array, "1 1 2"]:
  return jnp.asarray(size, jnp.float32).reshape(1, 1, 2)


def _flow_at(flow: Float[Array, "B H W 2"], at: Float[Array, "B P 2"]) -> Float[Array, "B P 2"]:
  """Returns a flow (x, y) at the given pixels, as (y, x)."""
  return jnp.flip(sample_bilinear(flow, at[..., 0], at[..., 1]), axis=-1)


def _length(step: Float[Array, "B P 2"]) -> Float[Array, "B P"]:
  return jnp.sqrt(jnp.sum(jnp.square(step), axis=-1) + 1e-8)


def _is_inside(at: Float[Array, "B P 2"], size: tuple[int, ...]) -> Bool[Array, "B P"]:
  return jnp.all((at >= -0.5) & (at <= _vector(size) - 0.5), axis=-1)
