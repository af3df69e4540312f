"""Learning curves of Sideways, Skip-Sideways, the pipeline's exact gradient, and backprop.

  python benchmarks/depth_parallel_curves.py
  python benchmarks/depth_parallel_curves.py --markdown=docs/depth_parallel.md --plot=docs/images/depth_parallel_curves.png

The nano model processes the synthetic world once, in order, and predicts its images, as
`scripts/train.py --config.execution=...` trains: each prediction is scored before the update that
uses it. Every rule is run with the same learning rates; the best of each is shown. Every layer is a
stage, so all but backprop predict from input that is 4 ticks old. Runs are stored under --output:
interrupted ones are resumed, finished ones are read.
"""

import dataclasses
import pathlib

import common
import numpy as np

import perceiver_stream
from perceiver_stream import training
from perceiver_stream.reporting import curves
from perceiver_stream.reporting.runs import Run, Series, last_share, read_run
from perceiver_stream.streams import synthetic
from perceiver_stream.training.config import EXECUTIONS

RULES = {
  "sequential": "backprop, one stage",
  "pipelined": "exact gradient of the pipeline",
  "sideways": "Sideways",
  "skip_sideways": "Skip-Sideways",
}
RATES = (1e-3, 3e-3, 1e-2)
AHEAD = (1, 4)


def experiment(execution: str, rate: float, windows: int, run_dir: str):
  """Returns the config of one run."""
  model = perceiver_stream.config("stream_perceiver/nano")
  pixels = model.modalities["pixels"]
  return training.ExperimentConfig(
    model=dataclasses.replace(model, modalities={"pixels": pixels}, displacements=AHEAD),
    stream=synthetic.Config(height=pixels.height, width=pixels.width, modalities=("pixels",)),
    optimizer=training.OptimizerConfig(learning_rate=rate, warmup_steps=20),
    logging=training.LogConfig(
      print_every=100, strips_every=0, use_tensorboard=False, use_report=False
    ),
    use_baselines=False,
    execution=execution,
    max_windows=windows,
    run_dir=run_dir,
  )


def ran(execution: str, rate: float, windows: int, folder: pathlib.Path) -> Run:
  """Returns a run to its end, after training its missing windows.

  Raises:
    KeyboardInterrupt: The run was stopped; the same command resumes it.
  """
  path = folder / f"{execution}_{rate:g}_{windows}"
  if not (path.is_dir() and read_run(path).summary.get("finished")):
    summary = training.train(experiment(execution, rate, windows, str(path)))
    if not summary.finished:
      raise KeyboardInterrupt(f"{path} was stopped; the same command goes on")
  return read_run(path)


def error_over_copying(series: Series) -> float:
  """Returns the mean ratio of the error to that of copying over the last quarter.

  A ratio of geometric means: scores are in dB.
  """
  gain = series.gain("copy", last_share(series.ticks))
  assert gain is not None
  return 10 ** (-gain / 10)


def best_of(runs: dict[float, Run]) -> float:
  """Returns the rate with the smallest errors over all displacements, as a geometric mean."""
  mean = lambda run: np.mean([np.log(error_over_copying(s)) for s in run.series()])  # noqa: E731
  return min(runs, key=lambda rate: mean(runs[rate]))


def tables(runs: dict[str, dict[float, Run]], windows: int) -> list[common.Table]:
  rows, tries = [], []
  for execution, by_rate in runs.items():
    best = best_of(by_rate)
    for series in by_rate[best].series():
      late = last_share(series.ticks)
      scores = [series.mean(name, late) for name in ("model", "copy")]
      ratio = error_over_copying(series)
      rows.append([RULES[execution], f"{best:g}", series.displacement, *scores, ratio])
    ratios = [error_over_copying(s) for run in by_rate.values() for s in run.series()]
    tries.append([RULES[execution], *ratios])
  rows.sort(key=lambda row: row[2])
  note = f"Means over the last quarter of {windows} windows of 8 ticks; one run each, one seed."
  columns = ["rule", "rate", "ticks ahead", "PSNR, dB", "copying, dB", "x error of copying"]
  found = common.Table("Learning curves, last quarter", columns, rows, note)
  titles = [f"x copying, {rate:g}, {d} ahead" for rate in next(iter(runs.values())) for d in AHEAD]
  return [found, common.Table("All learning rates", ["rule", *titles], tries)]


def draw(runs: dict[str, dict[float, Run]], path: pathlib.Path) -> None:
  """Writes the gain over copying of every rule's best run, by displacement."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(9, 3.2), layout="constrained", dpi=80)
  axes = figure.subplots(1, len(AHEAD))
  for execution, by_rate in runs.items():
    for axis, series in zip(axes, by_rate[best_of(by_rate)].series(), strict=True):
      gains = series.values["model"] - series.values["copy"]
      smoothed = curves.smooth(gains, series.counts, max(1, len(gains) // 12))
      axis.plot(series.ticks, smoothed, label=RULES[execution], linewidth=1.5)
  for axis, ahead in zip(axes, AHEAD, strict=True):
    axis.axhline(0, color="0.5", linewidth=1)
    axis.set_title(f"{ahead} tick{'s' if ahead > 1 else ''} ahead", fontsize=10)
    axis.set_xlabel("ticks seen")
  axes[0].set_ylabel("gain over copying, dB of PSNR")
  axes[-1].legend(frameon=False, fontsize=8)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path)


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals(), {"windows": 300, "plot": ""})
  about = common.machine()
  executions, rates, windows = EXECUTIONS, RATES, options.windows
  if options.tiny:
    executions, rates, windows = EXECUTIONS[:1], RATES[:1], 3
  folder = pathlib.Path(options.output) / "depth_parallel_curves"
  runs: dict[str, dict[float, Run]] = {execution: {} for execution in executions}
  for rate in rates:  # so that all rules have the same rates, wherever it is stopped
    for execution, by_rate in runs.items():
      by_rate[rate] = ran(execution, rate, windows, folder)
  if options.plot:
    draw(runs, pathlib.Path(options.plot))
  common.publish("depth_parallel_curves", options, tables(runs, windows), about)


if __name__ == "__main__":
  main()
