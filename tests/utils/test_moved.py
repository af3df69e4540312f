"""Modules and names of earlier versions still work for one version, with a warning at the caller's line."""

import importlib
import subprocess
import sys

import pytest

from perceiver_stream import inference, training
from perceiver_stream.files import codec
from perceiver_stream.modalities.base import Modality
from perceiver_stream.training import LogConfig
from perceiver_stream.utils.moved import MovedModules

TABLES = [finder.places for finder in sys.meta_path if isinstance(finder, MovedModules)]
PLACES = {old: new for table in TABLES for old, new in table.items()}
NAMES = {
  "evaluate": "evaluate",
  "extract_latents": "extract_latents",
  "load": "load",
  "predict_movie": "predict_video",
  "read_shards": "read_shards",
  "untrained": "untrained",
  "watch": "watch",
}
RENAMED = {
  "evaluation.probes.binding": {"things": "objects"},
  "evaluation.probes.watching": {"apart": "latent_diversity"},
  "evaluation.trackers_online": {"Online": "OnlineTracker", "Said": "TrackChunk"},
  "inference.flow_estimation": {"rebuilt_psnr": "warp_psnr", "rivals": "baseline_flows"},
  "inference.flow_videos": {"write_movie": "write_video"},
  "models.frame_predictors.base": {
    "Canvas": "PatchDecoder",
    "Mover": "FlowPredictor",
    "Painter": "FramePredictor",
    "PainterNetwork": "FramePredictorNetwork",
    "PatchPainter": "PatchFramePredictor",
  },
  "execution": {"Cut": "Partition", "cut": "partition"},
  "inference": {"predict_movie": "predict_video"},
  "inference.tracking": {"follow_points": "track_points", "starter": "make_tracker"},
  "lab.masking": {"OBJECTIVES": "MASKINGS", "Objective": "Masking"},
  "models.point_readout": {"Sight": "Features"},
  "models.stages": {
    "chained": "layer_chain",
    "of_pictures": "image_net",
    "on_pictures": "apply_image_net",
    "piece": "stateless_layer",
    "plain": "scoped_layer",
  },
  "nn": {"captured": "capture_attention", "select": "where_rows", "spread": "shard_axis"},
  "reporting.video_writer": {"MovieWriter": "VideoWriter"},
  "training.objectives.readout_base": {
    "first_sight": "first_features",
    "look": "observe_features",
  },
}


@pytest.mark.parametrize("old", PLACES)
def test_a_moved_module_is_found_under_its_old_name(old: str) -> None:
  new = importlib.import_module(f"perceiver_stream.{PLACES[old]}")
  spec = new.__spec__
  sys.modules.pop(f"perceiver_stream.{old}", None)
  with pytest.warns(DeprecationWarning, match=f"{old} is now perceiver_stream.{PLACES[old]};"):
    assert importlib.import_module(f"perceiver_stream.{old}") is new
  assert new.__spec__ is spec and new.__name__ == f"perceiver_stream.{PLACES[old]}"


@pytest.mark.parametrize("name", NAMES)
def test_names_of_training_that_are_now_of_inference(name: str) -> None:
  with pytest.warns(DeprecationWarning, match=f"training.{name} is now .*inference.{NAMES[name]}"):
    assert getattr(training, name) is getattr(inference, NAMES[name])


@pytest.mark.parametrize("module", RENAMED)
def test_renamed_names_are_found_under_the_old_ones(module: str) -> None:
  found = importlib.import_module(f"perceiver_stream.{module}")
  for old, new in RENAMED[module].items():
    with pytest.warns(DeprecationWarning, match=f"{module}.{old} is now perceiver_stream.*{new};"):
      assert getattr(found, old) is getattr(found, new)
  with pytest.raises(AttributeError, match=f"perceiver_stream.{module}' has no attribute 'other'"):
    _ = found.other


def test_a_modality_with_a_method_of_an_earlier_version_says_its_new_name() -> None:
  with pytest.raises(
    TypeError, match="Touch.canonical is now called preprocess; rename the method"
  ):
    type("Touch", (Modality,), {"canonical": lambda self, raw: raw})


@pytest.mark.parametrize("name", ["painters", "configs/painters.py"])
def test_a_config_of_an_earlier_version_is_found_under_its_old_name(name: str) -> None:
  with pytest.warns(
    FutureWarning, match="--config=painters is now --config=frame_predictors, with"
  ):
    assert "frame_predictors" in training.load_config(f"{name}:nano").run_dir


def test_warnings_are_shown_at_the_line_of_the_script() -> None:
  lines = (
    "from perceiver_stream.reporting import tensorboard",
    "from perceiver_stream.training.logs import TensorBoard",
    "from perceiver_stream.training import watch",
    "assert TensorBoard is tensorboard.TensorBoard",
  )
  command = [sys.executable, "-c", "\n".join(lines)]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert "<string>:2: DeprecationWarning: perceiver_stream.training.logs is now" in done.stderr
  assert "<string>:3: DeprecationWarning: perceiver_stream.training.watch is now" in done.stderr


def test_a_module_that_never_was_is_not_found() -> None:
  with pytest.raises(ModuleNotFoundError, match="training.no_such"):
    importlib.import_module("perceiver_stream.training.no_such")


def test_a_config_of_a_run_of_an_earlier_version_names_the_old_module() -> None:
  old = {"_type": "perceiver_stream.training.logs.LogConfig", "print_every": 3}
  assert codec.from_dict(old) == LogConfig(print_every=3)
  assert codec.type_name(LogConfig) == "perceiver_stream.training.LogConfig"
