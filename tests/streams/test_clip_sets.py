"""Every data set of clips is read as published; damaged, incomplete and harmful folders are refused."""

import dataclasses
import itertools
import math
import os
import pathlib
import re

import numpy as np
import pytest
from clip_folders import FRAMES, RATE, WRITERS, make_media, text
from stream_checks import assert_restores, assert_same
from video_files import number_of, sample_code

from perceiver_stream import cli, streams, training
from perceiver_stream.files import limits
from perceiver_stream.streams import clip_sets, labelled_clips, shard_writer, video
from perceiver_stream.streams.clip_sets import CLIP_SETS, read_clips

NAMES = sorted(CLIP_SETS)
WRITTEN = "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"  # of train1
SMALL = {"height": 12, "width": 24, "crop": "squash"}


@pytest.fixture(scope="session")
def media(tmp_path_factory):
  return make_media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module", params=NAMES)
def known(request, media, tmp_path_factory):
  """A name, its folder, and what is in it."""
  assert request.param in WRITERS, "give the new data set a folder in tests/support/clip_folders.py"
  root = tmp_path_factory.mktemp(request.param)
  return request.param, root, WRITERS[request.param](root, media)


@pytest.fixture(params=NAMES)
def fresh(request, media, tmp_path):
  """The same, to be changed."""
  return request.param, tmp_path, WRITERS[request.param](tmp_path, media)


def same(clip, expected, root):
  assert pathlib.Path(clip.path) == root / expected.file
  assert (clip.start_s, clip.stop_s) == pytest.approx((expected.start_s, expected.stop_s))
  assert (dict(clip.labels), clip.caption) == (dict(expected.labels), expected.caption)


def test_clips_have_files_times_labels_and_captions(known):
  name, root, folder = known
  assert set(folder.clips) <= set(CLIP_SETS[name].splits)
  for split, expected in folder.clips.items():
    for clip, one in zip(read_clips(name, root, split), expected, strict=True):
      same(clip, one, root)
      assert set(clip.labels) == set(CLIP_SETS[name].classes)
      for label, count in CLIP_SETS[name].classes.items():
        assert all(0 <= number < count for number in clip.labels[label])


def test_published_splits_do_not_overlap(known):
  name, root, folder = known
  pairs = [(f"train{n}", f"test{n}") for n in range(1, CLIP_SETS[name].folds + 1)]
  apart = [s for s in folder.clips if not s[-1].isdigit() and s not in ("all", "em_train")]
  for one, other in [*pairs, *itertools.combinations(apart, 2)]:
    if {one, other} <= set(folder.clips):
      both = (
        {(c.path, c.start_s) for c in read_clips(name, root, split)} for split in (one, other)
      )
      assert not set.intersection(*both), (one, other)


def test_missing_videos_are_counted_and_named_at_once(fresh, caplog):
  name, root, folder = fresh
  split, expected = next(iter(folder.clips.items()))
  (root / expected[0].file).unlink()
  videos = len({clip.file for clip in expected})
  if name == "walking_tours":  # has no list
    assert [clip.name for clip in read_clips(name, root, split)] == ["venice.mp4"]
    return
  about = f"1 of {videos} videos of split '{split}' is missing, it is .*(line|entry) "
  with pytest.raises(FileNotFoundError, match=about):
    read_clips(name, root, split)
  rest = [clip for clip in expected if clip.file != expected[0].file]
  if not rest:
    with pytest.raises(FileNotFoundError, match=about):
      read_clips(name, root, split, on_missing="skip")
    return
  for clip, one in zip(read_clips(name, root, split, on_missing="skip"), rest, strict=True):
    same(clip, one, root)
  assert f"1 of {videos} videos" in caplog.text


def test_several_missing_videos_are_one_message(media, tmp_path):
  folder = WRITERS["esc50"](tmp_path, media)
  for clip in folder.clips["all"][:2]:
    (tmp_path / clip.file).unlink()
  with pytest.raises(
    FileNotFoundError, match="2 of 3 videos .* are missing, the first is .*1-1-A-0.wav"
  ):
    read_clips("esc50", tmp_path, "all")


def test_a_line_that_cannot_be_used_is_named(fresh):
  name, root, folder = fresh
  if folder.broken is None:
    return
  file, content, message = folder.broken
  text(root, file, content)
  with pytest.raises(ValueError, match=f"{pathlib.Path(file).name}.*{message}"):
    read_clips(name, root, next(iter(folder.clips)))


def test_names_that_lead_out_of_the_folder_are_refused(fresh):
  name, root, folder = fresh
  if folder.escaping is None:
    return
  file, content = folder.escaping
  text(root, file, content)
  with pytest.raises(
    limits.RefusedError, match="(line|entry|narration).* names the file .* not inside it"
  ):
    read_clips(name, root, next(iter(folder.clips)))


def test_links_that_lead_out_of_the_folder_are_refused(fresh, media, tmp_path_factory):
  name, root, folder = fresh
  split, expected = next(iter(folder.clips.items()))
  place = root / expected[0].file
  place.unlink()
  place.symlink_to(media.video)
  with pytest.raises(limits.RefusedError, match="is a link that leads out"):
    read_clips(name, root, split)
  place.unlink()
  inner = root / f"kept{place.suffix}"
  os.link(media.video, inner)
  place.symlink_to(inner)
  assert read_clips(name, root, split)[0].path == str(place)


def test_lists_that_are_missing_or_harmful_are_refused(fresh):
  name, root, folder = fresh
  if folder.broken is None:
    return
  split, place = next(iter(folder.clips)), root / folder.broken[0]
  for content in (b"\xff\xfe\x00", b"{" * 1000):
    place.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError)):
      read_clips(name, root, split)
  place.unlink()
  os.mkfifo(place)
  with pytest.raises(ValueError, match="not a regular file"):
    read_clips(name, root, split)


def damaged(data, rng):
  """Returns a text file with one kind of damage, or one value of JSON replaced."""
  kind = rng.integers(4)
  if kind == 0:
    return data[: rng.integers(len(data))]
  if kind == 1:
    at = rng.integers(len(data))
    return data[:at] + bytes(rng.integers(0, 256, 3, dtype=np.uint8)) + data[at:]
  pieces = re.split(rb"([,&{}:\[\]\"\s]+)", data)
  values = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"-1",
    b"1e999",
    b"nan",
    b"../x",
    b"\\x",
    b"9" * 5000,
    b"true",
  ]
  for at in rng.integers(0, len(pieces), 1 + kind):
    pieces[at] = values[rng.integers(len(values))]
  return b"".join(pieces)


def test_any_damage_gives_clips_or_a_clear_error(fresh):
  name, root, folder = fresh
  rng = np.random.default_rng(0)
  lists = [p for p in sorted(root.rglob("*")) if p.suffix in (".csv", ".txt", ".json")]
  found = set()
  for place in lists:
    whole = place.read_bytes()
    for _ in range(60 // len(lists)):
      place.write_bytes(damaged(whole, rng))
      for split in folder.clips:
        try:
          clips = read_clips(name, root, split, on_missing="skip")
        except (ValueError, FileNotFoundError) as error:
          found.add(type(error))
          continue
        for clip in clips:
          assert pathlib.Path(clip.path).resolve().is_relative_to(root.resolve())
          assert 0 <= clip.start_s < clip.stop_s
          for label, count in CLIP_SETS[name].classes.items():
            assert all(0 <= number < count for number in clip.labels[label])
    place.write_bytes(whole)
  assert found or not lists


@pytest.mark.parametrize("identity", ["..", "a\0b", "../x", "a/../../x", "n" * 256])
def test_odd_names_lead_nowhere(identity, media, tmp_path):
  WRITERS["something_v2"](tmp_path, media)
  (tmp_path.parent / "x.webm").write_bytes(b"")
  text(tmp_path, "labels/test.json", [{"id": identity}])
  with pytest.raises(limits.RefusedError, match="entry 0.* (not inside it|name of 256)"):
    read_clips("something_v2", tmp_path, "test")


def test_a_missing_data_set_names_its_source_and_layout(tmp_path):
  for name in NAMES:
    about = CLIP_SETS[name].about
    with pytest.raises(FileNotFoundError, match="not fetched") as caught:
      read_clips(name, tmp_path / "nothing", CLIP_SETS[name].splits[0])
    assert about.source in str(caught.value) and about.layout in str(caught.value)


@pytest.mark.parametrize(
  ("name", "split", "message"),
  [
    ("ucf102", "train1", "there is no 'ucf102'; use one of"),
    ("ucf101", "train4", "use one of .*'train1'"),
  ],
)
def test_what_does_not_exist_is_refused_by_name(name, split, message):
  with pytest.raises(ValueError, match=message):
    read_clips(name, ".", split)
  with pytest.raises(ValueError, match=message):
    labelled_clips.Config(dataset=name, split=split)


def config_of(name, root, split, **fields):
  fields = {"rate_hz": float(RATE), "audio_rate_hz": 16000} | SMALL | fields
  return labelled_clips.Config(dataset=name, split=split, path=str(root), **fields)


def test_the_stream_has_images_sound_and_labels_of_each_clip(known):
  name, root, folder = known
  split, expected = next(iter(folder.clips.items()))
  config = config_of(name, root, split)
  specs, ticks = streams.specs(config), list(streams.open_rows(config)[0])
  for tick in ticks:
    for key, spec in specs.items():
      assert (tick[key].shape, str(tick[key].dtype)) == (spec.shape, spec.dtype)
  starts = [at for at, tick in enumerate(ticks) if tick["is_first"]]
  assert len(starts) == len(expected)
  for number, (at, stop) in enumerate(itertools.pairwise([*starts, len(ticks)])):
    check_clip(ticks[at:stop], expected[number], number, CLIP_SETS[name])


def check_clip(ticks, clip, number, kind):
  has_images = not clip.file.endswith(".wav")
  first = max(2, round(clip.start_s * RATE) + 1)
  end = FRAMES - has_images  # the last tick that the file has
  last = end if clip.stop_s == math.inf else min(end, round(clip.stop_s * RATE))
  assert len(ticks) == last - first + 1
  for at, tick in enumerate(ticks, first):
    assert tick["pixels_valid"] == has_images and tick["audio_valid"]
    assert not has_images or number_of(tick["pixels"]) == at
    heard = np.arange((at - 1) * 640, at * 640)
    np.testing.assert_allclose(tick["audio"], sample_code(heard), atol=1e-4)
    assert tick["clip"] == number
    for label, numbers in clip.labels.items():
      assert tick[f"{label}_valid"] == bool(numbers)
      value = np.flatnonzero(tick[label]) if kind.many else tick[label]
      np.testing.assert_array_equal(value, numbers if kind.many else (numbers or (0,))[0])


def test_streams_resume_exactly_and_are_shuffled_by_their_seed_alone(media, tmp_path):
  WRITERS["howto100m"](tmp_path, media)
  config = config_of("howto100m", tmp_path, "all", seed=1)
  row = streams.open_rows(config)[0]
  assert len(assert_restores(row, (0, 1, 2, 8, 9, 10, 17, 18, 19, 27), ahead=3)) == 28
  orders = {tuple(clip_order(config_of("howto100m", tmp_path, "all", seed=s))) for s in range(6)}
  assert orders == {(0, 1), (1, 0)}
  assert clip_order(config_of("howto100m", tmp_path, "all")) == [0, 1]
  assert clip_order(config_of("howto100m", tmp_path, "all", loops=2)) == [0, 1, 0, 1]
  rows = streams.open_rows(config_of("howto100m", tmp_path, "all"), 2)
  assert [next(iter(row))["clip"] for row in rows] == [0, 1]
  with pytest.raises(ValueError, match="3 rows need at least as many clips"):
    streams.open_rows(config, 3)


def clip_order(config):
  return [int(tick["clip"]) for tick in streams.open_rows(config)[0] if tick["is_first"]]


def test_clips_are_cut_after_a_number_of_ticks(media, tmp_path):
  WRITERS["ucf101"](tmp_path, media)
  ticks = list(streams.open_rows(config_of("ucf101", tmp_path, "train1", clip_ticks=4))[0])
  assert [int(tick["label"]) for tick in ticks] == 4 * [0] + 4 * [100]
  assert [number_of(tick["pixels"]) for tick in ticks] == 2 * [2, 3, 4, 5]
  silent = config_of("ucf101", tmp_path, "train1", clip_ticks=4, audio_rate_hz=0)
  numbers = [number_of(tick["pixels"]) for tick in streams.open_rows(silent)[0]]
  assert numbers == 2 * [0, 1, 2, 3]


def test_an_address_stands_for_a_video(media, tmp_path):
  WRITERS["ucf101"](tmp_path, media)
  config = video.Config(path=f"ucf101:test1:{tmp_path}", rate_hz=float(RATE), **SMALL)
  (row,) = streams.open_rows(config)
  labelled = streams.open_rows(config_of("ucf101", tmp_path, "test1"))[0]
  for one, other in zip(row, labelled, strict=True):
    assert_same(one, {name: other[name] for name in one})
  assert set(streams.specs(config)) == {"pixels", "audio"}
  (pathlib.Path(tmp_path) / WRITTEN).unlink()
  whole = dataclasses.replace(config, path=f"ucf101:train1:{tmp_path}")
  with pytest.raises(FileNotFoundError, match="1 of 2 videos"):
    streams.open_rows(whole)
  (left,) = streams.open_rows(dataclasses.replace(whole, on_damage="skip"))
  assert sum(bool(tick["is_first"]) for tick in left) == 1
  index = shard_writer.write(config, str(tmp_path / "shards"))
  assert sum(shard.ticks for shard in index.shards) == FRAMES - 2
  with pytest.raises(ValueError, match="set a rate_hz"):
    video.open_row(video.Config(path=config.path, rate_hz=0.0, audio_rate_hz=0))
  with pytest.raises(ValueError, match="use NAME:SPLIT:FOLDER"):
    labelled_clips.from_video(video.Config(path="a.mp4"))
  assert clip_sets.split_address("ucf101:x") is None


def test_sound_alone_needs_a_rate_of_sound(media, tmp_path):
  WRITERS["esc50"](tmp_path, media)
  (row,) = streams.open_rows(config_of("esc50", tmp_path, "all", audio_rate_hz=0))
  with pytest.raises(ValueError, match="has sound alone; set an audio_rate_hz"):
    next(iter(row))


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("crop", "left"),
    ("on_missing", "ask"),
    ("loops", 0),
    ("height", 0),
    ("seed", -2),
    ("rate_hz", 0.0),
  ],
)
def test_wrong_fields_are_refused(field, value):
  with pytest.raises(ValueError, match=f"{field}="):
    labelled_clips.Config(**{field: value})


def test_clips_are_bounded_in_number(media, tmp_path, monkeypatch):
  monkeypatch.setattr(clip_sets.finding, "MAX_CLIPS", 2)
  WRITERS["esc50"](tmp_path, media)
  with pytest.raises(limits.RefusedError, match="line 4: more than 2 clips"):
    read_clips("esc50", tmp_path, "all")


def test_the_command_of_the_documentation_runs(media, tmp_path, monkeypatch, capsys):
  page = (pathlib.Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
  (line,) = [line for line in page.splitlines() if line.startswith("perceiver-stream shards")]
  WRITERS["ucf101"](tmp_path / "DATA" / "ucf101", media)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr("sys.argv", line.split())
  cli.main()
  assert "audio, pixels in 1 shards" in capsys.readouterr().out
  rows = streams.open_rows(streams.shards.Config(path="shards/ucf101"))
  assert [int(tick["is_first"]) for tick in rows[0]].count(1) == 2
  assert all(f"`{name}`" in page for name in NAMES)


def test_configs_of_runs_keep_the_stream(tmp_path):
  config = training.ExperimentConfig(
    model=None,
    stream=labelled_clips.Config(dataset="ave", split="val", path="x", seed=3),
    objective=None,
  )
  assert training.config.from_json(training.config.to_json(config)).stream == config.stream
