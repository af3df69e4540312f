"""Flow of pictures and videos: equal to the network's own, in the right units, and not from the future."""

import dataclasses

import av
import haiku as hk
import jax
import numpy as np
import pytest

from perceiver_stream import streams, zoo
from perceiver_stream.inference import flow_estimation, flow_videos
from perceiver_stream.inference.model_loading import Loaded, load
from perceiver_stream.models.perceiver_io import flow as perceiver_flow
from perceiver_stream.reporting import images
from perceiver_stream.zoo import bundled

RNG = np.random.default_rng(0)


def picture(*size):
  return RNG.integers(0, 256, (*size, 3)).astype(np.uint8)


def random_params(model):
  """Parameters of which none is zero, so that the flow is none either."""
  shapes = zoo.loading.template(model)
  return jax.tree.map(lambda x: 0.3 * RNG.normal(size=x.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def pairwise():
  model = zoo.build("perceiver_flow/nano")
  return Loaded(model, random_params(model), None, "nano")


@pytest.fixture(scope="module")
def expecting():
  model = zoo.build("stream_perceiver/nano")
  return Loaded(model, random_params(model), None, "nano")


@pytest.fixture(scope="module")
def network(pairwise):
  """The network alone: frames in [-1, 1] to flow."""
  config = pairwise.model.config
  f = hk.transform(lambda x: perceiver_flow.FlowPerceiver(config)(x))
  apply = jax.jit(f.apply)
  return lambda frames: np.asarray(apply(pairwise.params, None, frames))


def between(loaded, first, second, **options):
  return flow_estimation.flow_between(loaded.model, loaded.params, first, second, **options)


def scaled(*frames):
  return (np.stack(frames).astype(np.float32) / 127.5 - 1)[None]


def test_one_tile_is_the_network(pairwise, network):
  first, second = picture(16, 16), picture(16, 16)
  want = network(scaled(first, second))[0]
  assert np.abs(want).max() > 1e-2
  np.testing.assert_allclose(between(pairwise, first, second), want, atol=1e-5)


def test_a_larger_picture_is_its_tiles(pairwise, network):
  first, second = picture(21, 40), picture(21, 40)
  want = perceiver_flow.tiled_flow(network, scaled(first, second), (16, 16), overlap=8)[0]
  got = between(pairwise, first, second)
  assert got.shape == (21, 40, 2)
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_smaller_picture_is_enlarged_and_its_flow_made_smaller(pairwise, network):
  flat = [np.full((8, 8, 3), value, np.uint8) for value in (50, 200)]
  enlarged = [x.repeat(2, axis=0).repeat(2, axis=1) for x in flat]
  whole = network(scaled(*enlarged))[0]
  want = whole.reshape(8, 2, 8, 2, 2).mean(axis=(1, 3)) / 2
  np.testing.assert_allclose(between(pairwise, *flat), want, atol=1e-4)
  assert between(pairwise, picture(5, 30), picture(5, 30)).shape == (5, 30, 2)


def test_resized_flow_is_in_pixels_of_the_new_size():
  flow = np.full((6, 4, 2), (2.0, 9.0), np.float32)
  np.testing.assert_allclose(
    flow_estimation.resized_flow(flow, (2, 8))[0, 0], (4.0, 3.0), rtol=1e-6
  )


def test_pictures_that_do_not_fit_are_refused(pairwise, expecting):
  with pytest.raises(ValueError, match="first image is 20×16, the second 16×20"):
    between(pairwise, picture(16, 20), picture(20, 16))
  with pytest.raises(ValueError, match="give it a video, or use a perceiver_flow"):
    between(expecting, picture(16, 16), picture(16, 16))
  with pytest.raises(ValueError, match="a rvm gives no flow; use a perceiver_flow"):
    flow_estimation.gives_flow(zoo.build("rvm/nano"))


def ticks(count, per_recording=0, **options):
  config = streams.synthetic.Config(
    height=20, width=24, max_ticks=count, ticks_per_recording=per_recording, **options
  )
  return list(streams.open_rows(config)[0])


@pytest.mark.parametrize("kind", ["pairwise", "expecting"])
def test_a_video_gives_every_pair_of_one_recording(kind, request):
  loaded, seen = request.getfixturevalue(kind), ticks(7, per_recording=4)
  pairs = list(flow_estimation.flows_of(loaded, iter(seen)))
  assert len(pairs) == 3 + 2
  for pair, i in zip(pairs, (0, 1, 2, 4, 5), strict=True):
    np.testing.assert_array_equal(pair.first, seen[i]["pixels"])
    np.testing.assert_array_equal(pair.second, seen[i + 1]["pixels"])
    assert pair.flow.shape == (20, 24, 2)
  assert all(np.abs(pairs[i].flow).max() > 0 for i in (1, 2, 4))  # after one picture: no motion yet


def test_expected_motion_knows_nothing_of_the_second_picture(expecting):
  seen = ticks(4)
  changed = [*seen[:3], seen[3] | {"pixels": 255 - seen[3]["pixels"]}]
  a, b = ([p.flow for p in flow_estimation.flows_of(expecting, iter(x))] for x in (seen, changed))
  np.testing.assert_array_equal(a, b)
  changed = [*seen[:2], seen[2] | {"pixels": 255 - seen[2]["pixels"]}, seen[3]]
  c = [p.flow for p in flow_estimation.flows_of(expecting, iter(changed))]
  np.testing.assert_array_equal(a[:2], c[:2])
  assert np.abs(a[2] - c[2]).max() > 0


def test_reconstruction_before_prediction_changes_no_flow(expecting):
  """The flow of displacement 0 is no motion to come, and nothing is divided by 0."""
  config = dataclasses.replace(expecting.model.config, displacements=(0, 1))
  other, seen = Loaded(zoo.build(config), expecting.params, None, "nano"), ticks(3)
  flows = [[p.flow for p in flow_estimation.flows_of(x, iter(seen))] for x in (expecting, other)]
  np.testing.assert_allclose(*flows, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in bundled.names() if n.startswith("stream_perceiver/")])
def test_bundled_models_expect_motion_of_one_tick(name):
  assert flow_estimation.flow_displacement(zoo.load(name)[0]) == 1


def test_a_model_that_only_reconstructs_gives_no_flow(expecting):
  config = dataclasses.replace(expecting.model.config, displacements=(0,))
  with pytest.raises(ValueError, match=r"displacements are \(0,\); use one with a displacement of"):
    flow_estimation.flow_displacement(zoo.build(config))


def test_the_truth_beats_no_motion():
  first, second = ticks(2, speed=3.0)
  pair = flow_estimation.Pair(first["pixels"], second["pixels"], first["flow"])
  psnr = flow_estimation.warp_psnr(pair)
  assert psnr["model"] > psnr["zero"] + 3 and psnr["DIS"] > psnr["zero"]
  errors = flow_estimation.end_point_errors(pair, first["flow"])
  assert errors["model"] == 0 and 0 < errors["DIS"] < errors["zero"]
  length = np.hypot(first["flow"][..., 0], first["flow"][..., 1]).mean()
  assert errors["zero"] == pytest.approx(length, rel=1e-5)


def test_unknown_truth_does_not_count_and_a_wrong_size_is_refused():
  (first, second) = ticks(2)
  truth = first["flow"].copy()
  pair = flow_estimation.Pair(
    first["pixels"], second["pixels"], truth + np.asarray([3.0, 4.0], np.float32)
  )
  truth[:5] = np.nan
  assert flow_estimation.end_point_errors(pair, truth)["model"] == pytest.approx(5, rel=1e-5)
  with pytest.raises(ValueError, match="the truth is 24×5, the images are 24×20"):
    flow_estimation.end_point_errors(pair, truth[:5])


def test_the_movie_shows_pictures_beside_flow_and_keeps_all_flows(pairwise, tmp_path):
  pairs = list(flow_estimation.flows_of(pairwise, iter(ticks(4))))
  done = flow_videos.write_video(tmp_path, pairs, save_flows=True)
  assert done.count == 3 and set(done.psnr) == {"model", "zero", "DIS"}
  assert done.max_speed == max(map(flow_videos.speed_of, [p.flow for p in pairs]))
  with av.open(str(tmp_path / "flow.mp4")) as file:
    frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
  assert len(frames) == 3 and frames[0].shape[1] == 2 * 24 * (frames[0].shape[0] // 20)
  middle = frames[1][6::13, 6::13][:20, :24].astype(int)  # 13 pixels each
  assert np.abs(middle - pairs[1].first).mean() < 12
  with np.load(tmp_path / "flows.npz") as file:
    np.testing.assert_array_equal(file["flow_000001"], pairs[1].flow)
    np.testing.assert_allclose(file["time_s"], [[0, 0.04], [0.04, 0.08], [0.08, 0.12]])


def test_a_video_of_one_picture_and_a_bad_folder_are_refused(pairwise, tmp_path):
  with pytest.raises(ValueError, match="fewer than two images at this rate"):
    flow_videos.write_video(tmp_path, flow_estimation.flows_of(pairwise, iter(ticks(1))))
  (tmp_path / "file").touch()
  with pytest.raises(OSError, match="cannot be written to .*; choose another"):
    flow_videos.writable_folder(tmp_path / "file")
  assert flow_videos.writable_folder(tmp_path / "new" / "one").is_dir()


def test_flow_is_drawn_with_the_wheel_in_its_corner():
  flow = np.zeros((45, 50, 2), np.float32)
  drawn = flow_videos.drawn(flow, 1.0)
  np.testing.assert_array_equal(drawn[-9:, -9:], images.flow_legend(9))
  assert (drawn[:36] == 255).all()
  assert flow_videos.speed_of(flow) == 0.5  # noise of a still picture stays pale


def test_a_model_is_loaded_from_wherever_it_is(pairwise, tmp_path):
  path = tmp_path / "flow.safetensors"
  zoo.save(path, pairwise.model, pairwise.params)
  loaded = load(path)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, pairwise.params)
  assert loaded.about == str(path)
  with pytest.raises(FileNotFoundError, match="neither the folder of a run"):
    load("nowhere")
