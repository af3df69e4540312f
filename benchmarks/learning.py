"""Learning curves of runs as one plot, and a table of their last quarters.

  python benchmarks/learning.py runs/moog_tiny runs/rvm_tiny --output=docs/images/zoo_training.png

One panel per run, output and displacement, with the model and its baselines,
smoothed as in the report. The table is Markdown: the mean over the targets of the last quarter,
each scored before the update that uses it. With --mean_of_past there is one more line for each run
that predicts images: the score of the mean of all earlier images, a strong baseline in a scene
that keeps returning (every 16th tick is used).
"""

import argparse
import pathlib
from collections.abc import Sequence

import numpy as np

from perceiver_stream import streams, training
from perceiver_stream.reporting import curves
from perceiver_stream.reporting.runs import SHARE, Series, last_share, read_run
from perceiver_stream.reporting.scores import psnr

COLUMNS = 4
EVERY = 16  # ticks between those used for the mean of the past


def table(runs: dict[str, list[Series]]) -> str:
  """Returns the last quarter of every output of every run, as Markdown."""
  lines = ["| run | output | metric | model | baselines | gain |", "|---|---|---|---|---|---|"]
  for run, all_series in runs.items():
    for series in all_series:
      late = last_share(series.ticks)
      mean = {name: series.mean(name, late) for name in series.values}
      beside = [
        f"{curves.LABELS.get(name, name)} {value:.4g}"
        for name, value in mean.items()
        if name != "model" and value is not None
      ]
      gain = series.gain(series.reference, late)
      cells = [run, series.key, series.metric, _number(mean.get("model")), ", ".join(beside)]
      lines.append(f"| {' | '.join([*cells, _number(gain, '+')])} |")
  return "\n".join(lines)


def draw(runs: dict[str, list[Series]], path: pathlib.Path) -> None:
  """Writes the curves of all runs as a PNG."""
  from matplotlib.figure import Figure

  panels = [(run, series) for run, all_series in runs.items() for series in all_series]
  columns = min(COLUMNS, len(panels))
  rows = -(-len(panels) // columns)
  figure = Figure(figsize=(3.6 * columns, 2.3 * rows), layout="constrained", dpi=64)
  axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
  for axis in axes[len(panels) :]:
    axis.set_visible(False)
  for axis, (run, series) in zip(axes, panels, strict=False):
    width = max(1, len(series.ticks) // 16)
    in_front = sorted(series.values.items(), key=lambda item: item[0] == "model")
    styles = curves.styles_of(series.values)
    for name, values in in_front:
      smoothed = curves.smooth(values, series.counts, width)
      axis.plot(series.ticks, smoothed, label=curves.LABELS.get(name, name), **styles[name])
    axis.set_title(f"{run}: {series.key}", fontsize=9)
    axis.set_ylabel(series.metric, fontsize=8)
    axis.legend(fontsize=7, frameon=False)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path)


def mean_of_past(config: training.ExperimentConfig, num_ticks: int) -> float:
  """Returns the PSNR of the mean of all earlier images, over the last quarter of `ticks`."""
  errors = []
  for row in streams.open_rows(config.stream, config.num_rows):
    pictures, total = iter(row), 0.0
    for count, tick in enumerate(range(0, num_ticks, EVERY)):
      pictures.set_state({"tick": tick})
      picture = next(pictures)["pixels"] / 255.0
      if count and tick >= (1 - SHARE) * num_ticks:
        errors.append(np.mean(np.square(picture - total / count)))
      total = total + picture
  return float(np.mean(psnr(np.asarray(errors))))


def means(folders: Sequence[str]) -> list[str]:
  """Returns a line of the table for each run on the synthetic world that predicts images."""
  lines = []
  for folder in map(pathlib.Path, folders):
    run = read_run(folder)
    config = training.from_json((folder / "config.json").read_text())
    if any(series.modality == "pixels" for series in run.series()):
      value = _number(mean_of_past(config, run.lines[-1]["ticks"]))
      lines.append(f"| {folder.name} | pixels | PSNR, dB | | mean of the past {value} | |")
  return lines


def _number(value: float | None, sign: str = "") -> str:
  return "–" if value is None or not np.isfinite(value) else f"{value:{sign}.4g}"


def main(argv: Sequence[str] | None = None) -> None:
  """Prints the table and draws the curves of the runs named."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("runs", nargs="+", help="folders of runs")
  parser.add_argument("--output", default="", help="PNG to write the curves to")
  parser.add_argument("--mean_of_past", action="store_true", help="also score the mean image")
  options = parser.parse_args(argv)
  runs = {pathlib.Path(run).name: read_run(run).series() for run in options.runs}
  print("\n".join([table(runs), *(means(options.runs) if options.mean_of_past else [])]))
  if options.output:
    draw(runs, pathlib.Path(options.output))


if __name__ == "__main__":
  main()
