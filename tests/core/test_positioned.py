"""Latents with positions: without any learning they follow a moving image; what resets and holds them."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_close, shaken

from perceiver_stream.core import CoreInputs, PositionedConfig, positioned
from perceiver_stream.core.positioned import initial_positions
from perceiver_stream.nn import FramePair, Precision, coordinates, local_motion

SIDE, TICKS, ROWS = 32, 6, 2
LATENTS, PLACED = 32, 24
GRID = coordinates((4, 4))


def config(num: int = LATENTS, **changes) -> PositionedConfig:
  sizes = {"latent_dim": 8, "num_heads": 2, "global_share": 0.25, "patch": 5, "wide_reach": 6}
  return PositionedConfig(num_latents=num, **(sizes | changes))


@functools.cache
def build(num: int = LATENTS, compute: str = "float32", **changes):
  """Returns initial_state, unroll and latents of a core; each takes parameters."""

  def functions():
    core = positioned(config(num, **changes), Precision(compute=compute), name="core")
    unroll = lambda inputs, state: hk.dynamic_unroll(core, inputs, state)  # noqa: E731
    init = lambda inputs: unroll(inputs, core.initial_state(ROWS))  # noqa: E731
    return init, (lambda: core.initial_state(ROWS), unroll, core.latents)

  transformed = hk.multi_transform(functions)
  apply = [jax.jit(lambda p, *a, f=f: f(p, None, *a)) for f in transformed.apply]
  return jax.jit(transformed.init), *apply


@functools.cache
def texture(seed: int = 0, side: int = 2 * SIDE) -> np.ndarray:
  """Returns a smooth random image, float32 `[side, side, 3]` in [0, 1]."""
  noise = np.random.default_rng(seed).normal(size=(side, side, 3))
  for axis in (0, 1):
    noise = sum(np.roll(noise, i, axis) for i in range(-2, 3))
  return (0.5 + 0.2 * noise / noise.std()).clip(0, 1).astype(np.float32)


def moving(step=(1, -1), ticks: int = TICKS) -> np.ndarray:
  """Returns frames `[T, B, H, W, 3]` whose content moves by `step` (y, x) pixels a tick."""
  start, image = SIDE // 2, texture()
  corners = [(start - step[0] * t, start - step[1] * t) for t in range(ticks)]
  frames = np.stack([image[y : y + SIDE, x : x + SIDE] for y, x in corners])
  return np.stack([frames, frames], axis=1)


def inputs_of(frames, *, observed=None, first=None, cast=jnp.float32) -> CoreInputs:
  """Returns inputs `[T, B, ...]` with tokens of the frames' mean colours."""
  ticks = len(frames)
  observed = jnp.asarray(np.ones((ticks, ROWS), bool) if observed is None else observed)
  first = np.zeros((ticks, ROWS), bool) if first is None else first
  newest = jnp.asarray(frames)
  previous = jnp.concatenate([newest[:1], newest[:-1]])
  flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
  flow = lambda a, b: local_motion(flat(a), flat(b))[..., :2].reshape(*a.shape[:4], 2)  # noqa: E731
  pair = FramePair(previous, newest, flow(newest, previous), flow(previous, newest), observed)
  tokens = newest.reshape(ticks, ROWS, 4, SIDE // 4, 4, SIDE // 4, 3).mean((3, 5))
  tokens = tokens.reshape(ticks, ROWS, 16, 3).astype(cast)
  places = jnp.broadcast_to(jnp.asarray(GRID, jnp.float32), (ticks, ROWS, 16, 2))
  return CoreInputs(tokens, is_first=jnp.asarray(first), positions=places, frames=pair)


def run(frames, params=None, num: int = LATENTS, changes=None, **options):
  """Returns parameters, the states of all ticks and the last; ticks are unrolled `TICKS` at a time."""
  init, initial, unroll, _ = build(num, **(changes or {}))
  inputs = inputs_of(frames, **options)
  parts = [
    jax.tree.map(lambda x, at=at: x[at : at + TICKS], inputs) for at in range(0, len(frames), TICKS)
  ]
  params = init(jax.random.key(0), parts[0]) if params is None else params
  state, found = initial(params), []
  for part in parts:
    states, state = unroll(params, part, state)
    found.append(states)
  return params, jax.tree.map(lambda *x: jnp.concatenate(x), *found), state


def pixels(position) -> np.ndarray:
  return (np.asarray(position) + 1) * SIDE / 2 - 0.5


def inner(position, margin: float = 8.0) -> np.ndarray:
  """Returns the latents of the first row whose place stays away from the edge."""
  at = pixels(position[0, 0])
  return ((at > margin) & (at < SIDE - 1 - margin)).all(-1)


@pytest.mark.parametrize("step", [(1, -1), (0, 1), (-1, 0)])
def test_untrained_positions_move_with_a_shifted_image(step):
  _, states, _ = run(moving(step))
  keep = inner(states.position)
  assert keep.sum() >= 4
  moved = pixels(states.position[-1, 0]) - pixels(states.position[0, 0])
  error = np.abs(moved - np.asarray(step) * (TICKS - 1))[keep]
  assert np.median(error) < 0.3 and np.mean(error.max(-1) < 0.75) > 0.8
  assert np.mean(states.visible[-1, 0][keep] > 0) > 0.8


def test_untrained_it_tracks_far_better_than_a_static_guess():
  ticks = TICKS
  _, states, _ = run(moving((1, 1), ticks))
  keep = inner(states.position, 4.0)
  path = pixels(states.position[:, 0]) - pixels(states.position[:1, 0])
  truth = np.arange(ticks)[:, None, None] * np.ones(2)
  stays = (pixels(states.position[0, 0]) + ticks < SIDE - 4).all(-1) & keep
  error = np.linalg.norm(path - truth, axis=-1)[:, stays]
  static = np.linalg.norm(np.broadcast_to(truth, path.shape), axis=-1)[:, stays]
  assert stays.sum() >= 5 and error.mean() < 0.1 * static.mean()


def test_a_still_image_moves_nothing_and_confidence_stays():
  _, states, last = run(moving((0, 0), 12))
  np.testing.assert_allclose(states.position[0], last.position, atol=2e-3)
  assert (last.visible > 0).all() and (last.confidence > 2).all()


def test_what_is_covered_waits_unsure_and_is_seen_again():
  frames = moving((0, 0), 12).copy()
  frames[4:8, 0] = 0.5
  _, states, last = run(frames)
  hidden = states.confidence[3:8, 0]
  assert (np.diff(hidden, axis=0) < 0).all() and (states.visible[4:8, 0] < 0).all()
  assert (states.visible[4:8, 1] > 0).all()
  np.testing.assert_allclose(states.position[3, 0], states.position[7, 0], atol=2e-3)
  assert (last.visible[0] > 0).all()


def test_what_comes_back_elsewhere_is_found_by_the_wide_search():
  here, there = moving((0, 0)), moving((1, 1), 2 * TICKS)
  frames = np.concatenate([here, here]).copy()
  frames[3:6] = 0.5
  frames[6:] = there[5]  # five pixels down and right
  _, states, last = run(frames)
  keep = inner(states.position)
  moved = pixels(last.position[0]) - pixels(states.position[2, 0])
  found = np.abs(moved - 5).max(-1) < 0.5
  assert np.mean(found[keep]) > 0.8 and (last.visible[0][keep & found] > 0).all()
  _, states, last = run(frames, changes={"num_wide": 0})
  moved = pixels(last.position[0]) - pixels(states.position[2, 0])
  assert np.mean((np.abs(moved - 5).max(-1) < 0.5)[keep]) < 0.3


def test_a_missing_frame_holds_the_state_whatever_it_contains():
  observed = np.ones((TICKS, ROWS), bool)
  observed[2:4, 0] = False
  frames = moving((0, 1))
  params, states, _ = run(frames, observed=observed)
  for name in ("position", "velocity", "visible", "birth", "slow"):
    one, two = (getattr(states, name)[t, 0] for t in (1, 3))
    np.testing.assert_array_equal(one, two)
  assert (np.diff(states.confidence[1:4, 0], axis=0) < 0).all()
  np.testing.assert_array_equal(states.age[:, 0, 0], np.arange(1, TICKS + 1))
  inputs = inputs_of(frames, observed=observed)
  broken = inputs.frames._replace(
    **{n: getattr(inputs.frames, n).at[2:4, 0].set(jnp.nan) for n in ("newest", "forward")}
  )
  _, initial, unroll, _ = build()
  again, _ = unroll(params, inputs._replace(frames=broken), initial(params))
  assert_close(states, again, atol=0)


def test_nothing_starts_before_the_first_frame():
  observed = np.ones((TICKS, ROWS), bool)
  observed[:2, 0] = False
  _, states, _ = run(moving(), observed=observed)
  assert (states.age[:3, 0] == np.array([0, 0, 1])[:, None]).all()
  assert not states.birth[:2, 0].any() and states.birth[2, 0].any()
  np.testing.assert_array_equal(states.position[0, 0], states.position[2, 0])


def test_a_reset_starts_the_row_afresh():
  first = np.zeros((TICKS, ROWS), bool)
  first[3, 1] = True
  frames = moving()
  params, states, _ = run(frames)
  _, again, _ = run(frames, params, first=first)
  take = lambda tree, index: jax.tree.map(lambda x: x[index], tree)  # noqa: E731
  assert_close(take(states, np.s_[:, 0]), take(again, np.s_[:, 0]), atol=0)
  assert (again.age[3:, 1] == np.array([1, 2, 3])[:, None]).all()
  start = initial_positions(PLACED)
  np.testing.assert_allclose(again.position[3, 1], start, atol=1e-6)


def test_a_latent_can_be_started_anywhere():
  frames = moving((0, 1))
  _, initial, unroll, _ = build()
  params, _, last = run(frames)
  start = jnp.zeros((ROWS, PLACED), bool).at[0, 4].set(True)
  place = jnp.full((ROWS, PLACED, 2), -0.25)
  state = last.restart(start, place)
  states, _ = unroll(params, inputs_of(frames), state)
  after = jax.tree.map(lambda x: x[0], states)
  np.testing.assert_allclose(after.position[0, 4], [-0.25, -0.25])
  assert after.age[0, 4] == 1 and after.age[0, 3] == TICKS + 1
  assert after.visible[0, 4] > 0 and not np.allclose(after.birth[0, 4], last.birth[0, 4])


def test_latents_with_positions_are_interchangeable():
  frames = moving()
  params, _, last = run(frames)
  params = shaken(params, 0.05)
  _, initial, unroll, _ = build()
  order = np.random.default_rng(0).permutation(PLACED)
  inputs = inputs_of(frames)
  mixed = {n: x[:, order] for n, x in last._asdict().items() if n != "latents"}
  mixed["latents"] = jnp.concatenate([last.latents[:, order], last.latents[:, PLACED:]], axis=1)
  one, _ = unroll(params, inputs, last)
  two, _ = unroll(params, inputs, type(last)(**mixed))
  np.testing.assert_allclose(one.position[:, :, order], two.position, atol=2e-3)
  np.testing.assert_allclose(one.latents[:, :, order], two.latents[:, :, :PLACED], atol=2e-3)
  np.testing.assert_allclose(one.latents[:, :, PLACED:], two.latents[:, :, PLACED:], atol=2e-3)


@pytest.mark.parametrize(("num", "start"), [(4, "grid"), (23, "grid"), (12, "random")])
def test_parameters_fit_any_number_of_latents_and_any_start(num, start):
  params, _, _ = run(moving())
  changes = {"start": start}
  again, states, last = run(moving(), num=num, changes=changes)
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, again)
  _, states, last = run(moving(), shaken(params, 0.05), num=num, changes=changes)
  assert last.latents.shape == (ROWS, num, 8)
  assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(states))


def test_gradients_reach_all_that_is_learned_and_none_passes_through_positions():
  frames = moving()
  params, _, last = run(frames)
  _, initial, unroll, latents = build()
  inputs = inputs_of(frames)

  def loss(params, state):
    starts = [state, initial(params)]
    found = [latents(params, unroll(params, inputs, start)[0]) for start in starts]
    return sum(jnp.sum(jnp.square(x - 0.3)) for x in found)

  on_params, on_state = jax.jit(jax.grad(loss, (0, 1), allow_int=True))(shaken(params), last)
  for path, gradient in jax.tree_util.tree_leaves_with_path(on_params):
    assert np.isfinite(gradient).all() and np.any(gradient), jax.tree_util.keystr(path)
  assert not np.any(on_state.position) and not np.any(on_state.velocity)
  assert np.any(on_state.latents)


def test_untrained_corrections_are_zero_and_learned_ones_move_positions():
  frames = moving()
  params, states, _ = run(frames)
  output = params["core/judge_output"]
  assert not np.any(output["w"]) and not np.any(output["b"])
  params["core/judge_output"]["b"] = output["b"].at[6:8].set(1.0)  # the offset, (y, x)
  _, pushed, _ = run(frames, params)
  assert (pushed.position[1] > states.position[1] + 0.5 / SIDE).all()


def test_bfloat16_tracks_alike_and_keeps_float32_states():
  frames = moving()
  params, states, _ = run(frames)
  _, initial, unroll, _ = build(compute="bfloat16")
  rough, _ = unroll(params, inputs_of(frames, cast=jnp.bfloat16), initial(params))
  for name, value in rough._asdict().items():
    assert value.dtype == (jnp.int32 if name == "age" else jnp.float32), name
  np.testing.assert_allclose(rough.position, states.position, atol=1e-4)
  np.testing.assert_allclose(rough.latents, states.latents, atol=0.25)


def test_the_latent_array_shows_positions_and_zeros_where_there_are_none():
  params, _, last = run(moving())
  _, _, _, latents = build()
  found = latents(params, last)
  assert found.shape == (ROWS, LATENTS, 8 + 6)
  np.testing.assert_array_equal(found[:, :PLACED, 8:10], last.position)
  assert not found[:, PLACED:, 8:].any() and found[:, PLACED:, :8].any()


@pytest.mark.parametrize("num", [1, 2, 7, 12, 256])
def test_initial_positions_cover_the_image(num):
  grid = initial_positions(num)
  assert grid.shape == (num, 2) and np.abs(grid).max() < 1
  np.testing.assert_allclose(grid.mean(0), 0, atol=0.1)
  apart = np.linalg.norm(grid[:, None] - grid[None], axis=-1) + 9 * np.eye(num)
  assert num == 1 or apart.min() > 1.2 / num**0.5
  assert np.abs(initial_positions(num, "random")).max() <= 1


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"start": "centre"}, r"start='centre' is not one of \('grid', 'random'\)"),
    ({"patch": 4}, "patch=4 is even; use an odd side"),
    ({"global_share": 1.0}, "global_share=1.0 leaves none of 32 latents a position"),
  ],
)
def test_configs_that_contradict_themselves_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    config(**changes).validate()
