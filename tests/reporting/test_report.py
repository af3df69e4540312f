import html.parser
import json
import os
import re

import fake_runs
import numpy as np
import pytest

from perceiver_stream import modalities
from perceiver_stream.reporting import curves, filmstrips, purchases, report, run_files, runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return fake_runs.make(tmp_path_factory.mktemp("runs") / "my <run>")


@pytest.fixture(scope="module")
def page(folder):
  return report.write_report(folder).read_text()


class Checker(html.parser.HTMLParser):
  """Collects addresses and open elements."""

  def __init__(self, text):
    super().__init__()
    self.addresses, self.open, self.wrong, self.tags = [], [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.addresses += [value for name, value in attrs if name in ("src", "href", "data", "srcset")]
    if tag not in ("meta", "img"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    if not self.open or self.open.pop() != tag:
      self.wrong.append(tag)


def test_the_page_needs_no_other_file(page):
  checker = Checker(page)
  assert checker.addresses and all(a.startswith("data:image/") for a in checker.addresses)
  assert not {"script", "link", "iframe", "object"} & set(checker.tags)
  assert "@import" not in page and "url(" not in page


def test_the_page_is_well_formed_and_names_are_escaped(page):
  checker = Checker(page)
  assert checker.wrong == [] and checker.open == []
  assert "my &lt;run&gt;" in page and "<run>" not in page


def test_the_headline_shows_every_predictor_and_the_gain_over_the_best_other(page):
  row = re.search(r"<tr><th>4</th>(.*?)</tr>", page).group(1)
  cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
  assert cells == ["27.77", "26.00", "27.00", "27.00", "27.50",
    "+1.77 <small>(+0.27)</small>", "+0.27", "40"]  # fmt: skip
  assert "class=best>27.77" in row and "flow extrapolation" in page


def test_all_sections_are_there(page):
  for title in ("Last quarter", "Learning curves", "Film strips", "Config", "Environment"):
    assert f"<h2>{title}" in page
  assert "--config.seed=3" in page and "--config.model.modalities.pixels.height=16" in page
  assert "finished" in page and "3.4 %" in page


def test_only_the_newest_strip_is_open_and_no_more_than_three_are_shown(tmp_path):
  folder = fake_runs.make(tmp_path, num_strips=9)
  page = report.write_report(folder).read_text()
  assert re.findall(r"<details( open)?><summary>Update (\d+)", page) == [
    (" open", "9"), ("", "5"), ("", "1")]  # fmt: skip


@pytest.mark.parametrize("num_strips", [1, 2])
def test_few_strips_are_each_shown_once(tmp_path, num_strips):
  page = report.write_report(fake_runs.make(tmp_path, num_strips=num_strips)).read_text()
  assert len(re.findall("<summary>Update", page)) == num_strips


def test_every_displacement_has_its_film_and_sound(folder):
  run = runs.read_run(folder)
  text = filmstrips.strip_html(run.strips[0].paths, run.modalities())
  titles = re.findall("<h4>(.*?)</h4>", text)
  assert titles == ["pixels, 1 ahead", "pixels, 4 ahead", "audio, 1 ahead", "audio, 4 ahead"]
  labels = re.findall("<span>([^<]*)</span><img", text)
  assert labels[:3] == ["last input frame", "target", "prediction"]
  assert labels[3].startswith("decoded flow (to") and labels[4].startswith("error (to")
  assert labels[-3:] == ["true sound", "predicted", "difference"]


def test_captions_compare_with_copying(folder):
  run = runs.read_run(folder)
  text = filmstrips.strip_html(run.strips[0].paths, run.modalities())
  captions = re.findall("<div class=captions>(.*?)</div>", text)[0]
  assert re.findall("<span>(.*?)</span>", captions) == [
    "not scored",
    "<b class=good>30.0</b> <i>(20.0)</i>",
    "<b class=good>40.0</b> <i>(30.0)</i>",
    "<b class=good>60.0</b> <i>(60.0)</i>",
  ]


@pytest.mark.parametrize(
  "gone", ["pixels_flow@1", "pixels@1/model", "pixels@1/valid", "audio", "pixels@4", "timestamp_s"]
)
def test_a_strip_may_lack_an_array(tmp_path, gone):
  arrays = fake_runs.strip_arrays()
  del arrays[gone]
  np.savez(tmp_path / "1.npz", **arrays)
  known = runs.Run(tmp_path, config=fake_runs.config_json()).modalities()
  assert "pixels, 1 ahead" in filmstrips.strip_html([tmp_path / "1.npz"], known)


def test_a_strip_that_does_not_reach_back_shows_grey_for_what_it_lacks(tmp_path):
  arrays = fake_runs.strip_arrays()
  arrays["pixels"] = arrays["pixels"][-fake_runs.HOP :]
  np.savez(tmp_path / "1.npz", **arrays)
  known = runs.Run(tmp_path, config=fake_runs.config_json()).modalities()
  assert "pixels, 4 ahead" in filmstrips.strip_html([tmp_path / "1.npz"], known)


@pytest.mark.parametrize("has_truth", [True, False])
def test_inverse_depth_is_shown_below_its_images_with_the_truth_if_known(tmp_path, has_truth):
  arrays = fake_runs.strip_arrays()
  shape = (fake_runs.HOP, *arrays["pixels"].shape[1:3])
  labels = {"depth": np.full(shape, 2.0), "depth@0/model": np.full(fake_runs.HOP, 0.25)}
  labels |= {"depth@0/constant": np.full(fake_runs.HOP, 0.5)}
  arrays |= {"inverse_depth@0": np.ones(shape)} | (labels if has_truth else {})
  np.savez(tmp_path / "1.npz", **arrays)
  known = runs.Run(tmp_path, config=fake_runs.config_json()).modalities()
  text = filmstrips.strip_html([tmp_path / "1.npz"], known)
  assert "<h4>inverse depth</h4>" in text
  assert ("truth, scaled" in text) == ("0.25 <i>(0.5)</i>" in text) == has_truth


@pytest.mark.parametrize("name", [m.__name__.rsplit(".", 1)[-1] for m in modalities.MODALITIES])
def test_every_modality_can_be_shown(tmp_path, name):
  """Also one that somebody adds: its `picture` is enough."""
  module = next(m for m in modalities.MODALITIES if m.__name__.endswith(f".{name}"))
  modality = modalities.build(name, module.MODALITY[0]())
  raw = modality.random_observation(np.random.default_rng(0), (6,))
  predicted = np.asarray(modality.copy(modality.preprocess(np_to_jax(raw))))[:3]
  np.savez(tmp_path / "1.npz", **{name: raw, f"{name}@2": predicted})
  text = filmstrips.strip_html([tmp_path / "1.npz"], {name: modality})
  assert f"{name}, 2 ahead" in text and "data:image/png" in text


def np_to_jax(x):
  import jax.numpy as jnp

  return jnp.asarray(x)


def test_the_report_of_an_agent_shows_its_purchases_by_price(tmp_path):
  run = fake_runs.make(tmp_path / "run", num_windows=4, num_strips=1)
  for path in (run / "strips").iterdir():
    path.unlink()
  ticks = 4
  episodes = {
    "bought_clock@0": np.eye(ticks, dtype=bool)[:, :2],
    "price_clock@0": np.tile([0.5, 0.25], (ticks, 1)),
    "episode_label@0": np.tile([3, 7], (ticks, 1)),
    "episode_guess@0": np.tile([3, 6], (ticks, 1)),
  }
  run_files.write_strip_window(run_files.strip_path(run, 4, 4), episodes)
  text = report.write_report(run).read_text()
  assert "<h2>Purchases</h2>" in text and "Film strips" not in text
  assert text.index("<td>0.25</td>") < text.index("<td>0.5</td>")
  assert text.count(purchases.COLOURS[0] + ";text") == 2
  assert "<td class='good'>3</td>" in text and "<td class='bad'>6</td>" in text
  episodes.pop("episode_guess@0")  # of a file that is not ours
  assert purchases.of_strip(episodes) == ""


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"not an archive"])
def test_a_damaged_strip_is_named_and_does_not_stop_the_report(tmp_path, content):
  folder = fake_runs.make(tmp_path, num_strips=1)
  (folder / "strips" / "00000002.npz").write_bytes(content)
  page = report.write_report(folder).read_text()
  assert "00000002.npz cannot be read" in page and "pixels, 1 ahead" in page


def test_a_run_that_has_just_begun_has_a_report_too(tmp_path):
  page = report.write_report(tmp_path).read_text()
  assert "No scores yet" in page and "not finished" in page
  assert Checker(page).wrong == [] and "<h2>Film strips" not in page


def test_what_was_not_finite_and_what_was_changed_on_resume_is_shown(tmp_path):
  lines = [
    {"window": 1, "ticks": 8, "non_finite": {"audio": 2}},
    {"window": 2, "ticks": 16, "non_finite": {"audio": 1200, "<b>": 34, "odd": "x"}},
    {"window": 3, "ticks": 24, "changed": {"optimizer.learning_rate": "0.001 -> <1>", "keep": [1]}},
    {"window": 4, "ticks": 32, "non_finite": [3], "changed": "odd"},
  ]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  page = report.write_report(tmp_path).read_text()
  assert "<b>1,234</b><span>observations not finite</span>" in page
  row = "<th>3</th><td>optimizer.learning_rate</td><td>0.001 -&gt; &lt;1&gt;</td>"
  assert "Changed on resume" in page and row in page and Checker(page).wrong == []


def test_passwords_of_addresses_are_not_shown(tmp_path):
  one, other = "rtsp://me:secret@camera/1", "http://camera/2?password=secret"
  stream = {"source": one, "parts": [{"path": other}, other], "rate_hz": 25.0}
  (tmp_path / "config.json").write_text(json.dumps({"_type": "x.Config", "stream": stream}))
  line = {"window": 1, "ticks": 8, "changed": {"stream.source": f"{one} -> {other}"}}
  (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
  page = report.write_report(tmp_path).read_text()
  assert "secret" not in page and "--config.stream.rate_hz=25.0" in page
  assert page.count("rtsp://***@camera/1") == 2 and page.count("http://camera/2?***") == 3


def test_a_run_without_changes_has_no_table_of_them(page):
  assert "Changed on resume" not in page and "observations not finite" not in page


@pytest.mark.parametrize("num_windows", [1, 2, 3])
def test_short_runs_are_drawn(tmp_path, num_windows):
  page = report.write_report(fake_runs.make(tmp_path, num_windows, 0)).read_text()
  assert page.count("data:image/svg+xml") == 3


def test_the_report_appears_whole_where_it_is_asked_for(folder, tmp_path):
  path = report.write_report(folder, str(tmp_path / "mine.html"))
  assert path == tmp_path / "mine.html" and list(tmp_path.iterdir()) == [path]


def test_a_run_that_was_stopped_says_by_what(tmp_path):
  folder = fake_runs.make(tmp_path, 2, 0)
  (folder / "summary.json").write_text('{"finished": false, "stopped_by": "SIGTERM"}')
  assert "stopped by SIGTERM" in report.write_report(folder).read_text()


def test_smoothing_keeps_a_constant_and_the_weighted_mean():
  values = np.random.default_rng(0).normal(size=50)
  weights = np.random.default_rng(1).uniform(size=50)
  np.testing.assert_allclose(curves.smooth(np.full(9, 3.0), np.ones(9), 4), 3.0)
  np.testing.assert_allclose(curves.smooth(values, weights, 1), values)
  whole = np.average(values, weights=weights)
  np.testing.assert_allclose(curves.smooth(values, weights, 101), whole)


def test_curves_of_a_run_are_the_same_bytes_every_time(folder):
  series = runs.read_run(folder).series()[:2]
  first = curves.score_curves(series)
  assert first == curves.score_curves(series) and b"ticks ahead" in first


def test_baselines_nobody_has_named_are_drawn_too(folder):
  series = runs.read_run(folder).series()[0]
  series = series._replace(values=series.values | {"my_own": series.values["copy"] + 1})
  assert b"my_own" in curves.score_curves([series])


def test_a_measure_without_a_baseline_has_no_gains(folder):
  series = runs.read_run(folder).series()[0]
  alone = series._replace(values={"model": series.values["model"]})
  assert series.has_baseline and b"gain over" in curves.score_curves([series])
  assert not alone.has_baseline and b"gain over" not in curves.score_curves([alone])
  table = report._headline([alone], {"scores": {alone.key: {"model": 1.0, "count": 3}}})
  assert "<th>targets</th>" in table and "<th>gain over" not in table


def test_lines_of_a_figure_are_told_apart_with_and_without_a_name():
  names = [*curves.STYLES, *(f"own_{i}" for i in range(5))]
  styles = curves.styles_of(names)
  assert list(styles) == names
  looks = [(s["color"], s.get("linestyle", "-")) for s in styles.values()]
  assert len(set(looks)) == len(looks)
  colours = {name: style["color"] for name, style in styles.items()}
  for figure in (("copy", "mean", "nothing"), ("copy", "past_mean", "recent_mean", "mix")):
    assert len({colours[name] for name in figure}) == len(figure)
  assert set(curves.LABELS) | {"model"} == set(curves.STYLES)


@pytest.mark.parametrize(
  "value, in_db, sign, text",
  [
    (0.000123456, False, "", "0.0001235"),
    (-0.00012, False, "+", "-0.00012"),
    (27.514, True, "", "27.51"),
    (0.2, True, "+", "+0.20"),
    (None, False, "", ""),
  ],
)
def test_small_scores_are_shown_with_four_digits(value, in_db, sign, text):
  assert report._score(value, in_db, sign) == text


ODD_LINE = (
  '{"window": 1, "ticks": "x", "loss": "y", "scores": {"pixels@1": {"count": "z", "model": []}}}'
)


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("metrics.jsonl", ODD_LINE + "\n"),
    ("metrics.jsonl", '{"window": [], "ticks": {}, "scores": {"pixels@1": {"count": 1e999}}}\n'),
    ("metrics.jsonl", "[" * 100_000 + "\n"),
    ("metrics.jsonl", b"\xff\xfe\n"),
    ("metrics.jsonl", None),
    ("timing.jsonl", '{"window": "x", "frames_per_s": 1, "wait_share": "y"}\n'),
    ("timing.jsonl", None),
    ("summary.json", '{"finished": [], "devices": 7, "version": {}, "frames_per_s": "x"}'),
    ("summary.json", "[" * 100_000),
    ("config.json", '{"model": {"modalities": [1]}}'),
    ("config.json", '{"model": {"_type": 3}}'),
    ("config.json", b"\xff"),
    ("config.json", None),
    ("strips", b"a file"),
    ("metrics.jsonl", os.mkfifo),
    ("timing.jsonl", os.mkfifo),
    ("summary.json", os.mkfifo),
    ("config.json", os.mkfifo),
  ],
)
def test_a_damaged_run_has_a_report_of_what_is_left(tmp_path, name, content):
  folder = fake_runs.make(tmp_path / "run", num_windows=2, num_strips=0)
  path = folder / name
  path.rmdir() if name == "strips" else path.unlink()
  if content is None:
    path.mkdir()
  elif callable(content):
    content(path)
  else:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
  page = report.write_report(folder).read_text()
  assert "<h2>Environment</h2>" in page and Checker(page).wrong == []
