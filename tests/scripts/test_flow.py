"""scripts/flow.py as a user runs it."""

import jax
import numpy as np
import pytest
from commands import synthetic_movie

from perceiver_stream import streams, zoo
from perceiver_stream.reporting import flow_files, images
from perceiver_stream.streams import probe

RNG = np.random.default_rng(0)
NANO = "--model=perceiver_flow/nano"


@pytest.fixture
def run(command):
  return lambda *args: command("flow", *args)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
  """Two pictures, A.png and B.png, with the true flow AB.flo, and another size C.png."""
  folder = tmp_path_factory.mktemp("scene")
  config = streams.synthetic.Config(height=24, width=32, max_ticks=2, speed=3.0)
  first, second = list(streams.open_rows(config)[0])
  for name, picture in {"A": first["pixels"], "B": second["pixels"]}.items():
    (folder / f"{name}.png").write_bytes(images.png_bytes(picture))
  (folder / "C.png").write_bytes(images.png_bytes(first["pixels"][:20]))
  flow_files.write_flo(folder / "AB.flo", first["flow"])
  return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """A file of weights of which none is zero."""
  model = zoo.build("perceiver_flow/nano")
  params = jax.tree.map(
    lambda x: 0.3 * RNG.normal(size=x.shape).astype(np.float32), zoo.loading.template(model)
  )
  path = tmp_path_factory.mktemp("weights") / "flow.safetensors"
  zoo.save(path, model, params)
  return path


def test_two_pictures_give_flow_in_three_files_and_scores(run, scene, weights, tmp_path):
  options = (f"--model={weights}", f"--output={tmp_path}", f"--truth={scene / 'AB.flo'}")
  out = run(scene / "A.png", scene / "B.png", *options)
  assert f"{tmp_path}: flow.flo, flow.npz, flow.png, 32×24, {weights}." in out
  assert "End-point error, pixels: model " in out and "zero " in out and "DIS " in out
  assert "Untrained" not in out
  flow = flow_files.read_flow(tmp_path / "flow.flo")
  np.testing.assert_array_equal(flow, flow_files.read_flow(tmp_path / "flow.npz"))
  assert flow.shape == (24, 32, 2) and np.abs(flow).max() > 0
  assert probe.read_picture(str(tmp_path / "flow.png")).shape == (24, 32, 3)


def test_an_untrained_model_says_so_and_sees_no_motion(run, scene, tmp_path):
  out = run(scene / "A.png", scene / "B.png", NANO, f"--output={tmp_path}", "--fewest")
  assert "perceiver_flow/nano, untrained." in out
  assert not flow_files.read_flow(tmp_path / "flow.flo").any()


@pytest.mark.parametrize("model", ["perceiver_flow/nano", "stream_perceiver/nano"])
def test_a_video_gives_a_movie_and_all_flows(run, model, tmp_path):
  movie = synthetic_movie(tmp_path / "in.mp4", 5, (24, 32))
  options = ("--max_ticks=4", "--max_side=20", "--save_flows", "--max_speed=2")
  out = run(movie, f"--model={model}", f"--output={tmp_path / 'out'}", *options)
  assert "flow.mp4: 3 flows, 20×15" in out
  assert "Read one tick per frame, 0.040 s apart on average." in out
  assert "Full colour is 2.0 pixels per tick." in out
  with np.load(tmp_path / "out" / "flows.npz") as file:
    assert len(file.files) == 4 and file["flow_000000"].shape == (15, 20, 2)
    np.testing.assert_allclose(file["time_s"], [[0, 0.04], [0.04, 0.08], [0.08, 0.12]])
  assert probe.probe(str(tmp_path / "out" / "flow.mp4"))[:3] == (270, 720, 25.0)  # 18 pixels each


def test_numbered_images_are_a_video(run, tmp_path):
  config = streams.synthetic.Config(height=24, width=32, max_ticks=3)
  for number, tick in enumerate(streams.open_rows(config)[0]):
    (tmp_path / f"frame{8 + number}.png").write_bytes(images.png_bytes(tick["pixels"]))
  out = run(tmp_path, NANO, f"--output={tmp_path / 'out'}", "--rate_hz=10")
  assert "2 flows, 32×24" in out and "one tick per frame, 0.100 s apart" in out


def test_a_rate_instead_of_the_files_pictures(run, tmp_path):
  movie = synthetic_movie(tmp_path / "in.mp4", 5, (24, 32))
  out = run(movie, NANO, f"--output={tmp_path / 'out'}", "--rate_hz=12.5")
  assert "2 flows" in out and "at 12.5 ticks a second, 0.080 s apart" in out


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (("A.png", "C.png", NANO), "the first image is 32×24, the second 32×20"),
    (("A.png", "gone.png", NANO), "flow.py: .*gone.png"),
    (("A.png", NANO), "is one image; give two images, or one video"),
    (("A.png", "B.png", "--model=perceiver_flow/nan"), "Did you mean 'perceiver_flow/nano'"),
    (("A.png", "B.png", "--model=rvm/nano"), "a rvm gives no flow"),
    (("A.png", "B.png", "--model=stream_perceiver/nano"), "give it a video"),
    (("A.png", "B.png", "--truth=A.png", NANO), "it is no .flo file"),
    (("A.png", "B.png", "--output=A.png", NANO), "A.png cannot be written to"),
  ],
)
def test_mistakes_are_one_readable_line(run, scene, monkeypatch, args, message):
  monkeypatch.chdir(scene)
  out = () if any(a.startswith("--output") for a in args) else ("--output=out",)
  with pytest.raises(SystemExit, match=message):
    run(*args, *out)


def test_three_pictures_or_a_truth_of_a_video_are_refused(run, capsys):
  for args in (("a", "b", "c"), ("a", "--truth=b.flo")):
    with pytest.raises(SystemExit):
      run(*args, NANO, "--output=x")
    assert "give two images, with or without --truth" in capsys.readouterr().err
