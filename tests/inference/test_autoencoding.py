"""Clips of a stream, once through an autoencoder: nothing lost, and equal to the network's own."""

import av
import haiku as hk
import jax
import numpy as np
import pytest

from perceiver_stream import streams, zoo
from perceiver_stream.inference import autoencoding
from perceiver_stream.inference.autoencoding import OUTPUTS, autoencode, clips_of
from perceiver_stream.inference.model_loading import Loaded, blank_tick
from perceiver_stream.models.perceiver_io import autoencoder as perceiver_autoencoder

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def loaded():
  config = zoo.config("perceiver_autoencoder/nano")
  config.num_frames, config.samples = 3, 3 * 640
  model = zoo.build(config)
  shapes = jax.eval_shape(model.init, jax.random.key(0), blank_tick(model))
  params = jax.tree.map(lambda x: 0.3 * RNG.normal(size=x.shape).astype(np.float32), shapes)
  return Loaded(model, params, None, "nano")


def ticks(count, per_recording=0):
  config = streams.synthetic.Config(
    height=16, width=16, max_ticks=count, ticks_per_recording=per_recording
  )
  return list(streams.open_rows(config)[0])


@pytest.mark.parametrize(("count", "lengths"), [(6, [3, 3]), (7, [3, 3, 1]), (1, [1])])
def test_clips_hold_every_picture_and_the_sound_after_it(count, lengths):
  seen = ticks(count)
  clips = list(clips_of(seen, 3))
  assert [c.ticks for c in clips] == lengths
  pixels = np.concatenate([c.pixels[: c.ticks] for c in clips])
  np.testing.assert_array_equal(pixels, [t["pixels"] for t in seen])
  audio = np.concatenate([c.audio[: 640 * c.ticks] for c in clips])
  want = [t["audio"] for t in seen[1:]] + [np.zeros(640)]
  np.testing.assert_array_equal(audio, np.concatenate(want))
  last = clips[-1]
  assert (last.pixels[last.ticks :] == seen[-1]["pixels"]).all()
  assert len(last.audio) == 3 * 640 and not last.audio[640 * last.ticks :].any()


def test_a_clip_ends_with_its_recording_and_silence_is_known():
  seen = ticks(5, per_recording=2)
  clips = list(clips_of(seen, 3))
  assert [c.ticks for c in clips] == [2, 2, 1]
  assert not clips[0].audio[640:].any()
  assert [c.has_sound for c in clips] == [True, True, False]
  deaf = [t | {"audio_valid": np.bool_(False)} for t in seen]
  assert not any(c.has_sound or c.audio.any() for c in clips_of(deaf, 3))


def test_encoding_once_is_watching_tick_by_tick(loaded):
  model, params = loaded.model, loaded.params
  (clip,) = clips_of(ticks(3), 3)
  state = model.initial_state(params)
  for i in range(3):
    tick = {
      "pixels": clip.pixels[i][None],
      "audio": clip.audio[640 * i : 640 * (i + 1)][None],
      "is_first": np.asarray([i == 0]),
    }
    outputs, state = model.step(params, state, tick)
  once = autoencoding.encode_clip(model, params, clip)
  np.testing.assert_allclose(model.latents(params, once), outputs.latents, atol=1e-5)


def test_decoding_is_the_networks_and_any_subset_is_the_same(loaded):
  model, params = loaded.model, loaded.params
  (clip,) = clips_of(ticks(3), 3)
  inputs = {
    "image": clip.pixels[None].astype(np.float32) / 255,
    "audio": clip.audio[None, :, None],
    "label": np.zeros((1, model.config.num_classes), np.float32),
  }
  network = hk.transform(lambda x: perceiver_autoencoder.Autoencoder(model.config)(x))
  want = jax.jit(network.apply)(params, None, inputs)
  state = autoencoding.encode_clip(model, params, clip)
  got = autoencoding.decode_clip(model, params, state)
  np.testing.assert_allclose(got["pixels"], want["image"][0], atol=1e-5)
  np.testing.assert_allclose(got["audio"], want["audio"][0, :, 0], atol=1e-5)
  np.testing.assert_allclose(got["label"], want["label"][0], atol=1e-5)
  for outputs in (("audio",), ("label", "pixels"), ()):
    some = autoencoding.decode_clip(model, params, state, outputs)
    assert set(some) == set(outputs)
    for name in outputs:
      np.testing.assert_allclose(some[name], got[name], atol=1e-5)


@pytest.mark.parametrize("outputs", [OUTPUTS, ("audio",)])
def test_the_movie_is_as_long_as_the_video(loaded, tmp_path, outputs):
  path = tmp_path / "x.mp4"
  done = autoencode(loaded, ticks(8), path, rate_hz=25, outputs=outputs)
  assert (done.ticks, done.clips, done.has_sound) == (8, 3, True)
  with av.open(str(path)) as file:
    frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
  with av.open(str(path)) as file:
    sound = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])
  assert len(frames) == 8 and abs(len(sound) - 8 * 1920) < 2048
  assert frames[0].shape == (256, 512 if "pixels" in outputs else 256, 3)
  assert set(done.psnr) == set(outputs) - {"label"}
  if "label" in outputs:
    assert done.label.shape == (loaded.model.config.num_classes,)
    assert done.label.sum() == pytest.approx(1, abs=1e-5)


def test_scores_are_of_the_real_ticks(loaded, tmp_path, monkeypatch):
  """A decoder that gives back the clip, but for one grey level, has the PSNR of that level."""
  seen = ticks(4)
  clips = clips_of(seen, 3)

  def decode(model, params, state, outputs):
    clip = next(clips)
    pixels = clip.pixels / 255 + 0.1
    pixels[clip.ticks :] = 9.0  # padding, which nobody shall see
    return {"pixels": pixels, "audio": np.where(np.arange(1920) < 640 * clip.ticks, clip.audio, 9)}

  monkeypatch.setattr(autoencoding, "decode_clip", decode)
  done = autoencode(loaded, seen, tmp_path / "x.mp4", rate_hz=25)
  assert done.psnr["pixels"]["model"] == pytest.approx(20, abs=1e-6)
  assert done.psnr["audio"]["model"] == pytest.approx(10 * np.log10(4e10))  # the floor: equal
  assert done.psnr["audio"]["silence"] < 60 and done.psnr["pixels"]["mean colour"] < 30


def test_a_video_without_sound_has_no_score_of_it(loaded, tmp_path):
  deaf = [t | {"audio_valid": np.bool_(False)} for t in ticks(3)]
  done = autoencode(loaded, deaf, tmp_path / "x.mp4", rate_hz=25, outputs=("audio", "pixels"))
  assert not done.has_sound and set(done.psnr) == {"pixels"}


def test_mistakes_are_explained(loaded, tmp_path):
  with pytest.raises(ValueError, match="output='sound' is not known. Did you mean 'audio'"):
    autoencode(loaded, ticks(3), tmp_path / "x.mp4", rate_hz=25, outputs=("sound",))
  with pytest.raises(ValueError, match="there is no tick; give a video"):
    autoencode(loaded, [], tmp_path / "x.mp4", rate_hz=25)
  with pytest.raises(ValueError, match="a rvm encodes no clips; use a perceiver_autoencoder"):
    autoencoding.check_autoencoder(zoo.build("rvm/nano"))
  assert not list(tmp_path.iterdir())
