"""A grid that was stopped goes on: it loses nothing and makes nothing twice."""

import dataclasses
import json

import pytest

from perceiver_stream.lab import grid
from perceiver_stream.lab.rules import Rule
from perceiver_stream.lab.trials import SIZES, Trial, key_of

SIZE = dataclasses.replace(SIZES["nano"], seeds=3)
TRIALS = {"first": Trial(), "second": Trial(rule=Rule(shuffled=True)), "third": Trial(ticks=2)}


class Workshop:
  """Counts what it is asked for, and falls over on demand."""

  made: list = []  # noqa: RUF012
  break_after = 10**6

  def __init__(self, trial, size, folder):
    del size, folder
    self.trial = trial

  def __call__(self, seed):
    if len(self.made) >= self.break_after:
      raise KeyboardInterrupt
    self.made.append((repr(self.trial), seed))
    return {"runs": {"0.1": {}}, "seed": seed, "order": len(self.made)}


@pytest.fixture(autouse=True)
def _anew(monkeypatch):
  monkeypatch.setattr(Workshop, "made", [])


def run(folder, trials=TRIALS, workers=1):
  told = []
  return grid.run(trials, SIZE, folder, workers, told.append, Workshop), told


def test_a_stopped_grid_loses_nothing_and_repeats_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(Workshop, "break_after", 4)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path)
  assert len(Workshop.made) == len(list(tmp_path.glob("result_*.json"))) == 4
  monkeypatch.setattr(Workshop, "break_after", 10**6)
  results, told = run(tmp_path)
  assert len(told) == 5 and len(Workshop.made) == len(set(Workshop.made)) == 9
  assert {name: [r["seed"] for r in rows] for name, rows in results.items()} == dict.fromkeys(
    TRIALS, [0, 1, 2]
  )
  again, told = run(tmp_path)
  assert again == results and not told and len(Workshop.made) == 9


def test_tables_share_trials_whatever_their_names(tmp_path):
  run(tmp_path)
  _, told = run(tmp_path, {"other name": TRIALS["second"], "new": Trial(carry="held out")})
  assert told == [f"new, seed {seed}" for seed in range(3)]


def test_several_at_a_time_give_the_same(tmp_path):
  one, _ = run(tmp_path / "1")
  two, _ = run(tmp_path / "2", workers=3)
  assert list(one) == list(two)
  assert [[r["seed"] for r in rows] for rows in two.values()] == [[0, 1, 2]] * 3


def test_half_written_files_are_not_results(tmp_path):
  path = grid.path_of(tmp_path, TRIALS["first"], SIZE, 0)
  path.with_name(f".part-1-1-{path.name}").write_text('{"ru')
  run(tmp_path)
  assert len(Workshop.made) == 9 and json.loads(path.read_text())["seed"] == 0


def test_all_that_changes_a_result_is_in_its_key_and_nothing_else():
  keys = {key_of(trial, SIZE, seed) for trial in TRIALS.values() for seed in range(3)}
  assert len(keys) == 9
  assert key_of(Trial(), SIZE, 0) == key_of(Trial(), dataclasses.replace(SIZE, seeds=9), 0)
  assert key_of(Trial(), SIZE, 0) != key_of(Trial(), dataclasses.replace(SIZE, side=32), 0)
  assert key_of(Trial(), SIZE, 0) != key_of(Trial(), dataclasses.replace(SIZE, num_rates=3), 0)
  other = dataclasses.replace(SIZE, widths={**SIZE.widths, "unet": 99})
  assert key_of(Trial(), SIZE, 0) == key_of(Trial(), other, 0)
  assert "smoothness" not in key_of(Trial(), SIZE, 0), "older results would lose their names"
  assert "'smoothness': 0.5" in key_of(Trial(smoothness=0.5), SIZE, 0)
