"""The ViZDoom stream, beyond what all streams promise."""

import ctypes
import os
import pathlib
import signal
import struct

import games
import numpy as np
import pytest
from extras import need
from stream_checks import assert_same

from perceiver_stream import streams
from perceiver_stream.streams import sim_doom, vizdoom
from perceiver_stream.streams.sim_explorers import EXPLORERS, NUM_SECTORS, View, clear_ahead
from perceiver_stream.utils import optional


@pytest.fixture
def needs_game():
  need("vizdoom")


@pytest.fixture
def needs_sound(needs_game):
  if not games.HAS_SOUND:
    pytest.skip(games.NO_SOUND)


def wad(count, start, kind=b"PWAD", names=(b"MAP01", b"THINGS", b"LINEDEFS")):
  lumps = b"".join(bytes(8) + name.ljust(8, b"\0") for name in names)
  return kind + struct.pack("<ii", count, start) + lumps


def test_levels_are_read_from_whole_wads_only(tmp_path):
  path = tmp_path / "a.wad"
  path.write_bytes(wad(3, 12))
  assert sim_doom.level_names(path) == ["MAP01"]
  no_wads = (
    wad(2**31 - 1, 12),
    wad(3, 28),
    wad(-1, 12),
    wad(3, -9),
    wad(3, 12, b"MZIP"),
    b"",
    b"PWAD",
  )
  for data in no_wads:
    path.write_bytes(data)
    with pytest.raises(ValueError, match="a.wad is no wad, or cut off"):
      sim_doom.level_names(path)


def small(**fields):
  sizes = {"height": 24, "width": 32, "wad": "deathmatch", "modalities": games.MODALITIES}
  return vizdoom.Config(**sizes | fields)


def ticks_of(num, row=0, **fields):
  iterator = iter(vizdoom.open_row(small(**fields), row))
  ticks = [next(iterator) for _ in range(num)]
  iterator.close()
  return ticks


def test_slower_ticks_are_every_seventh_tic(needs_game):
  """The explorer stands still at first: one tick of seven tics is known from seven of one."""
  seven, one = ticks_of(1, rate_hz=5.0)[0], ticks_of(7, explorer="still")
  for name in ("pixels", "depth", "segmentation", "camera"):
    np.testing.assert_array_equal(seven[name], one[-1][name], err_msg=name)


def test_slower_ticks_have_all_the_sound(needs_sound):
  seven, one = ticks_of(1, rate_hz=5.0)[0], ticks_of(7, explorer="still")
  whole = np.concatenate([tick["audio_stereo"] for tick in one])
  np.testing.assert_array_equal(seven["audio_stereo"], whole)


@pytest.fixture(autouse=True)
def still(monkeypatch):
  class Still:
    def __init__(self, seed, tics):
      del seed, tics

    def act(self, view):
      del view
      return np.zeros(5)

  monkeypatch.setitem(EXPLORERS, "still", Still)


@pytest.mark.parametrize("explorer", ["walker", "roamer"])
def test_explorers_get_about_and_see_things(needs_game, explorer):
  ticks = ticks_of(150, rate_hz=5.0, explorer=explorer)
  places = np.stack([tick["camera"][:2] for tick in ticks])
  assert len({tuple(place) for place in (places // 2).astype(int)}) >= 10, "stays where it is"
  ids = set(np.unique(np.stack([tick["segmentation"] for tick in ticks])))
  assert {0, vizdoom.CLASSES.index("health")} <= ids and len(ids) > 3
  assert np.ptp([tick["depth"].mean() for tick in ticks]) > 1
  assert np.abs(np.stack([tick["actions"] for tick in ticks])).max() <= 1


def test_an_explorer_hears_things(needs_sound):
  ticks = ticks_of(150, rate_hz=5.0, explorer="walker")
  assert np.mean([np.abs(tick["audio"]).max() > 1e-3 for tick in ticks]) > 0.5, "silent"
  stereo = np.stack([tick["audio_stereo"] for tick in ticks])
  assert np.abs(stereo[..., 0] - stereo[..., 1]).max() > 1e-3, "both ears hear the same"
  np.testing.assert_allclose(stereo.mean(-1), np.stack([t["audio"] for t in ticks]), atol=1e-6)


def test_rows_recordings_and_seeds_are_different_worlds(needs_game):
  first, again = ticks_of(12, seed=1), ticks_of(12, seed=1)
  for one, other in zip(first, again, strict=True):
    assert_same(one, other)
  row, seed = ticks_of(12, row=1, seed=1), ticks_of(12, seed=2)
  recording = ticks_of(24, seed=1, ticks_per_recording=12)[12:]
  for other in (row, seed, recording):
    assert any((a["pixels"] != b["pixels"]).any() for a, b in zip(first, other, strict=True))
  assert recording[0]["is_first"] and not recording[1]["is_first"]


def test_resumes_far_inside_a_recording(needs_game):
  iterator = iter(vizdoom.open_row(small(rate_hz=5.0)))
  for _ in range(60):
    next(iterator)
  state, expected = iterator.get_state(), [next(iterator) for _ in range(3)]
  iterator.close()
  resumed = iter(vizdoom.open_row(small(rate_hz=5.0)))
  resumed.set_state(state)
  for tick in expected:
    assert_same(next(resumed), tick)
  resumed.close()


def test_depth_is_perpendicular_and_moves_with_the_camera(needs_game):
  """Walking up to something by a metre brings it a metre nearer, within steps of the depth."""
  ticks = ticks_of(120, modalities=("depth", "camera", "actions"))
  errors, moves = [], []
  for now, then in zip(ticks[20:], ticks[30:], strict=False):
    forward = (then["camera"] - now["camera"])[:2] @ now["camera"][3:5]
    turned = 1 - now["camera"][3:5] @ then["camera"][3:5]
    if turned < 1e-5 and abs(forward) > 0.5:
      middle = (slice(8, 11), slice(14, 18))
      moves.append(forward)
      errors.append(np.median(now["depth"][middle] - then["depth"][middle]) - forward)
  if len(moves) < 3:
    pytest.skip("the explorer did not walk straight on")
  assert np.median(np.abs(errors)) < 2 * vizdoom.M_PER_LEVEL


def test_a_dead_game_is_an_error_that_says_so(needs_game):
  iterator = iter(vizdoom.open_row(small(modalities=("pixels",))))
  before = children()
  next(iterator)
  for child in children() - before:
    os.kill(child, signal.SIGKILL)
  with pytest.raises(RuntimeError, match="game died in recording 0 of row 0 .*resuming"):
    next(iterator)
  iterator.close()


def children():
  tasks = pathlib.Path(f"/proc/{os.getpid()}/task")
  if not tasks.is_dir():
    pytest.skip("no /proc to find the game's process in")
  return {int(c) for task in tasks.iterdir() for c in (task / "children").read_text().split()}


def test_unknown_levels_and_files_are_refused(needs_game):
  with pytest.raises(ValueError, match=r"freedoom2.wad has no level 'map99'; use .*MAP01"):
    ticks_of(1, wad="freedoom2", maps=("map99",))
  with pytest.raises(FileNotFoundError, match="wad='nowhere' is no file .*deathmatch"):
    ticks_of(1, wad="nowhere")


def test_without_openal_sound_is_refused_and_pictures_are_not(needs_game, monkeypatch):
  def missing(name):
    raise OSError(f"{name}: cannot open shared object file")

  monkeypatch.setattr(ctypes, "CDLL", missing)
  monkeypatch.setattr("sys.platform", "linux")
  with pytest.raises(RuntimeError, match="without OpenAL the game is silent .*libopenal1"):
    ticks_of(1, modalities=vizdoom.MODALITIES)
  assert ticks_of(1, modalities=("pixels", "depth"), audio_rate_hz=0)[0]["pixels"].any()


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
  def missing(name):
    raise ImportError(f"No module named {name!r}")

  monkeypatch.setattr(optional.importlib, "import_module", missing)
  with pytest.raises(ImportError, match=r'pip install "perceiver_stream\[sim\]"'):
    next(iter(streams.open_rows(small())[0]))


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("rate_hz", 25.0, "rate_hz=25.0 does not divide 35; use 35, 17.5"),
    ("audio_rate_hz", 11200, "audio_rate_hz=11200; the game sounds at one of"),
    ("height", 4, "height=4; use 8 to 480"),
    ("explorer", "tourist", "explorer='tourist'; use one of"),
    ("modalities", ("smell",), "modalities=.*smell.*use some of"),
    ("maps", (), "maps is empty"),
    ("ticks_per_recording", -1, "ticks_per_recording=-1; 0 is never"),
  ],
)
def test_wrong_fields_are_refused(field, value, message):
  with pytest.raises(ValueError, match=message):
    vizdoom.Config(**{field: value})


@pytest.mark.parametrize("size", [(64, 64), (24, 32), (30, 80), (200, 100), (480, 640)])
def test_scaling_covers_the_middle_of_the_screen(size):
  columns, rows = sim_doom.screen_size(size)
  y, x = sim_doom.edges(size, 0), sim_doom.edges(size, 1)
  assert 0 <= y[0] < y[-1] <= rows and 0 <= x[0] < x[-1] <= columns
  np.testing.assert_allclose(y[0] + y[-1], rows)
  np.testing.assert_allclose(y[1] - y[0], x[1] - x[0], err_msg="pixels are not square")
  ramp = np.indices((rows, columns)).transpose(1, 2, 0) + 0.5
  scaled = sim_doom.area_mean(ramp, y, x)
  np.testing.assert_allclose(scaled[:, 0, 0], (y[1:] + y[:-1]) / 2, atol=0.13)
  np.testing.assert_allclose(scaled[0, :, 1], (x[1:] + x[:-1]) / 2, atol=0.13)
  picked = sim_doom.nearest(ramp[..., 0], y, x)
  assert np.abs(picked - scaled[..., 0]).max() <= 0.63
  assert sim_doom.focal_px(size) >= 8


def test_clear_ahead_looks_at_the_horizon():
  depth = np.full((120, 160), 10.0)
  depth[:40], depth[100:] = 1.0, 1.0  # ceiling and floor
  depth[55:60, 80:] = 3.0
  clear = clear_ahead(depth)
  assert clear.shape == (NUM_SECTORS,)
  assert (clear[:4] == 10).all() and (clear[5:] == 3).all()


@pytest.mark.parametrize("explorer", ["walker", "roamer"])
def test_explorers_do_not_stay_stuck(explorer):
  person, near = EXPLORERS[explorer](0, 7), np.full(NUM_SECTORS, 0.5)
  actions = np.stack([person.act(View(near, 1.0, 1.0, 0.0)) for _ in range(50)])
  assert (actions[:, 0] < 0).any(), "never backs off"
  assert (actions[:, 4] > 0).any(), "never tries a door"
  free = EXPLORERS[explorer](0, 7)
  away = np.stack([free.act(View(near * 40, 0.5 * i, 0.0, 0.0)) for i in range(50)])
  assert (away[:, 0] > 0).mean() > 0.9 and np.abs(away[:, 2]).max() <= 6


def test_classes_keep_their_ids():
  assert [vizdoom.class_id(name) for name in ("Monster", "Gore", "Gibs", "Self")] == [1, 2, 2, 14]
  assert vizdoom.class_id("SomethingNew") == 15 == len(vizdoom.CLASSES) - 1
