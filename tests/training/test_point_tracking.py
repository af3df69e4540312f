"""Tracks are learnt from frozen states: who is followed since when, what counts, what is learnt."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import perceiver_stream
from perceiver_stream.evaluation import datasets, scoring
from perceiver_stream.inference import tracking_methods
from perceiver_stream.models import point_readout
from perceiver_stream.nn.boxes import box_edges, boxes_of
from perceiver_stream.training.objectives.point_tracking import Config, PointTracking, queries
from perceiver_stream.training.optimizers import OptimizerConfig, make_optimizer

SIDE, SLOTS = 16, 3


READOUT = point_readout.Config(dim=16, num_heads=2)


@pytest.fixture(scope="module")
def objective():
  model = perceiver_stream.build("stream_perceiver/nano")
  pixels = {"pixels": model.modalities["pixels"].config}
  model = perceiver_stream.build(dataclasses.replace(model.config, modalities=pixels))
  return PointTracking(model, Config(window=6, num_slots=SLOTS, readout=READOUT))


@pytest.fixture(scope="module")
def watched(objective):
  return objective.learner


def windows(num, ticks=6, seed=0):
  """Yields windows of one stream: points that drift, are hidden at times, and change at tick 9."""
  rng = np.random.default_rng(seed)
  place, speed = rng.uniform(4, 12, (SLOTS, 2)), rng.uniform(-0.3, 0.3, (SLOTS, 2))
  for number in range(num):
    at = np.arange(number * ticks, (number + 1) * ticks)
    points = place + speed * (at[:, None, None] % 9)
    yield {
      "pixels": rng.integers(0, 255, (ticks, 1, SIDE, SIDE, 3)).astype(np.uint8),
      "points": points[:, None].astype(np.float32),
      "points_visible": ((at[:, None] + np.arange(SLOTS)) % 4 > 0)[:, None],
      "points_id": np.broadcast_to(
        np.where(at < 9, 0, 10)[:, None, None], (ticks, 1, SLOTS)
      ).astype(np.int32)
      + np.arange(SLOTS, dtype=np.int32),
      "is_first": (at == 0)[:, None],
    }


def whole(num=3):
  return {k: np.concatenate([w[k] for w in windows(num)]) for k in next(windows(1))}


def asked(window):
  truth = jnp.asarray(window["points"]) / SIDE
  nobody = jnp.full((1, SLOTS), -1, jnp.int32)
  names = (jnp.asarray(window["points_visible"]), jnp.asarray(window["points_id"]))
  return queries(window, truth, *names, nobody, jnp.zeros((1, SLOTS, 2)))


def test_a_point_starts_where_it_is_first_seen_and_ends_when_its_slot_changes():
  window = whole()
  orders, ids, start = asked(window)
  begins = np.asarray(orders.start)[:, 0]
  for slot in range(SLOTS):
    seen = np.flatnonzero(window["points_visible"][:, 0, slot])
    expected = [seen[seen < 9][0], seen[seen >= 9][0]]
    assert np.flatnonzero(begins[:, slot]).tolist() == expected
    assert np.asarray(ids)[expected[1], 0, slot] == 10 + slot
    np.testing.assert_allclose(start[-1, 0, slot], window["points"][expected[1], 0, slot] / SIDE)
    if expected[1] > 9:  # hidden when its slot changed: the old one has ended
      assert np.asarray(orders.stop)[9, 0, slot] and np.asarray(ids)[9, 0, slot] == -1


def test_the_tick_of_the_query_does_not_count(watched, objective):
  window = next(windows(1, ticks=1))
  params = watched.init_params(jax.random.PRNGKey(0), {"pixels": window["pixels"][0]})
  loss, aux = objective.loss(params, watched.initial_state(params), window)
  assert float(loss) == 0 and not aux.scores["points@0"].valid.any()


def test_learning_changes_the_tracker_and_beats_a_static_point(watched, objective):
  first = next(windows(1))
  params = watched.init_params(jax.random.PRNGKey(0), {"pixels": first["pixels"][0]})
  frozen = jax.tree.map(np.array, watched.params)
  optimizer = make_optimizer(OptimizerConfig(learning_rate=3e-3, warmup_steps=1))
  memory = optimizer.init(params)

  @jax.jit
  def learn(params, memory, state, window):
    (loss, aux), grads = jax.value_and_grad(objective.loss, has_aux=True)(params, state, window)
    updates, memory = optimizer.update(grads, memory, params)
    return optax.apply_updates(params, updates), memory, loss, aux

  losses = []
  for _ in range(12):
    state = watched.initial_state(params)
    for window in windows(3):
      params, memory, loss, aux = learn(params, memory, state, window)
      state = aux.next_state
    losses.append(float(loss))
  assert losses[-1] < 0.7 * losses[0]
  jax.tree.map(np.testing.assert_array_equal, frozen, jax.tree.map(np.array, watched.params))
  score = aux.scores["points@0"]
  assert (
    score.valid.any() and np.isfinite(score.model).all() and (score.baselines["copy"] > 0).any()
  )


def test_carrying_the_state_over_windows_is_one_long_window(watched, objective):
  params = watched.init_params(jax.random.PRNGKey(0), {"pixels": next(windows(1))["pixels"][0]})
  loss = jax.jit(objective.loss)
  _, long = loss(params, watched.initial_state(params), whole())
  state, parts = watched.initial_state(params), []
  for window in windows(3):
    _, aux = loss(params, state, window)
    state = aux.next_state
    parts.append(aux.scores["points@0"])
  for name, expected in long.scores["points@0"].errors().items():
    joined = np.concatenate([p.errors()[name] for p in parts])
    np.testing.assert_allclose(joined, expected, rtol=1e-4)
  np.testing.assert_array_equal(state.ids, long.next_state.ids)


def test_configs_that_contradict_themselves():
  with pytest.raises(ValueError, match="window=0 ticks; use at least 1"):
    Config(window=0).validate()
  with pytest.raises(ValueError, match="num_slots=0; use at least 1"):
    Config(num_slots=0).validate()


def test_slots_and_points_must_be_as_many(watched, objective):
  window = next(windows(1))
  window["points"] = window["points"][:, :, :2]
  with pytest.raises(ValueError, match="the stream has 2 points and num_slots=3; make them equal"):
    objective.loss({}, watched.initial_state({}), window)


def test_boxes_are_those_around_the_labels():
  picture = np.zeros((1, 1, 4, 8), np.int32)
  picture[0, 0, 1:3, 2:7] = 2
  box, visible = boxes_of(jnp.asarray(picture), 3)
  assert visible[0, 0].tolist() == [False, True, False]
  np.testing.assert_allclose(box[0, 0, 1], [4.5 / 8, 0.5, 5 / 8, 0.5])
  assert not np.any(np.asarray(box)[0, 0, [0, 2]])
  edges, _ = box_edges(jnp.asarray(picture), 3)
  np.testing.assert_allclose(edges[0, 0, 1], [1 / 4, 2 / 8, 3 / 4, 7 / 8])


def test_boxes_are_followed_by_the_same_objective(objective):
  readout = dataclasses.replace(READOUT, follows="boxes", use_frames=False)
  boxes = PointTracking(objective.learner.model, Config(window=4, num_slots=2, readout=readout))
  assert boxes.needs == ("pixels", "segmentation")
  window = {"pixels": np.zeros((4, 1, SIDE, SIDE, 3), np.uint8)}
  window["segmentation"] = np.zeros((4, 1, SIDE, SIDE), np.int32)
  for tick in range(4):
    window["segmentation"][tick, 0, 4:9, tick : tick + 5] = 1
  params = boxes.learner.init_params(jax.random.PRNGKey(0), {"pixels": window["pixels"][0]})
  state = boxes.learner.initial_state(params)
  loss, aux = boxes.loss(params, state, window)
  score = aux.scores["boxes@0"]
  assert np.isfinite(loss) and score.valid[:, 0].tolist() == [False, True, True, True]
  moved = np.arange(1, 4) * 256 / SIDE  # a box that stays is left behind a pixel a tick
  np.testing.assert_allclose(score.baselines["copy"][1:, 0], moved, rtol=1e-3)


def test_as_a_method_it_answers_all_queries_whatever_the_slots_and_the_length(watched):
  params = watched.init_params(jax.random.PRNGKey(0), {"pixels": next(windows(1))["pixels"][0]})
  frames = whole(2)["pixels"][:11, 0]
  rng = np.random.default_rng(1)
  asked = np.column_stack([rng.integers(0, 11, 7), rng.uniform(1, 15, (7, 2))])
  method = tracking_methods.as_method(watched, params, chunk=4)
  tracks, hidden = method(frames, asked)
  assert tracks.shape == (7, 11, 2) and hidden.shape == (7, 11)
  for query, track in zip(asked, tracks, strict=True):
    np.testing.assert_allclose(track[int(query[0])], query[:0:-1], atol=1e-4)
  alone, _ = method(frames, asked[5:6])
  np.testing.assert_allclose(alone[0], tracks[5], atol=1e-3)
  longer, _ = tracking_methods.as_method(watched, params, chunk=8)(frames, asked)
  np.testing.assert_allclose(longer, tracks, atol=1e-2)
  both, _ = tracking_methods.as_method(watched, params, both_ways=True, chunk=4)(frames, asked)
  after = np.arange(11) >= asked[:, :1]
  np.testing.assert_allclose(both[after], tracks[after], atol=1e-3)
  assert not np.isnan(both).any()


def test_boxes_are_followed_as_a_method_of_scoring(watched):
  tracker = point_readout.build(dataclasses.replace(READOUT, follows="boxes"))
  both = dataclasses.replace(watched, readout=tracker, num_slots=2)
  params = both.init_params(jax.random.PRNGKey(0), {"pixels": next(windows(1))["pixels"][0]})
  frames = whole(2)["pixels"][:11, 0]
  asked = np.asarray([[0, 0.1, 0.2, 0.5, 0.4], [6, 0.5, 0.3, 0.9, 0.8], [3, 0.0, 0.0, 0.25, 1.0]])
  method = tracking_methods.as_box_method(both, params, chunk=4)
  found = method(frames, asked)
  assert found.shape == (3, 11, 4) and np.isfinite(found).all()
  for (t, *box), track in zip(asked, found, strict=True):
    np.testing.assert_allclose(track[: int(t) + 1], np.tile(box, (int(t) + 1, 1)), atol=1e-6)
  np.testing.assert_allclose(method(frames, asked[1:2])[0], found[1], atol=1e-5)
  clip = datasets.BoxClip(frames, found, np.arange(11) >= asked[:, :1], "")
  assert scoring.boxes(method, [clip])["IoU"] == pytest.approx(1, abs=1e-3)


def test_what_cannot_be_answered_is_refused_before_the_model_runs(watched):
  method = tracking_methods.as_method(watched, {})
  frames = np.zeros((5, SIDE, SIDE, 3), np.uint8)
  for query, message in (
    ([5, 8, 8], "at a time that is not there, for a video of 5 frames"),
    ([0, np.nan, 8], "is not finite"),
    ([0, 8, SIDE + 2], "outside the image of 16 x 16"),
  ):
    with pytest.raises(ValueError, match=f"^point tracker: query 0 .*{message}"):
      method(frames, np.asarray([query], np.float64))
