"""Trackers: slots are independent, can be used again, and cost no second compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import shaken

from perceiver_stream.models import point_readout
from perceiver_stream.models.point_readout import Config, Features, TrackCommands

ROWS, SLOTS, TICKS, SIZE = 2, 4, 5, 16
KINDS = {
  "points": Config(dim=16, num_heads=2),
  "latents_only": Config(dim=16, num_heads=2, use_frames=False),
  "boxes": Config(dim=16, num_heads=2, num_layers=2, follows="boxes"),
}


def made(config):
  """Returns a tracker with shaken parameters, what it sees, and orders for all slots."""
  rng = np.random.default_rng(0)
  real = lambda *shape: jnp.asarray(rng.uniform(size=shape), jnp.float32)  # noqa: E731
  frames = [real(TICKS, ROWS, SIZE, SIZE, 3) for _ in range(2)]
  sight = Features(real(TICKS, ROWS, 6, 8), *frames)
  tracker = point_readout.build(config)
  params = shaken(tracker.init(jax.random.PRNGKey(0), at(sight, 0)), by=0.2)
  channels = point_readout.SHAPES[config.follows]
  start = np.zeros((TICKS, ROWS, SLOTS), bool)
  start[0, :, :2] = start[2, :, 2] = True
  orders = TrackCommands(
    jnp.asarray(start), real(TICKS, ROWS, SLOTS, channels), jnp.zeros_like(jnp.asarray(start))
  )
  return tracker, params, sight, orders


def at(tree, tick):
  return jax.tree.map(lambda x: x[tick], tree)


@pytest.fixture(params=list(KINDS), scope="module")
def kind(request):
  return made(KINDS[request.param])


def run(kind, orders=None, sight=None):
  tracker, params, seen, ordered = kind
  state = tracker.initial_state(ROWS, SLOTS)
  tracks, _ = tracker.unroll(params, state, sight or seen, orders or ordered)
  return jax.device_get(tracks)


def test_unrolling_is_stepping(kind):
  tracker, params, sight, orders = kind
  state, whole = tracker.initial_state(ROWS, SLOTS), run(kind)
  for tick in range(TICKS):
    tracks, state = tracker.step(params, state, at(sight, tick), at(orders, tick))
    for one, other in zip(tracks, at(whole, tick), strict=True):
      np.testing.assert_allclose(one, other, atol=2e-3)


def test_a_slot_starts_where_it_is_told_and_free_slots_say_nothing(kind):
  _, _, _, orders = kind
  tracks = run(kind)
  np.testing.assert_allclose(tracks.position[0, :, :2], orders.position[0, :, :2])
  np.testing.assert_allclose(tracks.position[2, :, 2], orders.position[2, :, 2])
  assert np.isnan(tracks.position[:2, :, 2]).all() and np.isnan(tracks.position[:, :, 3]).all()
  assert not tracks.seen(0.0)[:, :, 3].any() and tracks.seen(0.0)[0, :, :2].all()
  inside = tracks.position[~np.isnan(tracks.position)]
  assert inside.min() >= 0 and inside.max() <= 1


def test_what_a_slot_says_does_not_depend_on_the_others(kind):
  _, _, _, orders = kind
  alone = orders._replace(start=orders.start.at[:, :, 1:].set(False))
  crowded = orders._replace(start=orders.start.at[0, :, 3].set(True))
  for changed in (alone, crowded):
    for one, other in zip(run(kind), run(kind, changed), strict=True):
      np.testing.assert_allclose(one[:, :, 0], other[:, :, 0], atol=1e-6)


def test_a_slot_given_up_is_free_and_can_be_used_again(kind):
  _, _, _, orders = kind
  stop = orders.stop.at[1, :, 0].set(True)
  again = orders.start.at[3, :, 0].set(True)
  position = run(kind, orders._replace(stop=stop, start=again)).position[:, :, 0]
  assert np.isnan(position[1:3]).all() and not np.isnan(position[[0, 3, 4]]).any()
  fresh = orders._replace(start=jnp.zeros_like(orders.start).at[3, :, 0].set(True))
  np.testing.assert_allclose(run(kind, fresh).position[3:, :, 0], position[3:], atol=1e-6)


def test_orders_do_not_compile_again(kind):
  tracker, params, sight, orders = kind
  state = tracker.initial_state(ROWS, SLOTS)
  tracker.step(params, state, at(sight, 0), at(orders, 0))
  before = tracker.step._cache_size()
  for tick in range(TICKS):
    _, state = tracker.step(params, state, at(sight, tick), at(orders, tick))
  assert tracker.step._cache_size() == before


def test_it_listens_to_the_latents_and_they_can_learn_from_it(kind):
  tracker, params, sight, orders = kind
  other = sight._replace(latents=sight.latents[:, :, ::-1] * 2)
  assert not np.allclose(run(kind).visible, run(kind, sight=other).visible)
  state = tracker.initial_state(ROWS, SLOTS)
  total = lambda s: jnp.sum(tracker.unroll(params, state, s, orders)[0].visible)  # noqa: E731
  assert np.all(np.any(jax.grad(total)(sight).latents != 0, axis=(1, 2, 3)))


def test_only_with_frames_does_it_see_frames():
  kind = made(KINDS["latents_only"])
  blind = kind[2]._replace(last=None, previous=None)
  np.testing.assert_array_equal(run(kind).visible, run(kind, sight=blind).visible)
  tracker, params, _, orders = made(KINDS["points"])
  with pytest.raises(ValueError, match="state has no frames; use use_frames=False"):
    tracker.unroll(params, tracker.initial_state(ROWS, SLOTS), blind, orders)


def test_untrained_it_follows_a_picture_that_moves():
  rng = np.random.default_rng(0)
  coarse = np.repeat(np.repeat(rng.uniform(size=(12, 12, 3)), 8, 0), 8, 1)
  kernel = np.ones(9) / 9
  for axis in (0, 1, 0, 1):
    coarse = np.apply_along_axis(lambda v: np.convolve(v, kernel, "same"), axis, coarse)
  clip = np.stack([coarse[16:64, 32 - t : 80 - t] for t in range(6)])[:, None].astype(np.float32)
  sight = Features(jnp.zeros((5, 1, 4, 8)), jnp.asarray(clip[1:]), jnp.asarray(clip[:-1]))
  tracker = point_readout.build(Config(dim=16, num_heads=2))
  params = tracker.init(jax.random.PRNGKey(0), at(sight, 0))
  start = jnp.zeros((5, 1, 1), bool).at[0].set(True)
  orders = TrackCommands(start, jnp.full((5, 1, 1, 2), 0.5), jnp.zeros_like(start))
  tracks, _ = tracker.unroll(params, tracker.initial_state(1, 1), sight, orders)
  x, y = np.moveaxis(np.asarray(tracks.position[:, 0, 0]) * 48, -1, 0)
  np.testing.assert_allclose(x - x[0], np.arange(5), atol=0.6)
  np.testing.assert_allclose(y, 24, atol=0.6)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"follows": "lines"}, "follows='lines'; use one of"),
    ({"dim": 30}, "dim=30 is not a multiple of num_heads=4"),
  ],
)
def test_configs_that_contradict_themselves(options, message):
  with pytest.raises(ValueError, match=message):
    point_readout.build(Config(**options))
