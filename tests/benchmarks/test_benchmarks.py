"""Every benchmark runs at tiny size, and what they share tells the truth; nothing is timed."""

import importlib
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
  """Imports a script of the folder as if it were run from there."""
  monkeypatch.syspath_prepend(FOLDER)

  def load(name):
    module = importlib.import_module(name)
    assert pathlib.Path(module.__file__).parent == FOLDER
    return module

  yield load
  for name in [path.stem for path in FOLDER.glob("*.py")]:
    sys.modules.pop(name, None)


@pytest.fixture
def common(load):
  return load("common")


SCRIPTS = sorted(
  path.stem
  for path in FOLDER.glob("*.py")
  if path.stem
  not in (
    "chromium",
    "common",
    "depth_parallel_curves",
    "learning",
    "live_page",
    "live_soak",
    "long_video_parts",
    "photographs",
    "zoo_parts",
  )
)


@pytest.mark.filterwarnings("ignore:.* has random weights")
@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_runs_without_arguments_at_tiny_size(load, name, tmp_path, capsys):
  page = tmp_path / "page.md"
  load(name).main(["--tiny", f"--output={tmp_path}", f"--markdown={page}"])
  found = json.loads((tmp_path / f"{name}.json").read_text())
  assert found["tiny"] and found["machine"]["jax"] == jax.__version__
  printed = capsys.readouterr().out
  for table in found["tables"]:
    assert table["title"] in printed and f"### {table['title']}" in page.read_text()
    assert any(column.startswith(("x ", "state x")) for column in table["columns"]), "no peer"
    for row in table["rows"]:
      assert len(row) == len(table["columns"])
      assert all(x is None or isinstance(x, str) or (np.isfinite(x) and x >= 0) for x in row)


# --- clocks and memory


def test_the_program_of_a_scan_does_not_grow_with_its_length(common):
  scan = lambda x: jax.lax.scan(lambda c, y: (c + y, jnp.sin(c)), x[0], x)  # noqa: E731
  short, long = (common.program(scan, jnp.ones((n, 4))) for n in (3, 300))
  assert short.instructions == long.instructions
  assert long.output_bytes - short.output_bytes == 297 * 4 * 4
  np.testing.assert_allclose(short.call(jnp.ones((3, 4)))[0], 4.0)


def test_a_program_can_be_compiled_for_arrays_that_would_not_fit(common):
  huge = jax.ShapeDtypeStruct((2**16, 2**16), jnp.float32)
  found = common.program(lambda x: jnp.sum(jnp.sort(x, axis=0)), huge)
  assert found.temp_bytes >= 2**34


def test_medians_are_of_all_calls_but_the_first_in_turns(common):
  order = []
  found = common.medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
  assert order == list("ababab")
  assert all(0 <= s.wall < 1 and 0 <= s.cpu < 1 for s in found.values())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks cannot be reset")
def test_a_peak_is_that_of_its_block_also_after_a_higher_one(common):
  def touch(megabytes):
    np.ones(megabytes * 10**6, np.uint8).sum()

  touch(200)
  with common.Peak() as peak:
    touch(50)
  assert 45e6 < peak.grown < 120e6


def test_free_memory_is_a_sensible_number(common):
  assert 10**7 < common.free_bytes() < 10**14


# --- fresh processes


SCRIPT = """
import os, sys
sys.path.insert(0, {folder!r})
import common

def echo(word, times):
  print("noise")
  return {{"said": word * times, "pid": os.getpid(), "env": os.environ.get("ECHO")}}

def fail():
  raise ValueError("on purpose")

def main(argv=None):
  common.arguments_of(argv, "doc", globals())

if __name__ == "__main__":
  main()
"""


def test_a_fresh_process_answers_and_its_errors_are_told(common, tmp_path, monkeypatch):
  (tmp_path / "echoing.py").write_text(SCRIPT.format(folder=str(FOLDER)))
  monkeypatch.syspath_prepend(tmp_path)
  echoing = importlib.import_module("echoing")
  asked = {"word": "a", "times": 3}
  there = common.fresh(echoing.echo, asked, {"ECHO": "yes"})
  here = common.fresh(echoing.echo, asked, {"ECHO": "yes"}, inside=True)
  assert there["said"] == here["said"] == "aaa"
  assert there["pid"] != here["pid"]
  assert (there["env"], here["env"]) == ("yes", None)
  with pytest.raises(RuntimeError, match="on purpose"):
    common.fresh(echoing.fail, {})


# --- tables and pages


def test_a_table_has_aligned_columns_as_text_and_as_markdown(common):
  table = common.Table("Title", ["by", "ms"], [["one", 1.234], ["three", None]], "A note.")
  lines = table.text().splitlines()
  assert lines[0].split() == ["by", "ms"] and len({len(line) for line in lines}) == 1
  markdown = table.markdown().splitlines()
  assert markdown[:2] == ["### Title", ""]
  assert markdown[3].replace("-", "") == "|  | : |"
  assert markdown[4] == "| one   | 1.23 |"
  assert markdown[5] == "| three |    – |"
  assert markdown[-1] == "A note."


@pytest.mark.parametrize(
  ("value", "text"),
  [
    (1.2345, "1.23"),
    (0.05, "0.05"),
    (0.000123, "1.2e-04"),
    (12345.6, "12,346"),
    (7, "7"),
    (512, "512"),
    (0.0, "0"),
    (None, "–"),
    ("text", "text"),
  ],
)
def test_numbers_are_shown_with_three_digits(common, value, text):
  assert common.shown(value) == text


def test_a_section_of_a_page_is_replaced_and_the_rest_is_left(common):
  page = common.replaced("# Page\n\nWords.\n", "decode", "first")
  page = common.replaced(page, "unroll", "other")
  again = common.replaced(page, "decode", r"second \1")
  assert again == page.replace("first", r"second \1")
  assert again.startswith("# Page\n\nWords.\n\n## decode\n") and "other" in again
  assert common.replaced(again, "decode", r"second \1") == again


def test_a_busy_machine_is_told(common):
  about = common.machine() | {"cores": 2, "load": 0.1}
  assert "busy" not in common.headline(about)
  assert "do not quote" in common.headline(about | {"load": 3.0})


def test_the_written_video_has_the_pictures_and_sound_asked_for(common, tmp_path):
  import av

  path = common.write_video(tmp_path / "a.mp4", height=32, width=48, seconds=0.5)
  with av.open(str(path)) as container:
    pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
  assert len(pictures) == 15 and pictures[0].shape == (32, 48, 3)
  assert np.abs(pictures[0].astype(int) - pictures[-1].astype(int)).mean() > 2
  with av.open(str(path)) as container:
    assert sum(frame.samples for frame in container.decode(audio=0)) >= 24000


# --- what is compared


def test_the_peers_of_attention_compute_the_same(load):
  attention = load("attention")
  keys = jax.random.split(jax.random.PRNGKey(1), 3)
  q, k, v = (jax.random.normal(key, (1, n, 2, 8)) for key, n in zip(keys, (5, 9, 9), strict=True))
  expected = attention.plain(q, k, v)
  for name, function in attention.CONTESTANTS.items():
    np.testing.assert_allclose(function(q, k, v), expected, atol=1e-5, err_msg=name)


def test_the_python_loop_is_unroll(load):
  unroll = load("unroll")
  model, params, state = unroll.started("stream_perceiver/nano")
  observations = unroll.blank(model, 2, 1)
  observations["pixels"] += np.arange(2, dtype=np.uint8)[:, None, None, None, None]
  looped, _ = unroll.looped(model)(params, state, observations)
  unrolled, _ = model.unroll(params, state, observations)
  np.testing.assert_allclose(looped.latents, unrolled.latents, atol=1e-5)
  np.testing.assert_allclose(
    looped.predictions["pixels"], unrolled.predictions["pixels"], atol=1e-5
  )


def test_the_plain_decoder_sees_every_frame(load, tmp_path):
  decode = load("decode")
  path = str(load("common").write_video(tmp_path / "a.mp4", height=32, width=48, seconds=0.5))
  assert decode.plain(path) == 15
  assert set(decode.ways(path, 30.0, False)) < set(decode.ways(path, 30.0, True)) | {
    name for name in decode.ways(path, 30.0, False) if name.endswith("no sound")
  }


def test_the_loop_is_fed_the_same_windows_with_and_without_prefetch(load, tmp_path):
  online = load("online")
  path = str(load("common").write_video(tmp_path / "a.mp4", height=32, width=48, seconds=2))
  parts = online.make_parts(online.experiment(path, str(tmp_path), "nano", 4))
  clock = online.Clock()
  ahead = iter(online.ClockedWindows(online.windows_of(parts, True), clock))
  plain = iter(online.ClockedWindows(online.windows_of(parts, False), clock))
  for _ in range(2):
    jax.tree.map(np.testing.assert_array_equal, next(ahead), next(plain))
  assert ahead.get_state() == plain.get_state()
  assert len(clock.spent) == len(clock.ended) == 4 and min(clock.spent) > 0
  ahead.close()
  plain.close()


def test_shares_are_of_the_time_after_warming_up(load):
  online = load("online")
  config = online.experiment("x.mp4", "runs/x", "nano", 40, hop_factor=2)
  assert config.max_windows == 20 and config.objective.window == 16
  data, host, saves = online.Clock(), online.Clock(), online.Clock()
  data.ended, data.spent = [100.0, *np.arange(101.0, 111.0)], [50.0] * 6 + [0.25] * 5
  data.cpu = [3.0 * i for i in range(11)]
  host.ended, host.spent = data.ended, [0.5] * 11
  saves.ended, saves.spent = [105.0], [2.0]
  found = online.times(config, data, host, saves)
  assert found["frames_per_s"] == pytest.approx(16)
  assert found["data_share"] == pytest.approx(0.25)
  assert found["cpu_ms"] == pytest.approx(3000 / 16)
  assert found["host_share"] == pytest.approx(6 * 0.5 / 5)
  assert found["save_share"] == pytest.approx(2 / config.checkpoints.every)
