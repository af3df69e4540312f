import dataclasses
import json
from types import SimpleNamespace

import av
import jax
import numpy as np
import pytest
from training_fakes import Movies

import perceiver_stream
from perceiver_stream import inference, zoo
from perceiver_stream.inference import latents as latents_room
from perceiver_stream.inference import model_loading, video_prediction
from perceiver_stream.inference.latents import extract_latents, read_shards
from perceiver_stream.inference.model_loading import (
  UntrainedWarning,
  blank_tick,
  load,
  untrained,
  watch,
)
from perceiver_stream.inference.video_prediction import predict_video
from perceiver_stream.modalities import NonFiniteWarning
from perceiver_stream.reporting.video_writer import VideoWriter
from perceiver_stream.training.checkpoints import CheckpointError

NANO = "stream_perceiver/nano"


@pytest.fixture(scope="module")
def nano():
  return untrained(NANO)


@pytest.mark.parametrize(
  "name, text",
  [
    (NANO, "For trained weights bundled are moog/tiny_world, stream_perceiver/tiny_motion,"),
    (
      "rvm/small",
      r"load the flat .npz of size S \(google-deepmind/representations4d, .*\) by its path",
    ),
    ("perceiver_flow/published", "load the optical flow .pystate .* by its path"),
  ],
)
def test_random_weights_under_a_name_are_warned_of(nano, name, text, monkeypatch):
  monkeypatch.setattr(model_loading, "untrained", lambda name, **changes: nano)
  for used in (inference.load, perceiver_stream.load):
    with pytest.warns(
      UntrainedWarning, match=f"{name} has random weights.*{text}.*build"
    ) as caught:
      used(name, displacements=(1,))
    assert len(caught) == 1


def test_changes_reach_a_model_by_name_and_must_be_fields():
  assert inference.untrained("rvm/nano", displacements=(2,)).model.displacements == (2,)
  with pytest.raises(ValueError, match=r"\['dims'\] are no fields of the config"):
    inference.untrained("rvm/nano", dims=3)


def test_a_model_by_name_is_untrained_and_says_so(nano):
  assert nano.config is None and nano.about == f"{NANO}, untrained"
  outputs, _ = nano.model.step(
    nano.params, nano.model.initial_state(nano.params, 1), blank_tick(nano.model)
  )
  assert set(outputs.predictions) >= {"pixels", "audio"}


def test_what_is_neither_run_nor_name_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match="Did you mean 'stream_perceiver/nano'"):
    load("stream_perceiver/nanoo")
  with pytest.raises(FileNotFoundError, match="neither the folder of a run"):
    load(tmp_path)


def test_watching_in_windows_is_watching_at_once(nano):
  whole = next(iter(Movies(1, 16)))
  want, _ = nano.model.unroll(
    nano.params,
    nano.model.initial_state(nano.params, 1),
    {k: v for k, v in whole.items() if k != "timestamp_s"},
    (),
  )
  parts = [o.latents for _, o, _ in watch(nano, Movies(2, 8))]
  np.testing.assert_allclose(np.concatenate(parts), want.latents, atol=1e-5)


def test_watching_takes_what_is_not_finite_as_not_valid_and_warns_once(nano):
  windows = list(Movies(2, 8))
  for window in windows:
    window["audio"] = np.array(window["audio"])
    window["audio"][2, 0, 5] = np.nan
  with pytest.warns(NonFiniteWarning, match="'audio' is not finite") as found:
    parts = [outputs.latents for _, outputs, _ in watch(nano, windows)]
  assert len([w for w in found if w.category is NonFiniteWarning]) == 1
  for window in windows:
    window["audio"][2] = 0
    window["audio_valid"] = np.arange(8)[:, None] != 2
  want = [outputs.latents for _, outputs, _ in watch(nano, windows)]
  np.testing.assert_array_equal(np.concatenate(parts), np.concatenate(want))


@pytest.mark.parametrize("displacement, beside", [(1, False), (4, True)])
def test_an_untrained_model_predicts_the_frame_it_saw(nano, tmp_path, displacement, beside):
  path = tmp_path / "out.mp4"
  done = predict_video(nano, Movies(2), path, displacement=displacement, rate_hz=25, beside=beside)
  assert done.ticks == 16 and done.has_sound
  with av.open(str(path)) as file:
    assert file.streams.video[0].average_rate == 25
    frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
  assert len(frames) == 16 and frames[0].shape == (256, 512 if beside else 256, 3)
  seen = np.concatenate([w["pixels"][:, 0] for w in Movies(2)])
  for t in range(displacement, 16):
    shown = frames[t][8::16, 8::16][:, -16:]  # the middle of each enlarged pixel
    assert np.abs(shown.astype(int) - seen[t - displacement]).mean() < 8
  assert abs(frames[0][:, -256:].mean() - 128) < 4
  with av.open(str(path)) as file:
    sound = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])
  assert abs(len(sound) / 48000 - 16 / 25) < 0.05
  silence = sound[: max(0, (displacement - 1) * 1920 - 500)]  # sound plays a tick earlier
  assert np.abs(silence).max(initial=0) < 1e-2 < np.std(sound)


def test_ticks_without_a_rate_are_shown_at_their_times(nano, tmp_path, monkeypatch):
  with pytest.raises(ValueError, match="predicts sound, of which ticks with rate_hz=0 have no"):
    predict_video(nano, iter(Movies(1)), tmp_path / "a.mp4", displacement=1, rate_hz=0)
  config = nano.model.config
  config = dataclasses.replace(config, modalities={"pixels": config.modalities["pixels"]})
  pixels = zoo.build(config)
  windows = [w | {"timestamp_s": 7 + np.square(w["timestamp_s"])} for w in Movies(1)]
  silent = nano._replace(model=pixels)
  said = SimpleNamespace(predictions={"pixels": np.zeros((8, 1, 1, 16, 16, 3), np.float32)})
  monkeypatch.setattr(
    video_prediction, "watch", lambda *_: ((window, said, None) for window in windows)
  )
  done = predict_video(silent, windows, tmp_path / "a.mp4", displacement=1, rate_hz=0)
  with av.open(str(done.path)) as file:
    shown = [float(frame.time) for frame in file.decode(video=0)]
  np.testing.assert_allclose(shown, windows[0]["timestamp_s"][:, 0] - 7, atol=1e-4)


def test_a_movie_that_fails_leaves_nothing(tmp_path):
  with pytest.raises(RuntimeError, match="halfway"):
    with VideoWriter(tmp_path / "a.mp4", rate_hz=10) as movie:
      movie.write_frame(np.zeros((20, 31, 3), np.uint8))
      raise RuntimeError("halfway")
  assert list(tmp_path.iterdir()) == []


def test_a_silent_movie_refuses_sound_and_odd_sizes_are_fine(tmp_path):
  with VideoWriter(tmp_path / "a.mp4", rate_hz=10, min_side=1) as movie:
    movie.write_frame(np.zeros((21, 33, 3), np.uint8))
    with pytest.raises(ValueError, match="made without sound"):
      movie.write_sound(np.zeros(10, np.float32))
  with av.open(str(tmp_path / "a.mp4")) as file:
    assert (file.streams.video[0].height, file.streams.video[0].width) == (20, 32)
    assert not file.streams.audio


@pytest.mark.parametrize(
  "times", [[0.0], [0.0, 0.1], [0.0, 0.04, 0.08], [0.0, 0.5, 0.51, 0.51, 3.0]]
)
def test_a_movie_shows_pictures_at_their_times(tmp_path, times):
  with VideoWriter(tmp_path / "a.mp4", min_side=1) as movie:
    for time_s in times:
      movie.write_frame(np.zeros((20, 32, 3), np.uint8), time_s)
    with pytest.raises(
      ValueError, match="time_s=None; a video has a rate_hz, or a time_s for each"
    ):
      movie.write_frame(np.zeros((20, 32, 3), np.uint8))
  with av.open(str(tmp_path / "a.mp4")) as file:
    track = file.streams.video[0]
    shown = [float(frame.time) for frame in file.decode(track)]
    last = times[-1] - times[-2] if len(times) > 1 else 0.04
    assert float(track.duration * track.time_base) == pytest.approx(times[-1] + last, abs=1e-4)
  np.testing.assert_allclose(shown, times, atol=2e-5)
  with VideoWriter(tmp_path / "b.mp4", rate_hz=10, min_side=1) as movie:
    movie.write_frame(np.zeros((20, 32, 3), np.uint8))
    with pytest.raises(ValueError, match=r"time_s=1.0; a video has a rate_hz"):
      movie.write_frame(np.zeros((20, 32, 3), np.uint8), 1.0)


def extract(nano, folder, stop_after=None, **kwargs):
  asked = iter(range(100))
  stop = (lambda: next(asked) + 1 >= stop_after) if stop_after else (lambda: False)
  kwargs = {"windows_per_shard": 2, "identity": {"path": "a.mp4"}} | kwargs
  return extract_latents(nano, iter(Movies(5)), folder, should_stop=stop, **kwargs)


def contents(folder):
  return {p.name: p.read_bytes() for p in folder.glob("[!.]*.npz")}


def test_latents_are_those_of_the_model_in_shards(nano, tmp_path):
  done = extract(nano, tmp_path)
  assert done.finished and done.ticks == 40 and done.shards == 3
  shards = list(read_shards(tmp_path))
  assert [len(s["latents"]) for s in shards] == [16, 16, 8]
  want = np.concatenate([o.latents for _, o, _ in watch(nano, Movies(5))])
  np.testing.assert_array_equal(np.concatenate([s["latents"] for s in shards]), want)
  times = np.concatenate([s["timestamp_s"] for s in shards])[:, 0]
  np.testing.assert_allclose(times, np.arange(40) / 25)
  assert shards[0]["is_first"].sum() == 1
  assert json.loads((tmp_path / "index.json").read_text())["model"].endswith("untrained")


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_stopped_extraction_goes_on_to_the_same_files(nano, tmp_path, stop_after):
  extract(nano, tmp_path / "whole")
  stopped = extract(nano, tmp_path / "parts", stop_after=stop_after)
  assert not stopped.finished and stopped.shards == stop_after
  (tmp_path / "parts" / ".part-latents-00009.npz").write_bytes(b"cut short")
  assert extract(nano, tmp_path / "parts").finished
  assert contents(tmp_path / "whole") == contents(tmp_path / "parts")
  assert extract(nano, tmp_path / "parts").ticks == 40  # and once more: nothing to do


def test_killed_between_shard_and_index_repeats_the_shard(nano, tmp_path, monkeypatch):
  extract(nano, tmp_path / "whole")
  write = latents_room._write_npz

  def killed(path, arrays, calls=[]):  # noqa: B006
    calls.append(path)
    if len(calls) == 4:
      raise KeyboardInterrupt
    write(path, arrays)

  monkeypatch.setattr(latents_room, "_write_npz", killed)
  with pytest.raises(KeyboardInterrupt):
    extract(nano, tmp_path / "parts")
  monkeypatch.undo()
  extract(nano, tmp_path / "parts")
  assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_latents_of_something_else_are_not_mixed_in(nano, tmp_path):
  extract(nano, tmp_path, stop_after=1)
  with pytest.raises(CheckpointError, match="identity: .*a.mp4.* -> .*b.mp4.*another folder"):
    extract(nano, tmp_path, identity={"path": "b.mp4"})


def test_padding_after_the_end_is_left_out(nano, tmp_path):
  done = extract_latents(nano, iter(Movies(2, end=11)), tmp_path / "latents")
  assert done.ticks == 11 and len(next(read_shards(tmp_path / "latents"))["is_first"]) == 11
  movie = predict_video(nano, Movies(2, end=11), tmp_path / "a.mp4", displacement=1, rate_hz=25)
  assert movie.ticks == 11


def test_half_precision_on_disk(nano, tmp_path):
  extract(nano, tmp_path, dtype="float16")
  assert next(read_shards(tmp_path))["latents"].dtype == np.float16
  assert jax.config.jax_numpy_dtype_promotion == "strict"
