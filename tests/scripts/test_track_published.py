"""Released files of trackers with slots, through `convert` and `track`: a stranger's whole way.

The files are small random instances with the names, shapes and containers of the releases; frames
have the model's size, so that the tracks are those of the network itself, called directly.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import synthetic_movie
from golden import Golden
from published import golden_files, jitted

from perceiver_stream import streams
from perceiver_stream.inference.track_videos import read_points
from perceiver_stream.models.mapping import export_params
from perceiver_stream.models.tapir import Config
from perceiver_stream.models.tapnext import TapNext
from perceiver_stream.zoo import point_trackers

TICKS, POINTS = 11, "0,20.5,10.25;5,4,10"
TAPNEXT = golden_files("tapnext")[0].values[0]
TAPIR = golden_files("tapir_online")[0].values[0]


@functools.cache
def released(kind):
  """Returns the arrays of a file, the config that belongs to it, and what its shapes do not show."""
  if kind == "tapnext":
    golden = Golden(TAPNEXT)
    size = golden.hyper["height"], golden.hyper["width"]
    return golden.part("params/"), None, {"height": size[0], "width": size[1], "table": size}
  names = json.loads(pathlib.Path(TAPIR).read_text())["haiku_parameters"]
  size = {"height": 16, "width": 24, "initial_size": (16, 24), "num_iterations": 1}
  config = Config(**size, stem=4, high_dim=4, middle_dim=8, low_dim=8, mixer_dim=16)
  tracker = point_trackers.build(config)
  rng = np.random.default_rng(0)
  random = lambda x: (0.3 * rng.normal(size=x.shape)).astype(np.float32)  # noqa: E731
  params = jax.tree.map(random, point_trackers.template(tracker))
  flat = export_params(params, point_trackers.family(config).rules(config))
  assert set(flat) == set(names)  # the names of the release; its widths are larger
  return flat, config, size


def write(kind, flat, folder):
  """Writes a file as it is released: a flat .npz, or a pickled tree of Haiku in .npy."""
  if kind == "tapnext":
    np.savez(folder / "released.npz", **flat)
    return folder / "released.npz"
  tree = {}
  for name, value in flat.items():
    module, leaf = name.rsplit("/", 1)
    tree.setdefault(module, {})[leaf] = value
  np.save(folder / "released.npy", {"params": tree, "state": {}}, allow_pickle=True)  # type: ignore[arg-type]
  return folder / "released.npy"


def options(changes):
  return ["--set", *(f"{name}={value}".replace(" ", "") for name, value in changes.items())]


@pytest.mark.parametrize("kind", ["tapnext", "tapir"])
def test_a_released_file_is_converted_and_tracks_a_video(command, kind, tmp_path):
  flat, config, changes = released(kind)
  path, target = write(kind, flat, tmp_path), tmp_path / "tracker.safetensors"
  movie = synthetic_movie(tmp_path / "in.mp4", TICKS, (changes["height"], changes["width"]))
  assert f"{target}: {kind}, " in command("convert", path, f"--output={target}", *options(changes))
  loaded = point_trackers.load(target)
  assert config is None or loaded.tracker.config == config
  out = command("track", movie, f"--points={POINTS}", f"--model={target}", f"--output={tmp_path}")
  assert f"2 points, {TICKS} frames" in out
  with np.load(tmp_path / "tracks.npz") as file:
    tracks, visible, sure = (file[name] for name in ("tracks", "visible", "certainty"))
  assert np.isfinite(tracks[0]).all() and np.isfinite(tracks[1, 5:]).all()
  assert np.isnan(tracks[1, :5]).all() and not visible[1, :5].any()
  assert np.all((sure[0] >= 0) & (sure[0] <= 1))
  if kind == "tapnext":
    np.testing.assert_allclose(tracks[0, :5], expected(movie, loaded, TAPNEXT)[:5], atol=0.01)


def expected(movie, loaded, path):
  """Returns the positions (x, y) of the first point by the network alone, before the second comes."""
  config, (query, *_) = loaded.tracker.config, read_points(POINTS)
  size = {"height": config.height, "width": config.width}
  ticks = streams.open_rows(streams.video.picture_by_picture(str(movie), 0.0, **size))[0]
  video = np.stack([t["pixels"] for t in ticks])[None].astype(np.float32) / 127.5 - 1
  args = jnp.asarray(video), jnp.asarray(query, jnp.float32)[None, None, None]
  run = jitted(lambda: TapNext(config), "__call__")
  found = run(loaded.params, *args, jnp.ones((1, 1, 1), bool))[0][-1]
  return np.asarray(found.position)[0, 0, :, ::-1]


@pytest.mark.parametrize("kind", ["tapnext", "tapir"])
def test_wrong_files_are_one_message_that_names_what_to_change(command, kind, tmp_path):
  flat, _, changes = released(kind)
  movie, points = tmp_path / "gone.mp4", f"--points={POINTS}"
  run = lambda path: command("track", movie, points, f"--model={path}")  # noqa: E731
  synthetic_movie(movie, 2, (16, 24))
  name = sorted(flat)[len(flat) // 2]
  rest = {n: x for n, x in flat.items() if n != name}
  with pytest.raises(SystemExit, match=f"1 missing: {name} .* Give the right file, or the sizes"):
    run(write(kind, rest, tmp_path))
  wrong = flat | {name: np.zeros((5, *flat[name].shape), np.float32)}
  with pytest.raises(SystemExit, match=rf"wrong shape: .*{name} is \[5, .*convert --set height="):
    run(write(kind, wrong, tmp_path))
  with pytest.raises(SystemExit, match="unknown|are no fields of the config"):
    target = f"--output={tmp_path / 'x.safetensors'}"
    command("convert", write(kind, flat, tmp_path), target, *options(changes | {"wings": 2}))


def test_a_file_of_no_model_names_the_families_of_which_files_are_known(command, tmp_path):
  np.savez(tmp_path / "other.npz", a=np.zeros(3))
  synthetic_movie(tmp_path / "in.mp4", 2, (16, 24))
  with pytest.raises(SystemExit, match=r"first \['a'\].*of the trackers tapir, tapnext"):
    command("track", tmp_path / "in.mp4", "--grid=2", f"--model={tmp_path / 'other.npz'}")
