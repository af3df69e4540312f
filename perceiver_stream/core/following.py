"""State of latents with positions, and the fixed rules that update positions from images.

The rules have no parameters. A latent moves along matched motion if forward and backward motion
agree, is corrected towards the best match of its initial appearance, and stays if neither is found.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from perceiver_stream.nn import FramePair, match_patches, sample_bilinear, where_rows

SURE = 4.0  # logit of a new latent
DAMPING = 0.9  # of the velocity of a latent that is not found, per tick
_LOSS = 0.5  # of confidence, per tick without a match
_MAX_TRIP_PX = 1.0  # largest forward-backward error of accepted motion
_DRAW_LIKENESS = 0.7  # minimum likeness of a correction by the birth key
_DRAW = 0.4  # weight of that correction
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
      the birth key, of the slow key, of the birth key in the wide search, none.
    log_weights: Log-weights of the steps in the mean by which the rules move the latent.
    likeness: Normalised correlation with the birth key and the slow key at their best matches.
    maps: Normalised correlation with both keys at all offsets up to the reach, flattened.
    trip: Forward-backward error of the matched motion in pixels.
    found: True if the latent is visible by the rules.
    again: True if it was lost and the wide search found it.
    visible: `PositionedState.visible` by the rules.
    confidence: `PositionedState.confidence` by the rules.
  """

  steps: Float[Array, "B P 6 2"]
  log_weights: Float[Array, "B P 6"]
  likeness: Float[Array, "B P 2"]
  maps: Float[Array, "B P S"]
  trip: Float[Array, "B P"]
  found: Bool[Array, "B P"]
  again: Bool[Array, "B P"]
  visible: Float[Array, "B P"]
  confidence: Float[Array, "B P"]

  def facts(self, state: PositionedState) -> Float[Array, "B P F"]:
    """Returns the evidence and the previous state as features of about unit size."""
    steps = jnp.clip(self.steps[:, :, :4] / _RANGE_PX, -2.0, 2.0)
    single = [
      jnp.clip(self.trip, 0.0, _RANGE_PX) / _RANGE_PX,
      self.visible / SURE,
      state.confidence / SURE,
      jnp.log1p(state.age.astype(jnp.float32)) / 8,
    ]
    flat = steps.reshape(*steps.shape[:2], -1)
    parts = [flat, self.likeness, jnp.stack(single, axis=-1), self.maps]
    return jnp.concatenate(parts, axis=-1)


class Search(NamedTuple):
  """Sizes of the searches for keys, in pixels.

  Attributes:
    side: Rows and columns of a key.
    reach: Radius of the search around the expected position of each latent.
    wide_reach: Radius around the last position of latents that are not found there.
    num_wide: Latents for which there is a wide search in each tick, in turns.
  """

  side: int
  reach: int
  wide_reach: int
  num_wide: int


def follow(frames: FramePair, state: PositionedState, search: Search) -> Evidence:
  """Returns the measurements of each latent in the newest image.

  Args:
    frames: The previous image and the newest one.
    state: State after the previous image.
    search: Sizes of the searches.
  """
  size = frames.newest.shape[1:3]
  at = to_pixels(state.position, size)
  motion = _flow_at(frames.forward, at)
  trip = _length(motion + _flow_at(frames.backward, at + motion))
  agrees = trip <= _MAX_TRIP_PX
  coast = DAMPING * _scale(state.velocity, size)
  expected = where_rows(agrees, motion, coast)
  keys, side, reach = [state.birth, state.slow], search.side, search.reach
  birth, slow = match_patches(frames.newest, keys, at + expected, side=side, reach=reach)
  draw = jnp.where(birth.likeness >= _DRAW_LIKENESS, _DRAW, 0.0)
  inside = _is_inside(at + expected + draw[..., None] * birth.offset, size)
  kept = (state.visible > 0) & agrees & (birth.likeness >= _KEEP_LIKENESS)
  found = inside & (kept | (birth.likeness >= _FIND_LIKENESS))
  wide, again = _search_wide(frames.newest, state, at, (state.age > 0) & ~found, search)
  steps = [motion, coast, expected + birth.offset, expected + slow.offset, wide, 0 * wide]
  weights = _weights(agrees, found, again, draw)
  found = found | again
  sure = state.confidence + 0.5 * (2 * SURE * (birth.likeness - 0.5) - state.confidence)
  return Evidence(
    jnp.stack(steps, axis=2),
    jnp.log(weights + _RARE),
    jnp.stack([birth.likeness, slow.likeness], axis=-1),
    jnp.concatenate([m.scores.reshape(*at.shape[:2], -1) for m in (birth, slow)], axis=-1),
    trip,
    found,
    again,
    jnp.where(found, SURE, -SURE),
    where_rows(again, jnp.zeros_like(sure), where_rows(found, sure, less_sure(state.confidence))),
  )


def _weights(agrees: Array, found: Array, again: Array, draw: Array) -> Float[Array, "B P 6"]:
  """Returns the weights of the steps by the rules: flags and the share of the birth key."""
  flags = agrees & found, ~agrees & found, found, again, ~(found | again)
  moved, coasts, seen, far, waits = (flag.astype(jnp.float32) for flag in flags)
  parts = [moved * (1 - draw), coasts * (1 - draw), seen * draw, 0 * draw, far, waits]
  return jnp.stack(parts, axis=-1)


def _search_wide(
  image: Array, state: PositionedState, at: Array, lost: Bool[Array, "B P"], search: Search
) -> tuple[Float[Array, "B P 2"], Bool[Array, "B P"]]:
  """Returns the step to the best match of the birth key far around, and where that is a find.

  Few of the lost latents are searched for in a tick; which of them changes with their age.
  """
  count = min(search.num_wide, at.shape[1])
  if not count:
    return jnp.zeros_like(at), jnp.zeros_like(lost)
  number = jnp.arange(at.shape[1], dtype=jnp.int32)[None]
  turn = (number * 7919 + state.age * 10477) % 1009  # any order that changes from tick to tick
  _, chosen = jax.lax.top_k(jnp.where(lost, turn, -1), count)
  pick = lambda x: jnp.take_along_axis(x, chosen[..., None], axis=1)  # noqa: E731
  (match,) = match_patches(
    image, [pick(state.birth)], pick(at), side=search.side, reach=search.wide_reach
  )
  found = (match.likeness >= _FIND_LIKENESS) & jnp.take_along_axis(lost, chosen, axis=1)
  found = found & _is_inside(pick(at) + match.offset, image.shape[1:3])
  rows = jnp.broadcast_to(jnp.arange(at.shape[0])[:, None], chosen.shape)
  return (
    jnp.zeros_like(at).at[rows, chosen].set(match.offset),
    jnp.zeros_like(lost).at[rows, chosen].set(found),
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
