"""The contract of every tracker with slots: each family's nano variant."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from trees import assert_close, shaken

from perceiver_stream.inference.slot_tracking import SlotTracker
from perceiver_stream.models.mapping import export_params
from perceiver_stream.models.point_readout import TrackCommands
from perceiver_stream.zoo import point_trackers
from perceiver_stream.zoo.summary import summarize

NANO = [name for name in point_trackers.names() if name.endswith("/nano")]
TICKS, ROWS, SLOTS = 5, 2, 3


@functools.cache
def built(name):
  tracker = point_trackers.build(name)
  return tracker, shaken(tracker.init(jax.random.key(0)))


@functools.cache
def frames_of(name):
  tracker = point_trackers.build(name)
  shape = (TICKS, ROWS, tracker.height, tracker.width, 3)
  return jax.random.uniform(jax.random.key(1), shape)


def commands(starts=(), stops=()):
  """Returns commands: `(tick, row, slot)` of starts and stops."""
  start, stop = (np.zeros((TICKS, ROWS, SLOTS), bool) for _ in range(2))
  for flags, given in ((start, starts), (stop, stops)):
    for at in given:
      flags[at] = True
  place = np.random.default_rng(0).uniform(0.2, 0.8, (1, ROWS, SLOTS, 2)).astype(np.float32)
  return TrackCommands(*jax.device_put((start, np.repeat(place, TICKS, 0), stop)))


def run(name, given, frames=None):
  tracker, params = built(name)
  state = tracker.initial_state(ROWS, SLOTS)
  return tracker.unroll(params, state, frames_of(name) if frames is None else frames, given)


SOME = ((0, 0, 0), (0, 1, 1), (2, 0, 1), (4, 0, 2))


@pytest.fixture(params=NANO)
def name(request):
  return request.param


def test_unroll_is_its_steps_with_queries_that_come_and_go(name):
  tracker, params = built(name)
  given = commands(SOME, stops=((3, 0, 0),))
  whole, last = run(name, given)
  state, outputs = tracker.initial_state(ROWS, SLOTS), []
  for t in range(TICKS):
    now = jax.tree.map(lambda x, t=t: x[t], given)
    output, state = tracker.step(params, state, frames_of(name)[t], now)
    outputs.append(output)
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *outputs)
  shown = ~np.isnan(whole.position[..., 0])
  np.testing.assert_array_equal(shown, ~np.isnan(stacked.position[..., 0]))
  np.testing.assert_allclose(whole.position[shown], stacked.position[shown], atol=1e-4)
  assert_close(last, state)
  assert tracker.step(params, state, frames_of(name)[0], now)[0].position.shape == (ROWS, SLOTS, 2)


def test_slots_are_free_before_their_query_and_after_it_stops(name):
  tracks, _ = run(name, commands(SOME, stops=((3, 0, 0),)))
  shown = ~np.isnan(np.asarray(tracks.position[..., 0]))
  expected = np.zeros_like(shown)
  expected[:3, 0, 0] = expected[:, 1, 1] = expected[2:, 0, 1] = expected[4:, 0, 2] = True
  np.testing.assert_array_equal(shown, expected)
  assert not np.any(tracks.visible & ~shown)
  assert np.all((tracks.certainty >= 0) & (tracks.certainty <= 1 + 1e-6))


def test_a_later_query_changes_nothing_before_it_and_rows_are_independent(name):
  few, _ = run(name, commands(SOME[:2]))
  more, _ = run(name, commands(SOME))
  for a, b in zip(few, more, strict=True):
    np.testing.assert_array_equal(a[:2], b[:2])
    np.testing.assert_allclose(a[:, 1], b[:, 1], atol=1e-5)
  other, _ = run(name, commands(SOME), frames_of(name).at[-1].set(0.5))
  for a, b in zip(more, other, strict=True):
    np.testing.assert_array_equal(a[:-1], b[:-1])


def test_a_slot_that_is_used_again_is_like_new(name):
  again, _ = run(name, commands(((0, 0, 0), (3, 0, 0)), stops=((2, 0, 0),)))
  fresh, _ = run(name, commands(((3, 0, 0),)))
  np.testing.assert_allclose(again.position[3:, 0, 0], fresh.position[3:, 0, 0], atol=1e-5)


def test_frames_of_another_size_are_refused(name):
  tracker, params = built(name)
  with pytest.raises(ValueError, match="tracker: frames .* expected .T, B."):
    tracker.unroll(params, tracker.initial_state(1, 1), jnp.zeros((1, 1, 3, 3, 3)), commands())


def test_files_come_back(name, tmp_path):
  tracker, params = built(name)
  path = tmp_path / "tracker.safetensors"
  point_trackers.save(path, tracker, params)
  assert point_trackers.is_tracker(path)
  loaded = point_trackers.load(path)
  assert loaded.tracker.config == tracker.config
  jax.tree.map(np.testing.assert_array_equal, loaded.params, params)


def test_published_names_come_back_and_missing_ones_are_listed(name, tmp_path):
  tracker, params = built(name)
  family = point_trackers.family(tracker.config)
  flat = export_params(params, family.rules(tracker.config))
  np.savez(tmp_path / "published.npz", **flat)
  save_file(flat, tmp_path / "torch.safetensors", {"format": "pt"})  # as torch writes it
  assert point_trackers.is_tracker(tmp_path / "torch.safetensors")
  changes = vars(tracker.config)  # not all sizes show in shapes
  loaded = point_trackers.load(tmp_path / "published.npz", **changes)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, params)
  gone = sorted(flat)[len(flat) // 2]
  del flat[gone]
  with pytest.raises(ValueError, match=f"1 missing: {gone} "):
    point_trackers.from_published(flat, "x", changes)


def test_chunks_of_a_video_of_another_size(name):
  tracker, params = built(name)
  rng = np.random.default_rng(0)
  video = rng.integers(0, 256, (7, 2 * tracker.height, 3 * tracker.width, 3), np.uint8)
  queries = np.array([[0, 4.5, 6.0], [3, 8.0, 2.5], [6, 1.0, 1.0]])
  follow = SlotTracker(tracker, params, queries, chunk=3)
  parts = [follow(video[at : at + 3]) for at in range(0, 7, 3)]
  tracks, visible, sure = (np.concatenate(x, axis=1) for x in zip(*parts, strict=True))
  assert tracks.shape == (3, 7, 2) and visible.shape == sure.shape == (3, 7)
  starts = np.argmax(~np.isnan(tracks[..., 0]), axis=1)
  np.testing.assert_array_equal(starts, queries[:, 0])
  with pytest.raises(ValueError, match="SlotTracker: 1 frames after 7"):
    follow(video[:1])


def test_trackers_are_summarised_and_nothing_else_has_their_names():
  found = summarize("tapnext/nano")
  assert found.parameters == sum(x.size for x in jax.tree.leaves(built("tapnext/nano")[1]))
  assert (found.weights, found.equals_released) == ("none", "no")
  assert found.state_bytes and found.inputs["pixels"] == (16, 16, 3)
  with pytest.raises(ValueError, match=r"there is no tracker 'tapnext/nan'. Did you mean"):
    point_trackers.config("tapnext/nan")
  with pytest.raises(TypeError, match=r"belongs to none of \['tapir', 'tapnext'\]"):
    point_trackers.family(dataclasses.make_dataclass("Config", [])())
