"""Every kind of stream keeps the promises of `streams.base`."""

import dataclasses
import importlib.util
import itertools
import json
import pickle

import games
import grain
import numpy as np
import pytest
from absl import flags
from extras import need
from image_folders import write_scannet, write_visp
from lerobot_folders import write_lerobot
from ml_collections import config_flags
from record_files import movi, write_records
from robot_files import walk, write_mcap
from stream_checks import BARS, assert_restores, assert_same
from video_files import write_video
from waymo_files import write_waymo

from perceiver_stream import streams
from perceiver_stream.streams import (
  bags,
  balls,
  countdown,
  events,
  images,
  labelled_clips,
  lerobot,
  live,
  maze,
  mixture,
  mujoco,
  pulses,
  rooms,
  shard_writer,
  shards,
  synthetic,
  tfrecord,
  video,
  vizdoom,
  waymo,
)
from perceiver_stream.utils.optional import require

SIMULATORS = ("vizdoom", "mujoco")  # slow to start, and in an extra
SILENT = (
  images.Config,
  tfrecord.Config,
  balls.Config,
  countdown.Config,
  events.Config,
  maze.Config,
  waymo.Config,
)
# Their position is a time: a state does not lead back to the same tick, so the tests of exact
# resumption do not apply; test_live.py and test_push.py have those that do.
LIVE = ("live",)
LOOPED = (
  "video",
  "shards",
  "images",
  "tfrecord",
  "bags",
  "lerobot",
  "labelled_clips",
  "waymo",
)  # with `loops`
KINDS = [kind.__name__.rpartition(".")[2] for kind in streams.STREAMS]


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
  """A config of every kind, that ends after some 25 ticks and has two recordings."""
  folder = tmp_path_factory.mktemp("streams")
  write_video(folder / "1.mp4", num=14, gop=5)
  write_video(folder / "2.mkv", num=11, gop=5, sound_s=0)
  (folder / "clips").mkdir()
  for name, num in (("1.mp4", 16), ("2.mkv", 13)):  # two ticks before the first with sound
    write_video(folder / "clips" / name, num=num, gop=5)
  world = synthetic.Config(height=24, width=32, max_ticks=25, ticks_per_recording=14, num_things=2)
  shard_writer.write(world, str(folder / "shards"), shard_ticks=9)
  write_visp(folder / "images" / "1", num=14)
  write_scannet(folder / "images" / "2", num=11)
  for number, frames in enumerate((14, 11)):
    write_waymo(folder / "waymo" / f"{number}.tfrecord", frames)
  if importlib.util.find_spec("tensorflow"):
    tf = require("tensorflow", "tf")
    write_records(tf, folder / "1.tfrecord", [movi(0, 14), movi(14, 11)])
  if importlib.util.find_spec("mcap") and importlib.util.find_spec("rosbags"):
    write_mcap(folder / "1.mcap", walk(14))
    write_mcap(folder / "2.mcap", walk(11))
  if importlib.util.find_spec("pyarrow"):
    write_lerobot(folder / "lerobot", (14, 11))
  return {
    "video": video.Config(path=str(folder), **BARS),
    "synthetic": world,
    "mixture": mixture.Config(
      sources={"one": world, "other": video.Config(path=str(folder), **BARS)}
    ),
    "shards": shards.Config(path=str(folder / "shards")),
    "images": images.Config(path=str(folder / "images"), **BARS),
    "tfrecord": tfrecord.Config(path=str(folder / "*.tfrecord"), rate_hz=25.0, **BARS),
    "bags": bags.Config(path=f"{folder}/*.mcap", **BARS),
    "lerobot": lerobot.Config(path=str(folder / "lerobot"), **BARS),
    "labelled_clips": labelled_clips.Config(
      dataset="walking_tours", split="all", path=str(folder / "clips"), **BARS
    ),
    "waymo": waymo.Config(path=str(folder / "waymo"), **BARS),
    "balls": balls.Config(height=24, max_ticks=25, ticks_per_recording=14, ticks_per_drift=20),
    "pulses": pulses.Config(max_ticks=25, ticks_per_recording=14),
    "countdown": countdown.Config(max_ticks=25, ticks_per_recording=14),
    "events": events.Config(max_ticks=25, ticks_per_recording=14, event_ticks=3, gap=4),
    "maze": maze.Config(height=24, max_ticks=25, ticks_per_recording=14, ticks_per_night=20),
    "rooms": rooms.Config(
      height=24,
      width=32,
      max_ticks=25,
      ticks_per_recording=14,
      modalities=rooms.MODALITIES,
      audio_rate_hz=8000,
    ),
    "vizdoom": vizdoom.Config(
      height=24,
      width=32,
      max_ticks=25,
      ticks_per_recording=14,
      modalities=games.MODALITIES,
      audio_rate_hz=games.AUDIO_RATE_HZ,
    ),
    "live": live.Config(
      source="lavfi:testsrc=rate=25:duration=1[out0];sine=duration=1[out1]",
      when_faster="wait",
      height=24,
      width=32,
    ),
    "mujoco": mujoco.Config(
      height=24, width=32, max_ticks=25, ticks_per_recording=14, modalities=mujoco.MODALITIES
    ),
  }


def config_of(kind, configs):
  assert kind in configs, "give the new kind of stream a config here"
  if kind in SIMULATORS:
    need(kind)
  if kind == "tfrecord":
    need("tensorflow")
  if kind == "lerobot":
    need("pyarrow")
  if kind == "bags":
    need("mcap", "rosbags", "lz4", "zstandard")
  return configs[kind]


@pytest.fixture(params=KINDS)
def config(request, configs):
  return config_of(request.param, configs)


@pytest.fixture(params=[kind for kind in KINDS if kind not in LIVE])
def resumable(request, configs):
  """A config of a kind that resumes exactly."""
  return config_of(request.param, configs)


def test_ticks_are_what_specs_say(config):
  specs = streams.specs(config)
  names = set(specs) | {f"{name}_valid" for name in specs} | {"is_first", "timestamp_s"}
  for tick in streams.open_rows(config)[0]:
    assert set(tick) == names
    for name, spec in specs.items():
      assert (tick[name].shape, tick[name].dtype) == (spec.shape, spec.dtype)
      assert tick[f"{name}_valid"].dtype == bool
      if spec.minimum < spec.maximum:
        assert spec.minimum <= tick[name].min() <= tick[name].max() <= spec.maximum


def test_one_clock_runs_on_over_recordings(config):
  ticks = list(streams.open_rows(config)[0])
  times = [tick["timestamp_s"] for tick in ticks]
  np.testing.assert_allclose(times, np.arange(25) / (config.rate_hz or 25), rtol=1e-15)
  starts = [0] if isinstance(config, live.Config) else [0, 14]
  assert [i for i, tick in enumerate(ticks) if tick["is_first"]] == starts


def test_every_state_restores_the_next_tick_exactly(resumable):
  places = (0, 1, 13, 14, 15, 25) if _is_slow(resumable) else None
  assert len(assert_restores(streams.open_rows(resumable)[0], places)) == 25


def test_grain_agrees_that_it_restores(resumable):
  count = 3 if _is_slow(resumable) else 12
  dataset = grain.experimental.LimitIterDataset(streams.open_rows(resumable)[0], count=count)
  grain.experimental.assert_equal_output_after_checkpoint(dataset)


def test_states_are_small_and_plain(config):
  iterator = iter(streams.open_rows(config)[0])
  next(iterator)
  text = json.dumps(iterator.get_state())
  assert len(text) < 1000 and "." not in text, "plain whole numbers"


def test_iterators_are_independent_and_the_same(config):
  dataset = streams.open_rows(config)[0]
  first, second = iter(dataset), iter(dataset)
  early = [next(first) for _ in range(20)]
  for tick in early:
    assert_same(next(second), tick)


def test_a_state_taken_is_not_changed_by_going_on(config):
  iterator = iter(streams.open_rows(config)[0])
  next(iterator)
  state = iterator.get_state()
  copy = json.dumps(state)
  for _ in iterator:
    pass
  assert json.dumps(state) == copy
  assert next(iterator, None) is None, "stays at its end"
  iterator.set_state(state)
  assert next(iterator)["timestamp_s"] == 1 / (config.rate_hz or 25)


def test_datasets_travel_to_other_processes(config):
  dataset = pickle.loads(pickle.dumps(streams.open_rows(config)[0]))
  assert len(list(dataset)) == 25


def test_max_ticks_ends_the_stream(resumable):
  limited = type(resumable)(**vars(resumable) | {"max_ticks": 7})
  places = (0, 6, 7) if _is_slow(resumable) else None
  assert len(assert_restores(streams.open_rows(limited)[0], places)) == 7


def test_foreign_states_are_refused(config):
  iterator = iter(streams.open_rows(config)[0])
  with pytest.raises(ValueError, match="state to restore has .*expected"):
    iterator.set_state({"elsewhere": 3})


def test_negative_positions_are_refused(config):
  iterator = iter(streams.open_rows(config)[0])
  state = iterator.get_state()
  for name in [name for name, value in state.items() if type(value) is int]:
    with pytest.raises(ValueError, match=f"state to restore has {name}=-1, expected 0 or more"):
      iterator.set_state(state | {name: -1})


@pytest.mark.parametrize("kind", LOOPED)
def test_a_state_of_a_later_pass_than_the_last_is_at_the_end(kind, configs):
  iterator = iter(streams.open_rows(dataclasses.replace(config_of(kind, configs), loops=2))[0])
  iterator.set_state(iterator.get_state() | {"loop": 3})
  assert list(itertools.islice(iterator, 1)) == []


def test_ticks_for_orbax_and_prefetch_are_restored(resumable):
  places = (1, 14, 25) if _is_slow(resumable) else (0, 1, 13, 14, 24, 25)
  assert_restores(streams.prefetch(streams.open_rows(resumable)[0], 3), places)


def test_flags_reach_the_fields(config):
  if isinstance(config, shards.Config | mixture.Config):
    pytest.skip("sizes and rates are those stored, or of the sources")
  flag_values = flags.FlagValues()
  settings = {"rate_hz": 12.5, "audio_rate_hz": 8000, "height": 40, "max_ticks": 3}
  if type(config) is vizdoom.Config:
    settings |= {"rate_hz": 17.5, "audio_rate_hz": 11025 if games.HAS_SOUND else 0}
  if type(config) in SILENT:
    settings["audio_rate_hz"] = 0
  argv = ["program", *(f"--stream.{name}={value}" for name, value in settings.items())]
  holder = config_flags.DEFINE_config_dataclass(
    "stream", config, flag_values=flag_values, sys_argv=argv
  )
  flag_values(argv)
  copy = holder.value
  copy.validate()
  assert streams.specs(copy)["pixels"].shape == (40, copy.width, 3)
  if copy.audio_rate_hz:
    assert streams.specs(copy)["audio"].shape == (copy.audio_rate_hz / copy.rate_hz,)
  assert len(list(streams.open_rows(copy)[0])) == 3


def _is_slow(config):
  return type(config).__module__.rpartition(".")[2] in SIMULATORS


def test_open_rows_refuses_what_is_no_stream():
  with pytest.raises(TypeError, match="type StreamConfig .*video.Config, .*synthetic.Config"):
    streams.open_rows(streams.StreamConfig())
  with pytest.raises(ValueError, match="num_rows=0; use at least 1"):
    streams.open_rows(synthetic.Config(), 0)
