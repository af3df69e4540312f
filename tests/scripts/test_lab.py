"""`perceiver-stream lab` from the command line."""

import pytest
from commands import call

from perceiver_stream.lab import grid, motion
from perceiver_stream.lab.tables import TABLES


def fake_run(trials, size, folder, workers):
  """Returns results as a grid gives them, the same for every trial."""
  del folder, workers
  told = {"in_stream": 0.2, "out_of_stream": 0.4}
  told |= {"in_stream_curve": [0.3, 0.2], "out_of_stream_curve": [0.5, 0.4]}
  told["motion"] = dict.fromkeys(motion.SCORES, 0.6)
  result = {
    "runs": dict.fromkeys(
      [f"{rate:g}" for rate in size.rates(next(iter(trials.values())).rule)], told
    ),
    "baselines": {"copy": {"in_stream": 0.2, "out_of_stream": 0.4}},
    "rivals": {"no flow": dict.fromkeys(motion.SCORES, 0.6)},
    "parameters": 7,
    "clips": 8,
    "seconds": 30.0,
  }
  return dict.fromkeys(trials, [result] * size.seeds)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_a_page(table, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(grid, "run", fake_run)
  call(monkeypatch, "lab", table, "--size=nano", f"--folder={tmp_path}", f"--output={tmp_path}")
  page = (tmp_path / f"{table}.md").read_text()
  assert page in capsys.readouterr().out and (tmp_path / f"{table}.png").exists()
  assert (
    page.startswith(f"# {TABLES[table].title}\n")
    and f"perceiver-stream lab {table} --size=nano" in page
  )
  for name in TABLES[table].trials:
    assert f"| {name} | 0.2 ± 0 |" in page
  assert page.count("null: the interval holds 1") == len(TABLES[table].effects)


def test_a_table_can_be_put_on_another_source(tmp_path, monkeypatch):
  asked = []

  def run(trials, *args):
    asked.extend(trials.values())
    return fake_run(trials, *args)

  monkeypatch.setattr(grid, "run", run)
  put = [f"--folder={tmp_path}", f"--output={tmp_path}", "--source=balls"]
  call(monkeypatch, "lab", "cadence", "--size=nano", *put)
  assert {trial.source for trial in asked} == {"balls"}
  page = (tmp_path / "cadence_balls.md").read_text()
  assert page.startswith(f"# {TABLES['cadence'].title}: balls\n")
  assert (
    "perceiver-stream lab cadence --size=nano --source=balls" in page
    and "(cadence_balls.png)" in page
  )
  with pytest.raises(SystemExit, match=r"compares \['balls', .* cannot be put on 'balls'"):
    call(monkeypatch, "lab", "streams", *put)


def test_tables_can_be_listed(monkeypatch, capsys):
  call(monkeypatch, "lab", "--list")
  assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(TABLES)


def test_what_goes_wrong_is_one_message(tmp_path, monkeypatch):
  def broken(*args):
    raise ValueError("lab: no such footage.")

  monkeypatch.setattr(grid, "run", broken)
  with pytest.raises(SystemExit, match=r"lab.py: lab: no such footage"):
    call(monkeypatch, "lab", "gap", f"--folder={tmp_path}", f"--output={tmp_path}")


def test_stopping_says_how_to_go_on(tmp_path, monkeypatch):
  def stopped(*args):
    raise KeyboardInterrupt

  monkeypatch.setattr(grid, "run", stopped)
  with pytest.raises(SystemExit, match="the same command resumes"):
    call(monkeypatch, "lab", "gap", f"--folder={tmp_path}", f"--output={tmp_path}")
