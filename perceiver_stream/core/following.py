"""The state of latents that have positions, and the fixed rules by which they follow an image.

Without learning: a latent moves along matched motion where the way forth and back agrees, is drawn
towards the place that looks as it did at its start, and waits where neither finds it.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.nn import FramePair, match_patches, sample_bilinear, where_rows

SURE = 4.0  # logit of a latent that has just started
DAMPING = 0.9  # of the velocity of what is not found, per tick
_LOSS = 0.5  # of confidence, in each tick in which nothing is found
_MAX_TRIP_PX = 1.0  # largest error of the way forth and back at which motion counts
_DRAW_LIKENESS, _DRAW = 0.7, 0.4  # likeness from which the birth key draws, and how much
_KEEP_LIKENESS = 0.4  # least likeness of what is still seen
_FIND_LIKENESS = 0.8  # likeness at which what was hidden is seen again
_RARE = 1e-4  # weight of what the rules do not choose, so that learning can
_RANGE_PX = 4.0  # scale of displacements in facts


class PositionedState(NamedTuple):
  """State of a `Positioned` core; P of the L latents have a position.

  Attributes:
    latents: Content, float32.
    position: (y, x) in [-1, 1]: cell centres are those of `nn.coordinates`.
    velocity: Change of the position per tick.
    visible: Logit that what is followed can be seen.
    confidence: Logit that the position is right; it falls while nothing is found.
    birth: Appearance at the start, a patch as `nn.patches_at` returns it; zeros before the start.
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
    """Returns the state in which some latents start at given positions, with the next image.

    Args:
      start: Latents that forget what they follow.
      position: Where they start, (y, x) in [-1, 1]; ignored elsewhere.
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
  """What the newest image says of each latent, and what the rules make of it.

  Attributes:
    steps: Displacements in pixels, (y, x): matched motion, damped velocity, to the best match of the
      birth key, to that of the slow key, none.
    log_weights: Of the mean of these by which the rules move the latent.
    likeness: Normalised correlation with the birth key and the slow key at their best matches.
    trip: Error in pixels of the matched motion forth and back.
    found: True where the rules take the latent as seen.
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
    """Returns the evidence and the state before it as numbers of about unit size."""
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
  """Returns what the newest image says of each latent.

  Args:
    frames: The image before and the newest one.
    state: After the image before.
    side: Rows and columns of the keys, pixels.
    reach: Of the search for the keys around the expected place, pixels.
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
  """Returns the confidence after a tick in which nothing was found."""
  return jnp.maximum(confidence - _LOSS, -2 * SURE)


def to_pixels(position: Float[Array, "B P 2"], size: tuple[int, ...]) -> Float[Array, "B P 2"]:
  """Returns positions in [-1, 1] as pixels (y, x), whole numbers at pixel centres."""
  return _scale(position + 1, size) - 0.5


def to_positions(pixels: Float[Array, "B P 2"], size: tuple[int, ...]) -> Float[Array, "B P 2"]:
  """Returns the inverse of `to_pixels`."""
  return (pixels + 0.5) * (2 / _vector(size)) - 1


def within(pixels: Float[Array, "B P 2"], size: tuple[int, ...]) -> Float[Array, "B P 2"]:
  """Returns pixels (y, x) kept within two pixels of the image."""
  return jnp.clip(pixels, -2.0, _vector(size) + 1.0)


def _scale(change: Array, size: tuple[int, ...]) -> Array:
  """Returns a change of positions in pixels."""
  return change * (_vector(size) / 2)


def _vector(size: tuple[int, ...]) -> Float[Array, "1 1 2"]:
  return jnp.asarray(size, jnp.float32).reshape(1, 1, 2)


def _flow_at(flow: Float[Array, "B H W 2"], at: Float[Array, "B P 2"]) -> Float[Array, "B P 2"]:
  """Returns a flow, (x, y), at some pixels, as (y, x)."""
  return jnp.flip(sample_bilinear(flow, at[..., 0], at[..., 1]), axis=-1)


def _length(step: Float[Array, "B P 2"]) -> Float[Array, "B P"]:
  return jnp.sqrt(jnp.sum(jnp.square(step), axis=-1) + 1e-8)


def _is_inside(at: Float[Array, "B P 2"], size: tuple[int, ...]) -> Bool[Array, "B P"]:
  return jnp.all((at >= -0.5) & (at <= _vector(size) - 0.5), axis=-1)
