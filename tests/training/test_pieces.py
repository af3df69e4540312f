"""Pieces: tracks of generated clips are those of their content, and positions learn from them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_init import with_quick_init

from perceiver_stream import zoo
from perceiver_stream.nn import sample_bilinear
from perceiver_stream.training import objectives
from perceiver_stream.training.moving_pieces import generate
from perceiver_stream.training.objectives import pieces
from perceiver_stream.types import valid_key

SIDE, TICKS = 32, 6


def smooth(seed: int, num: int, side: int = SIDE) -> np.ndarray:
  """Returns smooth random images `[num, side, side, 3]` in [0, 1]."""
  noise = np.random.default_rng(seed).normal(size=(num, side, side, 3))
  for axis in (1, 2):
    noise = sum(np.roll(noise, i, axis) for i in range(-2, 3))
  return (0.5 + 0.2 * noise / noise.std()).clip(0, 1).astype(np.float32)


@functools.cache
def made(num_pieces: int):
  """Returns clips made of images, and the colours at the tracks of each tick."""
  place = np.random.default_rng(1).uniform(2, SIDE - 3, (40, 2)).astype(np.float32)
  images = jnp.asarray(smooth(0, num_pieces + 1))
  one = lambda key: generate(key, images, jnp.asarray(place), ticks=TICKS, max_speed=3.0)  # noqa: E731
  clips = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 4))
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), clips)
  at = sample_bilinear(flat.frames, flat.tracks[..., 0], flat.tracks[..., 1])
  stay = sample_bilinear(flat.frames, *(jnp.tile(place[None, :, i], (len(at), 1)) for i in (0, 1)))
  by_clip = lambda x: np.asarray(x).reshape(4, TICKS, *x.shape[1:])  # noqa: E731
  return clips, by_clip(at), by_clip(stay), place


@pytest.mark.parametrize("num_pieces", [0, 3])
def test_colours_move_along_the_tracks_where_points_are_visible(num_pieces):
  clips, at, stay, place = made(num_pieces)
  np.testing.assert_allclose(
    clips.tracks[:, 0], np.broadcast_to(place, (4, *place.shape)), atol=1e-4
  )
  assert np.all(clips.visible[:, 0]) and not np.any(clips.visible & ~clips.inside)
  seen = np.asarray(clips.visible)[:, 1:]
  follows, stays = (np.abs(x[:, 1:] - at[:, :1])[seen].mean() for x in (at, stay))
  assert follows < 0.04 and stays > 0.07, (follows, stays)
  assert (np.mean(np.asarray(clips.inside & ~clips.visible)) > 0.01) == bool(num_pieces)


def test_covered_points_show_another_colour():
  clips, at, _, _ = made(3)
  covered = np.asarray(clips.inside & ~clips.visible)
  assert np.abs(at - at[:, :1])[covered].mean() > 0.1


@functools.cache
def learning(reservoir: int):
  """Returns an objective of a small model, and its parameters."""
  model = zoo.build("stream_perceiver/nano_positions")
  config = pieces.Config(window=2, reservoir=reservoir, clips=2, ticks=3, pieces=1)
  params = with_quick_init(model).init(jax.random.key(0), {"pixels": frames(0)[0]})
  return objectives.make(model, config), params


def test_points_start_at_random_positions_and_untrained_latents_follow_them():
  """Errors are those of the fixed rules: far below those of points that stay."""
  model = zoo.build("stream_perceiver/nano_positions")
  learner = objectives.make(
    model, pieces.Config(window=2, clips=4, ticks=3, pieces=0, max_speed=2.0)
  )
  params = learning(2)[1]
  begun = learner._start(jax.random.key(5), params, 6).latents.position
  assert not np.any(np.isclose(begun[0], begun[1])) and np.abs(begun).max() <= 1
  _, aux = jax.jit(learner.loss)(
    params, learner.initial_state(params, 3), {"pixels": frames(0)}, jax.random.key(2)
  )
  score = aux.scores["positions@0"]
  assert score.model.mean() < 0.6 * score.baselines["static"].mean()


@functools.cache
def step():
  return jax.jit(learning(2)[0].loss_and_grad)


def frames(seed: int) -> np.ndarray:
  """Returns a window `[2, 3, 16, 16, 3]` of three rows."""
  return (255 * smooth(seed, 6, 16)).astype(np.uint8).reshape(2, 3, 16, 16, 3)


def test_every_correction_of_positions_gets_a_gradient():
  learner, params = learning(2)
  state = learner.initial_state(params, 3)
  window = {"pixels": frames(0), valid_key("pixels"): np.ones((2, 3), bool)}
  (loss, aux), gradient = step()(params, state, window, jax.random.key(1))
  assert np.isfinite(loss) and all(np.all(np.isfinite(x)) for x in jax.tree.leaves(gradient))
  (judge,) = [g for n, g in gradient.items() if n.endswith("judge_output")]
  # The last output, the rate of the slow key, acts on later ticks only; keys carry no gradient.
  assert np.all(np.any(judge["w"][:, :-1], axis=0))
  score = aux.scores["positions@0"]
  assert score.model.shape == score.baselines["static"].shape == (2, 3) and np.all(score.valid)


def test_the_reservoir_is_bounded_and_keeps_offered_frames_alone():
  learner, _ = learning(2)
  keep = jax.jit(learner._kept)
  state = learner.initial_state({}, 3)
  offered = smooth(3, 30, 16).reshape(10, 3, 16, 16, 3)
  valid = np.ones((10, 3), bool)
  valid[1::2, 1], valid[:, 2] = False, False
  for i in range(10):
    state = keep(jax.random.key(i), state, jnp.asarray(offered[i]), jnp.asarray(valid[i]))
  assert state.count.tolist() == [10, 5, 0] and not np.any(state.frames[2])
  for row in (0, 1):
    found = [
      int(np.argmin([np.abs(kept - x).max() for x in offered[:, row]]))
      for kept in state.frames[row]
    ]
    for kept, index in zip(state.frames[row], found, strict=True):
      np.testing.assert_array_equal(kept, offered[index, row])
    assert valid[found, row].all() and len(set(found)) == 2


def test_frames_that_were_not_observed_are_in_no_clip():
  """A row without an image counts nowhere, and what its frames hold reaches nothing."""
  learner, params = learning(2)
  valid = np.ones((2, 3), bool)
  valid[:, 1] = valid[0, 2] = False
  windows = []
  for fill in (0, 255):
    window = frames(0).copy()
    window[~valid] = fill
    windows.append({"pixels": window, valid_key("pixels"): valid})
  state = learner.initial_state(params, 3)
  ((one, aux), _), ((two, _), _) = (step()(params, state, w, jax.random.key(1)) for w in windows)
  assert one == two and aux.scores["positions@0"].valid.all(0).tolist() == [True, False, True]


def test_without_a_reservoir_nothing_is_kept():
  learner, params = learning(0)
  state = learner.initial_state(params, 3)
  args = params, state, {"pixels": frames(0)}, jax.random.key(1)
  assert jax.eval_shape(learner.loss, *args)[1].next_state == state == ()


@pytest.mark.parametrize(
  ("changes", "text"),
  [
    ({"clips": 0}, "clips=0 1 or more"),
    ({"reservoir": -1}, "reservoir=-1"),
    ({"max_speed": 0.1}, "use more than 0.1"),
    ({"window": 0}, "window=0"),
  ],
)
def test_sizes_are_checked(changes, text):
  with pytest.raises(ValueError, match=text):
    pieces.Config(**changes).validate()


def test_models_without_positions_are_refused():
  with pytest.raises(ValueError, match="pieces cannot train .*latents have no positions"):
    objectives.make(zoo.build("stream_perceiver/nano"), pieces.Config())
