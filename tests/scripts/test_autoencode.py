"""scripts/autoencode.py and scripts/classify.py as a user runs them."""

import av
import jax
import numpy as np
import pytest
from commands import synthetic_movie

from perceiver_stream import streams, zoo
from perceiver_stream.reporting import images

RNG = np.random.default_rng(0)
NANO, CLASSES = "--model=coder.safetensors", "--model=classes.safetensors"
UNTRAINED = "--model=perceiver_autoencoder/nano"


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
  folder = tmp_path_factory.mktemp("movies")
  synthetic_movie(folder / "loud.mp4", 7, (24, 32), sound=True)
  synthetic_movie(folder / "deaf.mp4", 3, (24, 32))
  (tick,) = streams.open_rows(streams.synthetic.Config(max_ticks=1))[0]
  (folder / "a.png").write_bytes(images.png_bytes(tick["pixels"]))
  (folder / "names.txt").write_text("cat\ndog\ncow\nhen\nowl\n")
  for name, path in {"autoencoder": "coder", "classifier": "classes"}.items():
    model = zoo.build(f"perceiver_{name}/nano")
    params = jax.tree.map(
      lambda x: 0.1 * RNG.normal(size=x.shape).astype(np.float32), zoo.loading.template(model)
    )
    zoo.save(folder / f"{path}.safetensors", model, params)
  return folder


@pytest.fixture(autouse=True)
def _beside_the_movies(movies, monkeypatch):
  monkeypatch.chdir(movies)


def test_a_video_comes_out_beside_itself_with_sound(command, movies, tmp_path):
  out = command("autoencode", "loud.mp4", UNTRAINED, f"--output={tmp_path / 'x.mp4'}", "--top=2")
  assert "x.mp4: 7 frames in 4 clips, perceiver_autoencoder/nano, untrained." in out
  assert "pixels, PSNR dB: model " in out
  assert "mean colour " in out and "audio, PSNR dB: model " in out and "silence " in out
  assert out.count("%  class") == 2
  with av.open(str(tmp_path / "x.mp4")) as file:
    video, audio = file.streams.video[0], file.streams.audio[0]
    assert (video.width, video.average_rate) == (2 * video.height, 25)
    assert float(audio.duration * audio.time_base) == pytest.approx(7 / 25, abs=0.03)


def test_the_sound_of_the_original_stays_if_only_pictures_are_decoded(command, movies, tmp_path):
  path = tmp_path / "x.mp4"
  out = command("autoencode", "loud.mp4", NANO, f"--output={path}", "--decode=pixels")
  assert "audio, PSNR" not in out and "class" not in out
  with av.open(str(path)) as file:
    sound = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])
  assert np.std(sound[:10000]) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


def test_another_rate_and_no_sound(command, movies, tmp_path):
  options = (f"--output={tmp_path / 'x.mp4'}", "--rate_hz=12.5", "--decode=pixels,audio")
  out = command("autoencode", "deaf.mp4", NANO, *options)
  assert "x.mp4: 2 frames in 1 clips" in out and "The video has no sound" in out


def test_a_picture_and_a_video_are_classified(command, movies):
  out = command("classify", "a.png", CLASSES, "--labels=names.txt", "--top=5")
  shares = [float(line.split("%")[0]) for line in out.splitlines() if "%" in line]
  assert len(shares) == 5 and sum(shares) == pytest.approx(100, abs=0.1)
  assert shares == sorted(shares)[::-1]
  assert {line.split()[-1] for line in out.splitlines()[-5:]} == {"cat", "dog", "cow", "hen", "owl"}
  assert "class 0" in command("classify", "deaf.mp4", CLASSES, "--rate_hz=25")


@pytest.mark.parametrize(
  ("script", "args", "message"),
  [
    ("autoencode", ("loud.mp4", "--model=rvm/nano", "--output=x.mp4"), "a rvm encodes no clips"),
    ("autoencode", ("gone.mp4", NANO, "--output=x.mp4"), "autoencode.py: .*gone.mp4"),
    ("autoencode", ("loud.mp4", NANO, "--output=x.mp4", "--decode=smell"), "output='smell' is not"),
    ("autoencode", ("loud.mp4", NANO, "--output=a.png/x.mp4"), "autoencode.py: .*a.png"),
    (
      "autoencode",
      ("loud.mp4", NANO, "--output=x.txt"),
      "x.txt: its ending names no kind of video",
    ),
    (
      "autoencode",
      ("loud.mp4", NANO, "--output=x.mp4", "--labels=names.txt"),
      "the model 10 classes",
    ),
    ("classify", ("a.png", NANO), "has no classes; use a perceiver_classifier"),
    ("classify", ("names.txt", CLASSES), "classify.py: .*names.txt"),
  ],
)
def test_mistakes_are_one_readable_line(command, movies, script, args, message):
  with pytest.raises(SystemExit, match=message):
    command(script, *args)
  assert not (movies / "x.mp4").exists()
