"""Scores and course of a run from its files, whatever state it is in: running, stopped, cut off.

See `run_files` for the files. Records that cannot be read are skipped and counted.
"""

import pathlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from perceiver_stream import modalities, zoo
from perceiver_stream.files import codec
from perceiver_stream.reporting import run_files
from perceiver_stream.reporting.run_files import is_number
from perceiver_stream.reporting.score_keys import (
  COUNT,
  MODEL,
  PSNR,
  ScoreKey,
  is_score_key,
  pixels_first,
  reference,
)
from perceiver_stream.utils.paths import user_path

SHARE = 0.25  # of the run, at its end, that the headline is taken from


class Series(NamedTuple):
  """One output at one displacement over a run, scored prequentially.

  Attributes:
    modality: Name of the output.
    displacement: Ticks ahead.
    metric: Name of the metric with its unit.
    higher_is_better: True for PSNR.
    ticks: Ticks done at the end of each window.
    counts: Targets scored in each window.
    values: Mean score of each window by predictor (`model`, `copy`, …); NaN where there is none.
  """

  modality: str
  displacement: int
  metric: str
  higher_is_better: bool
  ticks: Float[np.ndarray, " N"]
  counts: Float[np.ndarray, " N"]
  values: dict[str, Float[np.ndarray, " N"]]

  @property
  def key(self) -> str:
    """The output and displacement as text, as in `metrics.jsonl`."""
    return str(ScoreKey(self.modality, self.displacement))

  @property
  def reference(self) -> str:
    """The baseline that gains are over; see `reference`."""
    return reference(self.values) or "copy"

  @property
  def has_baseline(self) -> bool:
    """False for a measure of the model alone, which has no gains."""
    return bool(set(self.values) - {MODEL})

  def mean(self, predictor: str, where: np.ndarray) -> float | None:
    """Returns the mean over the targets of the windows in the mask `where`; None if there are none."""
    values = self.values.get(predictor, np.full(len(self.ticks), np.nan))
    weights = np.where(where & np.isfinite(values), self.counts, 0.0)
    if not weights.sum():
      return None
    return float(np.sum(weights * np.nan_to_num(values)) / weights.sum())

  def gain(self, over: str, where: np.ndarray, of: str = "model") -> float | None:
    """Returns the gain of one predictor over another there, in the metric's unit; above 0 is better."""
    mine, other = self.mean(of, where), self.mean(over, where)
    if mine is None or other is None:
      return None
    return mine - other if self.higher_is_better else other - mine


@dataclass
class Run:
  """Contents of a run's folder.

  Attributes:
    folder: Path of the folder.
    config: The experiment's config as JSON.
    summary: Contents of summary.json; empty during the run.
    lines: Records of metrics.jsonl.
    timing: Records of timing.jsonl.
    strips: Film strips, in order.
    num_broken: Lines that could not be read.
  """

  folder: pathlib.Path
  config: dict[str, Any] = field(default_factory=dict)
  summary: dict[str, Any] = field(default_factory=dict)
  lines: list[dict[str, Any]] = field(default_factory=list)
  timing: list[dict[str, Any]] = field(default_factory=list)
  strips: list[run_files.Strip] = field(default_factory=list)
  num_broken: int = 0

  def modalities(self) -> dict[str, modalities.Modality]:
    """Returns the modalities of the run's model whose config can be read."""
    model = self.config.get("model")
    parts = model.get("modalities") if isinstance(model, dict) else None
    if parts is None:
      return _modalities_of_family(model)
    made = {name: _modality(name, fields) for name, fields in (parts or {}).items()}
    return {name: modality for name, modality in made.items() if modality is not None}

  def series(self) -> list[Series]:
    """Returns the scores of every output and displacement, in that order."""
    known = self.modalities()
    scored = [line for line in self.lines if isinstance(line.get("scores"), dict)]
    keys = {ScoreKey.parse(key) for line in scored for key in line["scores"] if is_score_key(key)}
    return [_series(key, scored, known) for key in sorted(keys, key=pixels_first)]

  def column(self, name: str, source: str = "lines") -> Float[np.ndarray, "N 2"]:
    """Returns (tick, value) of a scalar in the log, such as `loss`."""
    rows = self.timing if source == "timing" else self.lines
    hop = self.hop()
    at = lambda row: row.get("ticks", row.get("window", np.nan) * hop)  # noqa: E731
    pairs = [(at(row), row[name]) for row in rows if is_number(row.get(name))]
    return np.asarray(pairs, float).reshape(-1, 2)

  def non_finite(self) -> dict[str, int]:
    """Returns the number of non-finite observations of the whole run, by modality."""
    found: dict[str, int] = {}
    for line in self.lines:
      counts = line.get("non_finite")
      for name, count in counts.items() if isinstance(counts, dict) else ():
        if is_number(count):
          found[name] = max(found.get(name, 0), int(count))
    return found

  def changes(self) -> list[tuple[int, str, str]]:
    """Returns (first window, field, "old -> new") of the config's fields changed on resume."""
    resumed = [line for line in self.lines if isinstance(line.get("changed"), dict)]
    return [
      (int(line.get("window", 0)), field, str(change))
      for line in resumed
      for field, change in line["changed"].items()
    ]

  def hop(self) -> float:
    """Returns the ticks from one window to the next."""
    line = next((x for x in self.lines if x.get("window") and x.get("ticks")), None)
    return line["ticks"] / line["window"] if line else 1.0


def read_run(run_dir: str | pathlib.Path) -> Run:
  """Returns the readable contents of a run's folder.

  Raises:
    FileNotFoundError: There is no such folder.
  """
  folder = user_path(run_dir)
  if not folder.is_dir():
    raise FileNotFoundError(
      f"run {str(folder)!r}: there is no such folder; name the run_dir of a training run."
    )
  lines, broken = run_files.read_lines(folder / run_files.METRICS)
  timing, more_broken = run_files.read_lines(folder / run_files.TIMING)
  return Run(
    folder=folder,
    config=run_files.read_object(folder / run_files.CONFIG),
    summary=run_files.read_object(folder / run_files.SUMMARY),
    lines=lines,
    timing=timing,
    strips=run_files.find_strips(folder),
    num_broken=broken + more_broken,
  )


def summarise(run_dir: str | pathlib.Path) -> dict[str, Any]:
  """Returns the headline of a run as JSON can hold it; see `summarise_run`."""
  return summarise_run(read_run(run_dir))


def summarise_run(run: Run) -> dict[str, Any]:
  """Returns the mean scores over the last quarter of a run, with the baselines.

  Returns:
    `windows`, `ticks`, `skipped`, `loss` (last quarter), `frames_per_s`, `wait_share`, and
    `scores`: by `"<modality>@<displacement>"` the `metric`, `higher_is_better`, the number of
    targets (`count`), the mean of each predictor (weighted by targets; for images the mean of
    dB over frames), and `gain_over_<baseline>`, above 0 where the model is better;
    `first_gain_over_<reference>` is the gain in the first quarter. Unknown numbers are None.
  """
  scores = {}
  for series in run.series():
    late = last_share(series.ticks)
    row: dict[str, Any] = {
      "metric": series.metric,
      "higher_is_better": series.higher_is_better,
      "count": int(series.counts[late].sum()),
    }
    row |= {name: series.mean(name, late) for name in series.values}
    row |= {f"gain_over_{n}": series.gain(n, late) for n in series.values if n != "model"}
    first = series.gain(series.reference, first_share(series.ticks))
    row[f"first_gain_over_{series.reference}"] = first
    scores[series.key] = row
  last = run.lines[-1] if run.lines else {}
  loss = run.column("loss")
  return {
    "windows": last.get("window", len(run.lines)),
    "ticks": last.get("ticks"),
    "skipped": last.get("skipped", 0),
    "loss": _mean(loss[last_share(loss[:, 0]), 1]),
    "frames_per_s": _last(run, "frames_per_s"),
    "wait_share": _last(run, "wait_share"),
    "scores": scores,
  }


def last_share(ticks: Float[np.ndarray, " N"], share: float = SHARE) -> np.ndarray:
  """Returns a mask of the last quarter of a run, `[N]` bool."""
  return ticks > (1 - share) * ticks.max(initial=0.0)


def first_share(ticks: Float[np.ndarray, " N"], share: float = SHARE) -> np.ndarray:
  """Returns a mask of the first quarter of a run, `[N]` bool."""
  return ticks <= share * ticks.max(initial=0.0)


def _series(
  key: ScoreKey, lines: list[dict[str, Any]], known: dict[str, modalities.Modality]
) -> Series:
  lines = [line for line in lines if isinstance(line["scores"].get(str(key)), dict)]
  rows = [line["scores"][str(key)] for line in lines]
  names = dict.fromkeys(name for row in rows for name in row if name != COUNT)
  use_psnr = MODEL + PSNR in names
  names = [name for name in names if name.endswith(PSNR) == use_psnr]
  number = lambda x: float(x) if is_number(x) else np.nan  # noqa: E731
  metric = "PSNR, dB" if use_psnr else _metric(known.get(key.output), key.output)
  return Series(
    modality=key.output,
    displacement=key.displacement,
    metric=metric,
    higher_is_better=use_psnr,
    ticks=np.asarray([number(line.get("ticks", i)) for i, line in enumerate(lines)], float),
    counts=np.asarray([np.nan_to_num(number(row.get(COUNT, 1))) for row in rows], float),
    values={
      name.removesuffix(PSNR): np.asarray([number(row.get(name)) for row in rows], float)
      for name in names
    },
  )


_METRICS = {
  "lsd": "log-spectral distance, dB",
  "mse": "mean squared error",
  "abs_rel": "AbsRel",
  "epe": "end-point error, px",
  "pixel_error": "share of wrong pixels",
}


def _metric(modality: modalities.Modality | None, name: str) -> str:
  if modality is None:
    return _METRICS["epe"] if name.endswith("_flow") else "error"
  return _METRICS.get(modality.metric_name, modality.metric_name)


def _modality(name: str, fields: Any) -> modalities.Modality | None:
  """Returns the modality of a config's JSON; None if it is unknown."""
  try:
    return modalities.build(name, codec.from_dict(fields, f"config.model.modalities.{name}"))
  except (TypeError, ValueError):  # written by another version
    return None


def _modalities_of_family(model: Any) -> dict[str, modalities.Modality]:
  """Returns the modalities of a model whose config does not list them; none if it is unknown."""
  try:
    return dict(zoo.build(codec.from_dict(model, "config.model")).modalities)
  except (TypeError, ValueError):  # no config of the zoo, or of another version
    return {}


def _mean(values: np.ndarray) -> float | None:
  return float(values.mean()) if values.size else None


def _last(run: Run, name: str) -> float | None:
  if is_number(run.summary.get(name)):
    return float(run.summary[name])
  column = run.column(name, "timing")
  return float(column[-1, 1]) if len(column) else None
