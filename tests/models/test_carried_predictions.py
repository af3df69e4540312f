"""Predictions by latents with positions: what latents move is moved, and no other motion is known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_init import with_quick_init

import perceiver_stream
from perceiver_stream import streams
from perceiver_stream.core import PositionedConfig
from perceiver_stream.models.stream_perceiver import BottleneckConfig
from perceiver_stream.types import IS_FIRST

SIDE, TICKS, AHEAD, TIMES = 32, 12, (0, 1, 4), (5, 7)
LEVELS = ("easy", "medium", "hard")


@functools.cache
def built():
  """Returns a model whose latents have positions, and random parameters: 64 latents and 8 without."""
  config = perceiver_stream.config("stream_perceiver/nano_positions")
  size = {"height": SIDE, "width": SIDE, "reconstruct_motion": True}
  frame = dataclasses.replace(config.modalities["pixels"], **size)
  core = dataclasses.replace(config.core, num_latents=72, global_share=1 / 9, num_wide=2)
  changes = {"modalities": {"pixels": frame}, "core": core, "displacements": AHEAD}
  model = perceiver_stream.build(dataclasses.replace(config, **changes))
  return model, with_quick_init(model).init(jax.random.key(0), {"pixels": watched()[0]})


@functools.cache
def watched():
  """Returns a clip of the synthetic world of each level, `[T, B, H, W, 3]`."""
  worlds = [
    streams.synthetic.Config(
      height=SIDE,
      width=SIDE,
      level=level,
      audio_rate_hz=0,
      max_ticks=TICKS,
      seed=5,
      modalities=("pixels",),
      ticks_per_recording=TICKS,
    )
    for level in LEVELS
  ]
  rows = [[tick["pixels"] for tick in streams.open_rows(world)[0]] for world in worlds]
  return np.stack([np.stack(row) for row in rows], axis=1)


@functools.cache
def states():
  model, params = built()
  observations = {"pixels": watched(), IS_FIRST: np.zeros(watched().shape[:2], bool)}
  return model.observe(params, model.initial_state(params, len(LEVELS)), observations)[0]


def at(time: int):
  return jax.tree.map(lambda x: x[time], states())


def predict(state):
  """Returns predictions `[B, K, ...]` at the displacements `AHEAD`."""
  model, params = built()
  return jax.tree.map(np.asarray, model.predict(params, state, AHEAD))


def with_latents(state, **changes):
  """Returns a state whose latents with positions have other fields."""
  return state._replace(latents=state.latents._replace(**changes))


def decibels(prediction, target) -> np.ndarray:
  return -10 * np.log10(np.mean(np.square(prediction - target), axis=(1, 2, 3)))


def test_untrained_it_predicts_moving_scenes_better_than_copying():
  """Gains in dB at displacements 1 and 4, by level; at 0 over the frame before."""
  frames, gains = watched() / 255.0, []
  for time in TIMES:
    found = predict(at(time))["pixels"]
    for i, ahead in enumerate(AHEAD):
      copied = frames[time if ahead else time - 1]
      target = frames[time + ahead]
      gains.append(decibels(found[:, i], target) - decibels(copied, target))
  easy, medium, hard = np.mean(np.reshape(gains, (len(TIMES), len(AHEAD), -1)), axis=0).T
  assert np.all(easy[1:] > (1.0, 1.8)), easy
  assert np.all(medium[1:] > (8.0, 5.0)), medium
  assert np.all(hard[1:] > (2.5, 1.4)), hard
  assert np.all([easy[0] > 1.5, medium[0] > 8.0, hard[0] > 2.5]), (easy, medium, hard)


def test_without_velocities_it_copies_exactly():
  state = at(TIMES[0])
  still = with_latents(state, velocity=jnp.zeros_like(state.latents.velocity))
  found = predict(still)
  memory = state.memory["pixels"]
  for i, ahead in enumerate(AHEAD):
    np.testing.assert_array_equal(found["pixels"][:, i], memory.last if ahead else memory.previous)
  assert not np.any(found["pixels_flow"])


def test_motion_reaches_predictions_through_latents_alone():
  """Matched motion, and a change between the last frames, change nothing if latents are the same."""
  model, params = built()
  params = jax.tree.map(lambda x: x + 0.05, params)  # no zero hides a path
  state = at(TIMES[0])

  def answer(extra, previous, velocity):
    memory = {"pixels": state.memory["pixels"]._replace(previous=previous)}
    moved = with_latents(state, velocity=velocity)._replace(extra=extra, memory=memory)
    found = model.predict(params, moved, (1, 4))
    return jnp.sum(jnp.sin(7 * found["pixels"])) + jnp.sum(found["pixels_flow"])

  known = state.extra, state.memory["pixels"].previous, state.latents.velocity
  extra, previous, velocity = jax.jit(jax.grad(answer, (0, 1, 2)))(*known)
  assert not any(np.any(x) for x in jax.tree.leaves((extra, previous)))
  assert np.all(np.isfinite(velocity)) and np.any(velocity)


def test_equal_velocities_move_the_whole_image_by_them():
  state = at(TIMES[0])
  last = np.asarray(state.memory["pixels"].last)
  step = np.float32([1.0, -2.0])  # pixels, (y, x)
  velocity = jnp.broadcast_to(step * 2 / SIDE, state.latents.velocity.shape)
  sure = jnp.full_like(state.latents.visible, 4.0)
  found = predict(with_latents(state, velocity=velocity, visible=sure))
  moved = np.roll(last, (1, -2), axis=(1, 2))
  inside = np.s_[:, 4:-4, 4:-4]
  np.testing.assert_allclose(found["pixels"][:, 1][inside], moved[inside], atol=0.01)
  for i, ahead in enumerate(AHEAD):
    flow = found["pixels_flow"][:, i][inside]
    np.testing.assert_allclose(flow, np.broadcast_to([2.0, -1.0], flow.shape) * max(ahead, 1))


def test_what_is_not_visible_counts_less():
  """Of two latents at one place that move apart, the visible one moves the pixels there."""
  state = at(TIMES[0])
  count = state.latents.position.shape[1]
  first = (jnp.arange(count) < count // 2)[None]
  side = jnp.where(first, 1.0, -1.0)[..., None] * jnp.asarray([0.0, 2.0 / SIDE]).reshape(1, 1, 2)
  base = {
    "position": jnp.concatenate([state.latents.position[:, ::2]] * 2, axis=1),
    "velocity": jnp.broadcast_to(side, state.latents.velocity.shape),
  }
  for sign in (1.0, -1.0):
    visible = jnp.broadcast_to(jnp.where(first, 4.0, -4.0) * sign, (len(LEVELS), count))
    flow = predict(with_latents(state, visible=visible, **base))["pixels_flow"][:, 1]
    np.testing.assert_allclose(flow[..., 0], -sign)


def test_a_core_with_positions_needs_queries_without_input():
  config = perceiver_stream.config("stream_perceiver/nano_positions")
  assert isinstance(config.core, PositionedConfig)
  with pytest.raises(ValueError, match="set bottleneck.condition_queries_on_input=False"):
    dataclasses.replace(config, bottleneck=BottleneckConfig())
