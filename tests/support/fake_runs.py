"""Folders as a run leaves them."""

import json
import pathlib

import numpy as np
import scenes

from perceiver_stream.modalities import audio, pixels

SIZE, HOP, HORIZON, NUM_MELS, FRAMES = 16, 4, 4, 8, 4
DISPLACEMENTS = (1, 4)


def config_json():
  made = {
    "pixels": {"_type": f"{pixels.Config.__module__}.Config", "height": SIZE, "width": SIZE},
    "audio": {"_type": f"{audio.Config.__module__}.Config", "num_mels": NUM_MELS},
  }
  return {"_type": "x.Config", "seed": 3, "model": {"_type": "y.Config", "modalities": made}}


def line(window, num_windows=40):
  """A line of metrics.jsonl: the model starts as copying and gains 2 dB."""
  gain = 2 * window / num_windows
  scores = {}
  for d in DISPLACEMENTS:
    copy = 30.0 - d
    scores[f"pixels@{d}"] = {
      "count": HOP,
      "model": 10 ** (-(copy + gain) / 10),
      "copy": 10 ** (-copy / 10),
      "extrap": 10 ** (-(copy + 1) / 10),
      "extrap_d": 10 ** (-(copy + 1) / 10),
      "mix": 10 ** (-(copy + 1.5) / 10),
      "model_psnr": copy + gain,
      "copy_psnr": copy,
      "extrap_psnr": copy + 1,
      "extrap_d_psnr": copy + 1,
      "mix_psnr": copy + 1.5,
    }
    scores[f"audio@{d}"] = {"count": HOP, "model": 6.0 - gain, "copy": 6.0}
  return {
    "window": window,
    "ticks": window * HOP,
    "loss": -gain,
    "grad_norm": 1.0 + window,
    "skipped": 0,
    "scores": scores,
  }


def strip_arrays(seed=0):
  rng = np.random.default_rng(seed)
  ticks = HOP + HORIZON
  arrays = {
    "pixels": scenes.moving(ticks, SIZE),
    "audio": rng.uniform(-0.5, 0.5, (ticks, 640)).astype(np.float32),
    "is_first": np.zeros(ticks, bool),
    "timestamp_s": np.arange(ticks) / 25,
  }
  for d in DISPLACEMENTS:
    arrays |= {
      f"pixels@{d}": rng.uniform(size=(HOP, SIZE, SIZE, 3)).astype(np.float32),
      f"pixels_flow@{d}": rng.normal(size=(HOP, SIZE, SIZE, 2)).astype(np.float32),
      f"audio@{d}": rng.uniform(-10, 0, (HOP, FRAMES, NUM_MELS)).astype(np.float32),
      f"pixels@{d}/valid": np.asarray([False, True, True, True]),
      f"pixels@{d}/model": np.asarray([1e-2, 1e-3, 1e-4, 0]),
      f"pixels@{d}/copy": np.asarray([1e-3, 1e-2, 1e-3, 0]),
    }
  return arrays


def make(folder: pathlib.Path, num_windows=40, num_strips=3) -> pathlib.Path:
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "config.json").write_text(json.dumps(config_json()))
  summary = {"finished": True, "stopped_by": "", "version": "0.1", "devices": ["cpu"]}
  (folder / "summary.json").write_text(json.dumps(summary | {"frames_per_s": 12.5}))
  lines = [json.dumps(line(i + 1, num_windows)) + "\n" for i in range(num_windows)]
  (folder / "metrics.jsonl").write_text("".join(lines))
  timing = {"window": 20, "frames_per_s": 11.0, "wait_share": 0.034}
  (folder / "timing.jsonl").write_text(json.dumps(timing) + "\n")
  (folder / "strips").mkdir(exist_ok=True)
  for i in range(num_strips):
    np.savez(folder / "strips" / f"{i + 1:08d}.npz", **strip_arrays(i))
  return folder
