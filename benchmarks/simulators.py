"""Speed of the simulators, and the scores of averages without any input on ViZDoom.

  python benchmarks/simulators.py
  python benchmarks/simulators.py --run=runs/vizdoom_tiny    # and draw the curves of a run with them

The second table is of the stream of `configs/vizdoom.py:tiny`: errors over the last quarter, in the
metrics of the run, of copying and of predictors without input: per pixel (or per band of the
spectrum) the most common class, and the mean of the logarithm, of all earlier ticks. A simulator
that is not installed is left out.
"""

import itertools
import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import common
import jax
import numpy as np

from perceiver_stream import modalities, streams, training
from perceiver_stream.streams import mujoco, rooms, synthetic, vizdoom

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "vizdoom.py"


def speed(config: streams.StreamConfig, num: int) -> tuple[float, float] | None:
  """Returns ticks per second of wall time and of CPU time, the game's included.

  The start counts only for the CPU. None if the simulator does not start.
  """
  used = sum(os.times()[:4])
  iterator = iter(streams.open_rows(config)[0])
  try:
    next(iterator)
  except (ImportError, RuntimeError) as error:
    print(error, file=sys.stderr)
    return None
  start = time.perf_counter()
  for _ in itertools.islice(iterator, num):
    pass
  seconds = time.perf_counter() - start
  iterator.close()
  return num / seconds, num / (sum(os.times()[:4]) - used)


def speeds(num: int) -> list[list[Any]]:
  """Returns rows of the first table."""
  doom = {"height": 64, "width": 64, "wad": "deathmatch"}
  configs = {
    "synthetic, 64 x 64, 25 Hz": synthetic.Config(),
    "rooms, 64 x 64, hard": rooms.Config(level="hard"),
    "ViZDoom, 64 x 64, 35 Hz": vizdoom.Config(**doom),
    "ViZDoom, 64 x 64, 5 Hz": vizdoom.Config(**doom, rate_hz=5.0),
    "ViZDoom, 64 x 64, 5 Hz, images only": vizdoom.Config(
      **doom, rate_hz=5.0, modalities=("pixels",)
    ),
    "MuJoCo, 64 x 64, 25 Hz": mujoco.Config(),
    "MuJoCo, 64 x 64, 25 Hz, all": mujoco.Config(modalities=mujoco.MODALITIES),
  }
  found = {name: speed(config, num) for name, config in configs.items()}
  return [
    [name, *rates, rates[1] / configs[name].rate_hz] for name, rates in found.items() if rates
  ]


class Average:
  """The mean of all values so far, or the most common of their one-hot classes."""

  def __init__(self, num_classes: int = 0):
    self.num_classes, self.count, self.sum = num_classes, 0, np.zeros(())

  def predict(self) -> np.ndarray:
    """Returns the prediction for any later tick."""
    return self.sum if self.num_classes else self.sum / max(1, self.count)

  def add(self, value: np.ndarray) -> None:
    """Adds a tick."""
    hot = value[..., None] == np.arange(self.num_classes) if self.num_classes else value
    self.sum, self.count = self.sum + hot.astype(np.float64), self.count + 1


def blind(config: training.ExperimentConfig, num: int) -> list[list[Any]]:
  """Returns rows of the second table: errors of copying and of averages, by displacement."""
  iterator = iter(streams.open_rows(config.stream)[0])
  specs = streams.specs(config.stream)
  readers = {
    name: modalities.build(name, c.fitted(specs[name]))
    for name, c in config.model.modalities.items()
  }
  target = {n: jax.jit(lambda x, m=m: m.target(m.preprocess(x))) for n, m in readers.items()}
  metric = {n: jax.jit(m.metric) for n, m in readers.items()}
  averages = {n: Average(getattr(m.config, "num_classes", 0)) for n, m in readers.items()}
  past: list[Mapping[str, np.ndarray]] = []
  errors: dict[tuple[str, int], list[tuple[float, ...]]] = {}
  longest = max(config.model.displacements)
  for at, tick in enumerate(itertools.islice(iterator, num)):
    targets = {n: np.asarray(make(tick[n][None]))[0] for n, make in target.items()}
    for (name, reader), d in itertools.product(readers.items(), config.model.displacements):
      if at >= 0.75 * num and len(past) >= longest:
        guesses = (past[-d][name], averages[name].predict())
        errors.setdefault((name, d), []).append(
          tuple(_error(metric[name], g, targets[name], reader) for g in guesses)
        )
    for name, average in averages.items():
      average.add(targets[name])
    past = [*past[1 - longest :], targets]
  iterator.close()
  rows = []
  for (name, d), pairs in errors.items():
    copy, average = np.mean(pairs, axis=0)
    what = readers[name].metric_name
    if name == "pixels":
      what = "PSNR, dB"
      decibels = -10 * np.log10(np.maximum(np.array(pairs), 1e-6))  # of each frame, at most 60
      copy, average = np.mean(decibels, axis=0)
    rows.append([f"{name}@{d}", what, float(copy), float(average), float(average / copy)])
  return rows


def _error(metric: Any, guess: np.ndarray, target: np.ndarray, reader: Any) -> float:
  if reader.metric_name == "pixel_error":  # of classes, or of their frequencies
    classes = guess if guess.ndim == target.ndim else np.argmax(guess, -1)
    return float(np.mean(classes != target))
  return float(metric(guess[None].astype(np.float32), target[None])[0])


def draw(run: pathlib.Path, rows: list[list[Any]], path: pathlib.Path) -> None:
  """Writes the curves of a run, smoothed over about a minute, with copying and averages."""
  from matplotlib import pyplot

  lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
  scores = [line["scores"] for line in lines if "scores" in line]
  figure, axes = pyplot.subplots(2, len(rows) // 2, figsize=(11, 4.6), layout="constrained")
  for axis, (name, metric, _, average, _) in zip(axes.T.ravel(), rows, strict=True):
    found = [score[name] for score in scores if name in score]
    seen = np.cumsum([one["count"] for one in found])
    end = "_psnr" if name.startswith("pixels") else ""
    for by, colour in (("mix", "#15803d"), ("copy", "#6b7280"), ("model", "#1d4ed8")):
      if by + end in found[-1]:
        values = np.array([one.get(by + end, np.nan) for one in found])
        smooth = np.convolve(values, np.full(40, 1 / 40), "valid")
        axis.plot(seen[len(seen) - len(smooth) :], smooth, color=colour, label=by)
    axis.axhline(average, color="#9333ea", linestyle=":", label="average (last quarter)")
    axis.set_title(f"{name}, {'PSNR, dB' if end else metric}", fontsize=9)
    axis.tick_params(labelsize=7)
  axes[0][0].legend(fontsize=7, frameon=False)
  figure.supxlabel("ticks seen", fontsize=8)
  figure.savefig(path, dpi=75)


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals(), {"run": ""})
  about = common.machine()
  tables = [
    common.Table(
      "Ticks a second of simulators",
      ["stream", "ticks/s", "ticks/CPU s", "x real time of a CPU"],
      speeds(5 if options.tiny else 500),
      "Pictures, sound, depth and labels (MuJoCo: and flow), where nothing else is said.",
    )
  ]
  config = training.load_config(f"{CONFIG}:{'nano' if options.tiny else 'tiny'}")
  num = 24 if options.tiny else config.stream.max_ticks
  if speed(config.stream, 1) is not None:
    columns = ["modality@ticks", "metric", "copy-last", "average", "x copy-last"]
    note = f"Last quarter of {num} ticks."
    rows = blind(config, num)
    tables.append(common.Table("Copying and averages", columns, rows, note))
    if options.run:
      draw(pathlib.Path(options.run), rows, pathlib.Path(options.output) / "vizdoom.png")
  common.publish("simulators", options, tables, about)


if __name__ == "__main__":
  main()
