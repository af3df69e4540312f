"""Positions, identity and tables of latents, from states made by hand: nothing is compiled."""

import csv

import numpy as np
import pytest

from perceiver_stream import inference
from perceiver_stream.core.following import PositionedState
from perceiver_stream.inference.latents import extract_latents, write_table
from perceiver_stream.inference.model_loading import Loaded
from perceiver_stream.modalities import build, pixels
from perceiver_stream.models.latent_positions import LatentPositions
from perceiver_stream.models.recurrent import State

ROWS, LATENTS, TICKS = 2, 3, 4


def state_at(tick: int, restarted: int = -1) -> State:
  """Returns a state after so many ticks; latent 1 started again at the tick `restarted`."""
  age = np.full((ROWS, LATENTS), tick)
  if tick >= restarted >= 0:
    age[:, 1] = tick - restarted + 1
  place = np.zeros((ROWS, LATENTS, 2), np.float32)
  place[..., 0], place[..., 1] = -0.5, tick / 10  # y, x
  logit = np.tile(np.array([4.0, -4.0, 0.0], np.float32), (ROWS, 1))
  patch, content = np.zeros((ROWS, LATENTS, 3)), np.full((ROWS, LATENTS, 5), tick, np.float32)
  known = PositionedState(content, place, place / 10, logit, logit, patch, patch, age)
  return State(known, {}, ())


def stacked(states) -> State:
  known = [np.stack(x) for x in zip(*(s.latents for s in states), strict=True)]
  return State(PositionedState(*known), {}, ())


class Watched:
  """A model of one number, the tick, whose latent 1 restarts at tick 6."""

  modalities = {"pixels": build("pixels", pixels.Config(height=2, width=2, patch=1))}

  def initial_state(self, params, rows):
    return state_at(0)

  def observe(self, params, state, window):
    now = int(state.latents.age[0, 0])
    states = [state_at(now + i + 1, restarted=6) for i in range(len(window["pixels"]))]
    return stacked(states), states[-1]

  def latents(self, params, states):
    return states.latents.latents


class Windows:
  """An iterator of windows of `TICKS` ticks that can be stopped and continued."""

  def __init__(self, count: int):
    self.at, self.count = 0, count

  def __iter__(self):
    return self

  def __next__(self):
    if self.at == self.count:
      raise StopIteration
    self.at += 1
    times = (self.at - 1) * TICKS + np.arange(TICKS, dtype=np.float64)
    return {
      "pixels": np.zeros((TICKS, ROWS, 2, 2, 3), np.uint8),
      "timestamp_s": np.tile(times[:, None] / 10, (1, ROWS)),
    }

  def get_state(self):
    return self.at

  def set_state(self, state):
    self.at = state


def test_positions_are_shares_of_width_and_height():
  found = inference.positions(state_at(2))
  np.testing.assert_allclose(found.position, np.broadcast_to([0.6, 0.25], (ROWS, LATENTS, 2)))
  np.testing.assert_allclose(found.velocity[0, 0], [0.01, -0.025], atol=1e-7)
  assert found.visible[0].tolist() == [True, False, False]
  np.testing.assert_allclose(found.confidence[0], [0.982, 0.018, 0.5], atol=1e-3)
  with pytest.raises(ValueError, match="a State whose latents have no positions; use a model"):
    inference.positions(State(np.zeros((1, 2, 3)), {}, ()))


def test_an_identity_lasts_until_a_restart_and_is_never_given_twice():
  age = np.array([[0, 1], [1, 2], [2, 3], [3, 1], [4, 2]])[:, None]
  nothing = np.zeros((*age.shape, 2))
  ids = LatentPositions(nothing, nothing, age > 0, age / 1.0, age).identity(10)[:, 0]
  assert ids[:, 0].tolist() == [-1, 22, 22, 22, 22]
  assert ids[:, 1].tolist() == [21, 21, 21, 27, 27]


def extracted(folder, count: int):
  loaded = Loaded(Watched(), {}, None, "by hand")  # type: ignore[arg-type]
  return extract_latents(loaded, Windows(count), folder, windows_per_shard=2)


def test_shards_and_table_have_positions_and_identity(tmp_path):
  assert extracted(tmp_path / "latents", 3).ticks == 12
  shards = list(inference.read_shards(tmp_path / "latents"))
  assert [len(s["id"]) for s in shards] == [8, 4]
  ids = np.concatenate([s["id"] for s in shards])
  assert (ids[:, :, 0] == ids[0, 0, 0]).all() and len(np.unique(ids[:, 0, 1])) == 2
  assert write_table(tmp_path / "latents", tmp_path / "a.csv") == 12 * ROWS * LATENTS
  with (tmp_path / "a.csv").open() as file:
    rows = list(csv.DictReader(file))
  one = [r for r in rows if r["row"] == "1" and r["latent"] == "1"]
  assert [int(r["tick"]) for r in one] == list(range(12))
  assert [int(r["id"]) for r in one] == ids[:, 1, 1].tolist()
  assert one[8]["time_s"] == "0.800000" and one[8]["x"] == "0.95000" and one[8]["visible"] == "0"


def test_a_table_needs_positions(tmp_path):
  class Plain(Watched):
    def observe(self, params, state, window):
      states, state = super().observe(params, state, window)
      return State(states.latents.latents, {}, ()), state

    def latents(self, params, states):
      return states.latents

  extract_latents(Loaded(Plain(), {}, None, "by hand"), Windows(1), tmp_path / "latents")  # type: ignore[arg-type]
  (shard,) = inference.read_shards(tmp_path / "latents")
  assert sorted(shard) == ["latents", "timestamp_s"]
  with pytest.raises(ValueError, match="have no positions; extract those of stream_perceiver"):
    write_table(tmp_path / "latents", tmp_path / "a.csv")
  assert not (tmp_path / "a.csv").exists()
