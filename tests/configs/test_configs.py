"""Every config builds every variant, and takes two steps of training at the smallest."""

import games
import numpy as np
import pytest
from extras import need

from perceiver_stream import streams, training, zoo
from perceiver_stream.reporting.video_writer import VideoWriter
from perceiver_stream.streams import shard_writer, video
from perceiver_stream.training.config import from_json, to_json
from perceiver_stream.training.flags import config_files

FILES = config_files()
VARIANTS = {name: tuple(family.variants) for name, family in zoo.FAMILIES.items()} | {
  "active": ("nano", "adaptive", "control"),
  "autoencoder": ("nano", "tiny", "shards", "kinetics"),
  "brave": ("nano", "tiny"),
  "flow": ("nano", "tiny", "published"),
  "moog": ("nano", "tiny", "movi", "nano_future"),
  "frame_predictors": ("nano", "trecvit", "image_rnn", "conv3d", "video_autoencoder"),
  "pretrain": (
    "nano",
    "tiny",
    "tiny_latent_embed",
    "tiny_bottleneck",
    "tiny_grid_bound",
    "tiny_motion",
    "moog",
  ),
  "rooms": (
    "nano",
    "tiny_odometry",
    "tiny_odometry_conv",
    "tiny_odometry_pose",
    "tiny_odometry_conv_pose",
  ),
  "rvm": ("nano", "tiny", "small", "nano_future"),
  "synthetic": (
    "nano",
    "tiny",
    "small",
    "base",
    "tiny_positions_pieces",
    "nano_positions_window_pieces",
  ),
  "self_supervised": ("nano", "tiny"),
  "tracking": ("nano", "tiny_boxes", "tiny_dense", "motion_flow", "moog_latents"),
  "latent_prediction": ("nano", "tiny"),
  "vjepa": ("nano", "tiny"),
}
SCORED = dict.fromkeys(zoo.FAMILIES, {"pixels@1"}) | {
  "active": {"cost@0"},
  "autoencoder": {"audio@0", "pixels@0"},
  "brave": {"views@0"},
  "flow": {"flow@0"},
  "frame_predictors": {"pixels@1", "pixels_flow@1"},
  "pretrain": {"pixels@1"},
  "rooms": {"depth@0", "rotation@0", "direction@0"},
  "self_supervised": {"method@0"},
  "tracking": {"points@0"},
  "latent_prediction": {"latents@1"},
  "vjepa": {"features@0"},
}
CASES = [(n, v) for n in FILES for v in VARIANTS.get(n, ("nano", "tiny", "small", "base"))]


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
  """Two seconds of a moving bar, with a tone."""
  path = tmp_path_factory.mktemp("movie") / "a.mp4"
  with VideoWriter(path, rate_hz=25, audio_rate_hz=16000, min_side=1) as writer:
    for i in range(50):
      picture = np.full((48, 64, 3), 60, np.uint8)
      picture[:, i : i + 8] = (220, 150, 40)
      writer.write_frame(picture)
    writer.write_sound(0.3 * np.sin(np.arange(32000) / 9, dtype=np.float32))
  return path


@pytest.fixture(scope="module")
def sharded(movie, tmp_path_factory):
  """The same in shards, of the size and rates of the model."""
  folder = str(tmp_path_factory.mktemp("shards") / "a")
  shard_writer.write(video.Config(path=str(movie), height=16, width=16), folder)
  return folder


@pytest.mark.parametrize("name, variant", CASES)
def test_every_variant_is_valid_fits_its_stream_and_round_trips(name, variant, sharded):
  config = training.load_config(f"{name}:{variant}")
  if "shards" in (name, variant):
    config.stream.path = sharded
  config.validate()
  assert variant in config.run_dir
  specs = streams.specs(config.stream)
  for modality, part in getattr(config.model, "modalities", {}).items():
    # The model takes whatever size the shards have.
    assert part.spec.shape == specs[modality].shape or modality == "audio" or name == "shards"
  assert from_json(to_json(config)) == config


@pytest.mark.parametrize("name", FILES)
def test_the_smallest_takes_two_steps(name, tmp_path, movie, sharded):
  if name in ("vizdoom", "mujoco"):
    need(name)
  if name == "vizdoom" and not games.HAS_SOUND:
    pytest.skip(games.NO_SOUND)
  config = training.load_config(f"{name}:nano")
  config.run_dir, config.max_windows = str(tmp_path / "run"), 2
  config.logging.use_tensorboard = config.logging.use_report = False
  if hasattr(config.model, "displacements"):
    config.model.displacements = (1,)  # compiles in a third of the time
  if hasattr(config.stream, "path"):
    config.stream.path = sharded if name == "shards" else str(movie)
  if name == "live":
    config.stream.source = "lavfi:testsrc=rate=25[out0];sine[out1]"
  summary = training.train(config)
  assert summary.windows == 2 and summary.finished and summary.skipped == 0
  assert SCORED.get(name, {"audio@1", "pixels@1"}) <= set(summary.gains)


@pytest.mark.parametrize("old", ["apart", "blind", "grid", "motion"])
def test_old_names_of_variants_are_those_of_today_with_a_warning(old):
  with pytest.warns(DeprecationWarning, match=f"pretrain:{old} is now pretrain:tiny_") as caught:
    config = training.load_config(f"pretrain:{old}")
  new = str(caught[0].message).partition("now ")[2].partition(",")[0]
  assert config == training.load_config(new)


def test_variants_have_a_name():
  with pytest.raises(ValueError, match="Did you mean 'stream_perceiver/tiny'"):
    training.load_config(f"{FILES['online']}:tny")


def test_rooms_refuse_unknown_variants():
  with pytest.raises(ValueError, match="tiny_odometry_poses. is none of nano, tiny_odometry"):
    training.load_config("rooms:tiny_odometry_poses")
