"""A predict-correct core in which most latents have a position and track a point of the image.

A latent with a position also has a velocity, the appearance of its point at the start ("birth key")
and a slow average of it, and logits of visibility and confidence. Fixed rules update its position:
along matched motion, with a correction towards the best match of the birth key. Learned corrections
of these rules are initialised to zero, so an untrained core tracks points. The other latents have
no position and behave as in `PredictCorrect`; they can represent sound, vectors and the whole
scene.

Source: ours. Nearest relatives: invariant slot attention (2302.04973; positions, relative
features), deep dynamic latent particles (2306.05957; a position with an appearance), TAPIR
(2306.08637; a template of the query and a local search).
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perceiver_stream.core.base import Core, CoreConfig, CoreInputs, detach_rows, reset_rows
from perceiver_stream.core.following import (
  DAMPING,
  SURE,
  Evidence,
  PositionedState,
  Search,
  follow,
  less_sure,
  to_pixels,
  to_positions,
  within,
)
from perceiver_stream.nn import (
  MLP,
  FramePair,
  LayerNorm,
  LearnedPositions,
  Linear,
  MovingPoints,
  ParallelBlock,
  Precision,
  RelativeCrossBlock,
  gelu,
  patches_at,
  repeat_rows,
  shard_axis,
  sincos_1d,
  unit_length,
  where_rows,
)
from perceiver_stream.types import Count, Layers, Share, Size

STARTS = ("grid", "random")
_STEPS = 6  # of `Evidence.steps`
# Weights of the steps, offset, visibility, confidence, rate of the slow key.
_CORRECTIONS = (_STEPS, 2, 1, 1, 1)
_KEY_RATE = 0.2  # largest share of the slow key that is replaced per tick
_MAX_OFFSET_PX = 1.0  # of the learned correction, per tick
_KNOWN = 6  # columns of `Positioned.latents` besides the content
_JUDGE_LAYERS = 2  # hidden layers of the corrections
_CODE_DIM = 32  # of the index of a latent without position


@dataclass(kw_only=True)
class PositionedConfig(CoreConfig):
  """Sizes of a `Positioned` core. No parameter depends on `num_latents`.

  Attributes:
    num_predict_layers: Self-attention blocks that predict the content of the latents at the next
      tick.
    num_correct_layers: Cross-attention blocks to the tokens.
    global_share: Share of latents without position.
    start: `"grid"`, evenly spaced initial positions, or `"random"`, uniform ones (the same in every
      row and recording).
    patch: Side of the keys, pixels; odd.
    reach: Largest distance in pixels at which a key is searched for around the expected position.
    wide_reach: The same around the last position of latents that are not found there.
    num_wide: Latents in each tick for which there is such a wide search, in turns.
  """

  num_predict_layers: Layers = 1
  num_correct_layers: Layers = 1
  global_share: Share = 0.25
  start: str = "grid"
  patch: Size = 7
  reach: Size = 2
  wide_reach: Size = 10
  num_wide: Count = 16

  @property
  def num_positioned(self) -> int:
    """Latents with a position; they come first in the array."""
    return self.num_latents - round(self.global_share * self.num_latents)

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.start not in STARTS:
      raise ValueError(f"PositionedConfig: start={self.start!r} is not one of {STARTS}.")
    if self.patch % 2 == 0:
      raise ValueError(f"PositionedConfig: patch={self.patch} is even; use an odd side.")
    if not self.num_positioned:
      raise ValueError(
        f"PositionedConfig: global_share={self.global_share} leaves none of {self.num_latents} "
        "latents a position; use a smaller share, or PredictCorrectConfig."
      )


class Positioned(Core):
  """latents ← norm(correct(predict(latents))), with a position update for latents with a position.

  Args:
    config: Sizes.
    start: Maps the number of rows to the initial content.
    predict: Maps the content to the predicted content of the next tick.
    judge: Maps the predicted content of latents with a position, and features of their evidence, to
      corrections of the rules; zero if untrained.
    hear: Maps these features to an addition to the content.
    correct: Maps the content, positions `[B, L, 2]` (NaN: none) and the inputs of the tick to the
      corrected content.
    norm: Normalises the content.
    name: Haiku name.
  """

  uses_positions = True

  def __init__(
    self,
    config: PositionedConfig,
    *,
    start: Callable[[int], Array],
    predict: Callable[[Array], Array],
    judge: Callable[[Array, Array], Array],
    hear: Callable[[Array], Array],
    correct: Callable[[Array, Array, CoreInputs], Array],
    norm: Callable[[Array], Array],
    name: str,
  ):
    super().__init__(name=name)
    self.config = config
    self.start = start
    self.predict = predict
    self.judge = judge
    self.hear = hear
    self.correct = correct
    self.norm = norm

  def initial_state(self, batch_size: int) -> PositionedState:
    """Returns latents at their initial positions, before any image."""
    c = self.config
    points = (batch_size, c.num_positioned)
    start = jnp.asarray(initial_positions(c.num_positioned, c.start), jnp.float32)
    position = jnp.broadcast_to(start[None], (*points, 2))
    unsure, keys = jnp.full(points, -SURE, jnp.float32), jnp.zeros((*points, 3 * c.patch**2))
    return PositionedState(
      latents=self.start(batch_size),
      position=position,
      velocity=jnp.zeros_like(position),
      visible=unsure,
      confidence=unsure,
      birth=keys,
      slow=keys,
      age=jnp.zeros(points, jnp.int32),
    )

  def latents(self, state: PositionedState) -> Float[Array, "*T B L D"]:
    """Returns the content and six more columns with the state of the positions.

    These are position, velocity, visible and confidence; the logits are divided by 4. They are zero
    for latents without position.
    """
    logits = jnp.stack([state.visible, state.confidence], axis=-1) / SURE
    known = jnp.concatenate([state.position, state.velocity, logits], axis=-1)
    return jnp.concatenate([state.latents, self._padded(known, 0.0)], axis=-1)

  def points(self, latents: Float[Array, "B L D"]) -> MovingPoints:
    """Returns positions and velocities of latents as `latents` returns them.

    Their log-weight is that of being visible, and 0 without a position.
    """
    position, velocity, logits = jnp.split(latents[..., -_KNOWN:], [2, 4], axis=-1)
    placed = jnp.arange(self.config.num_latents) < self.config.num_positioned
    visible = jnp.where(placed[None], jax.nn.log_sigmoid(SURE * logits[..., 0]), 0.0)
    return MovingPoints(position, velocity, visible, placed)

  def __call__(
    self, inputs: CoreInputs, prev_state: PositionedState
  ) -> tuple[PositionedState, PositionedState]:
    """Returns the next state twice: as output and as state."""
    state = self._before(inputs, prev_state)
    content = self.predict(state.latents)
    if inputs.frames is None:
      state = state._replace(**_unseen(state))
    else:
      content, state = self._follow(content, state, inputs.frames)
    corrected = self.correct(content, self._padded(state.position, jnp.nan), inputs)
    if inputs.valid is not None:
      corrected = where_rows(inputs.valid, corrected, content.astype(jnp.float32))
    state = state._replace(latents=self.norm(corrected))
    return state, state

  def _before(self, inputs: CoreInputs, state: PositionedState) -> PositionedState:
    """Returns the state before a tick, after resets of rows and of the content of starting latents.

    No gradient flows through positions and keys from tick to tick: errors would be attributed to
    all earlier ticks.
    """
    first = self.initial_state(state.age.shape[0])
    state = reset_rows(inputs, state, lambda: first)
    if inputs.frames is not None:
      fresh = (state.age == 0) & inputs.frames.observed[:, None]
      fresh = self._padded(fresh[..., None], False)[..., 0]
      state = state._replace(latents=where_rows(fresh, first.latents, state.latents))
    state = detach_rows(inputs, state)
    followed = {n: getattr(state, n) for n in ("position", "velocity", "birth", "slow")}
    return state._replace(**jax.lax.stop_gradient(followed))

  def _follow(
    self, content: Array, state: PositionedState, frames: FramePair
  ) -> tuple[Array, PositionedState]:
    """Returns the content with features of the evidence added, and the state after the image."""
    c = self.config
    search = Search(c.patch, c.reach, c.wide_reach, c.num_wide)
    evidence = follow(frames, state, search)
    facts = evidence.facts(state)
    learned = self.judge(content[:, : c.num_positioned], facts)
    changes = self._moved(learned, state, evidence, frames)
    fresh = state.age == 0
    changes = jax.tree.map(
      lambda new, old: where_rows(fresh, new, old), self._born(state, frames), changes
    )
    unseen = {name: getattr(state, name) for name in changes} | _unseen(state)
    changes = {n: where_rows(frames.observed, x, unseen[n]) for n, x in changes.items()}
    known = frames.observed[:, None] & ~fresh
    heard = where_rows(~known, 0.0, self.hear(facts).astype(content.dtype))
    return content + self._padded(heard, 0.0), state._replace(**changes)

  def _moved(
    self, learned: Array, state: PositionedState, evidence: Evidence, frames: FramePair
  ) -> dict[str, Array]:
    """Returns the updated fields of latents that have started: rules with learned corrections."""
    size, found = frames.newest.shape[1:3], evidence.found
    followed = found & ~evidence.again  # a jump to where a lost point is found again is no velocity
    weights, offset, seen, sure, rate = jnp.split(
      learned, list(itertools.accumulate(_CORRECTIONS))[:-1], axis=-1
    )
    weights = jax.nn.softmax(evidence.log_weights + weights, axis=-1)
    step = jnp.sum(weights[..., None] * evidence.steps, axis=2)
    step = step + _MAX_OFFSET_PX * jnp.tanh(offset)
    pixels = within(to_pixels(state.position, size) + step, size)
    position = to_positions(pixels, size)
    patch = patches_at(frames.newest, pixels, self.config.patch)
    rate = where_rows(~found, 0.0, _KEY_RATE * jax.nn.sigmoid(rate))
    return {
      "position": position,
      "velocity": where_rows(followed, position - state.position, DAMPING * state.velocity),
      "visible": evidence.visible + seen[..., 0],
      "confidence": evidence.confidence + sure[..., 0],
      "birth": state.birth,
      "slow": unit_length(state.slow + rate * (patch - state.slow)),
      "age": state.age + 1,
    }

  def _born(self, state: PositionedState, frames: FramePair) -> dict[str, Array]:
    """Returns the updated fields of latents that start with this image, which sets their keys."""
    at = to_pixels(state.position, frames.newest.shape[1:3])
    key = patches_at(frames.newest, at, self.config.patch)
    sure = jnp.full_like(state.visible, SURE)
    return {
      "position": state.position,
      "velocity": jnp.zeros_like(state.velocity),
      "visible": sure,
      "confidence": sure,
      "birth": key,
      "slow": key,
      "age": jnp.ones_like(state.age),
    }

  def _padded(self, x: Array, value: float | bool) -> Array:
    """Returns values `[..., P, K]` of latents with a position, padded with `value` to all latents."""
    missing = self.config.num_latents - self.config.num_positioned
    widths = ((0, 0),) * (x.ndim - 2) + ((0, missing), (0, 0))
    return jnp.pad(x, widths, constant_values=value)


def _unseen(state: PositionedState) -> dict[str, Array]:
  """Returns the updated fields at a tick without an image: lower confidence, nothing else."""
  age = state.age + (state.age > 0).astype(state.age.dtype)
  return {"confidence": less_sure(state.confidence), "age": age}


def initial_positions(num: int, start: str = "grid") -> Float[np.ndarray, "P 2"]:
  """Returns (y, x) in [-1, 1] of any number of latents: evenly spaced rows, or uniform noise."""
  if start == "random":
    return np.random.default_rng(0).uniform(-1, 1, (num, 2))
  rows = max(1, round(num**0.5))
  ends = [i * num // rows for i in range(rows + 1)]
  lines = []
  for row, count in enumerate(np.diff(ends)):
    x = (2 * np.arange(count) + 1) / count - 1
    lines.append(np.stack([np.full(count, (2 * row + 1) / rows - 1), x], axis=-1))
  return np.concatenate(lines)


def positioned(config: PositionedConfig, precision: Precision, *, name: str) -> Positioned:
  """Returns the core of self-attention among latents and relative cross-attention to tokens."""
  c, cast = config, precision.cast
  c.validate()
  sizes = {"mlp_dim": c.mlp_factor * c.latent_dim}
  codes = sincos_1d(c.num_latents - c.num_positioned, _CODE_DIM).astype(np.float32)
  zero = hk.initializers.Constant(0.0)
  with hk.name_scope(name):
    first = LearnedPositions(1, c.latent_dim, name="first_latent")
    identity = Linear(c.latent_dim, name="identity")
    predictors = [
      ParallelBlock(c.num_heads, qkv_dim=c.latent_dim, **sizes, name=f"predict_{i}")
      for i in range(c.num_predict_layers)
    ]
    judge_norm = LayerNorm(use_offset=False, name="judge_norm")
    judge_hidden = [Linear(c.latent_dim, name=f"judge_hidden_{i}") for i in range(_JUDGE_LAYERS)]
    judge_output = Linear(sum(_CORRECTIONS), w_init=zero, name="judge_output")
    hear = MLP(c.latent_dim, output_dim=c.latent_dim, name="facts")
    correctors = [
      RelativeCrossBlock(c.num_heads, qk_dim=c.latent_dim, **sizes, name=f"correct_{i}")
      for i in range(c.num_correct_layers)
    ]
    norm = LayerNorm(use_offset=False, eps=1e-4, name="state_norm")

  def own_vectors() -> Array:  # zero for latents with a position, which are interchangeable
    return jnp.pad(identity(jnp.asarray(codes)), ((c.num_positioned, 0), (0, 0)))

  def start(rows: int) -> Array:
    own = own_vectors()
    return repeat_rows(jnp.broadcast_to(first(), own.shape) + own, rows)

  def predict(x: Array) -> Array:
    x = shard_axis(cast(x)) + repeat_rows(cast(own_vectors()), x.shape[0])
    for predictor in predictors:
      x = predictor(x)
    return x

  def judge(x: Array, facts: Array) -> Array:
    x = jnp.concatenate([judge_norm(x), facts.astype(x.dtype)], axis=-1)
    for layer in judge_hidden:
      x = gelu(layer(x))
    return judge_output(x).astype(jnp.float32)

  def correct(x: Array, positions: Array, inputs: CoreInputs) -> Array:
    tokens, rows = inputs.tokens, inputs.tokens.shape[0]
    places = inputs.positions
    places = jnp.full((rows, tokens.shape[1], 2), jnp.nan) if places is None else places
    for corrector in correctors:
      x = corrector(x, tokens, positions, places, inputs.visible)
    return x.astype(jnp.float32)

  return Positioned(
    c,
    start=start,
    predict=predict,
    judge=judge,
    hear=lambda facts: hear(cast(facts)),
    correct=correct,
    norm=lambda x: shard_axis(norm(x)),
    name=f"{name}_recurrence",
  )
