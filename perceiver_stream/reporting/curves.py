"""Learning curves of model and baselines as SVG; matplotlib is imported when first used."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from perceiver_stream.reporting.runs import Run, Series

Styles = dict[str, dict[str, Any]]  # matplotlib's keywords of a line, by predictor

# The model in the strongest colour; no two lines share a colour and a dash pattern.
STYLES: Styles = {
  "model": {"color": "#1d4ed8", "linewidth": 2.0},
  "copy": {"color": "#6b7280", "linewidth": 1.3},
  "extrap": {"color": "#ea580c", "linewidth": 1.3, "linestyle": "--"},
  "extrap_d": {"color": "#f59e0b", "linewidth": 1.3, "linestyle": ":"},
  "mix": {"color": "#15803d", "linewidth": 1.3, "linestyle": "-."},
  "fitted_mix": {"color": "#be185d", "linewidth": 1.3, "linestyle": (0, (5, 1))},
  "past_mean": {"color": "#0f766e", "linewidth": 1.3, "linestyle": "-."},
  "recent_mean": {"color": "#b45309", "linewidth": 1.3, "linestyle": "--"},
  "zero_flow": {"color": "#111827", "linewidth": 1.3, "linestyle": ":"},
  "same_place": {"color": "#7c3aed", "linewidth": 1.3, "linestyle": (0, (3, 1, 1, 1))},
  "visible_mean": {"color": "#c2410c", "linewidth": 1.3, "linestyle": (0, (3, 1, 1, 1, 1, 1))},
  "mean": {"color": "#b91c1c", "linewidth": 1.3, "linestyle": "--"},
  "nothing": {"color": "#111827", "linewidth": 1.3, "linestyle": (0, (1, 3))},
}
_UNNAMED = ("#9333ea", "#0891b2", "#65a30d", "#db2777", "#78350f")  # baselines without a style
LABELS = {
  "copy": "copy-last",
  "extrap": "flow extrapolation",
  "extrap_d": "long flow extrapolation",
  "mix": "mean of copy and extrapolations",
  "fitted_mix": "mix fitted online",
  "past_mean": "mean of the past",
  "recent_mean": "mean of the last 8 ticks",
  "zero_flow": "zero flow",
  "same_place": "same-place patch",
  "visible_mean": "mean of visible patches",
  "mean": "mean",
  "nothing": "grey, or silence",
}
_RC: dict[Any, Any] = {
  "font.family": "sans-serif",
  "font.size": 9,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.edgecolor": "#9ca3af",
  "axes.labelcolor": "#374151",
  "axes.titlesize": 10,
  "axes.titlelocation": "left",
  "xtick.color": "#6b7280",
  "ytick.color": "#6b7280",
  "grid.color": "#e5e7eb",
  "svg.fonttype": "none",
  "svg.hashsalt": "perceiver_stream",
}
_MAX_POINTS = 600  # of a raw curve; more makes the page heavy and shows nothing
_DECADES = 50.0  # largest over smallest value from which an axis is logarithmic
_LEGEND_WIDTH = 1.8  # inches that a label takes, the longest ones on average
_SMOOTHING = 0.06  # of the run's windows


def score_curves(series: Sequence[Series]) -> bytes:
  """Returns a figure of one output: scores in the upper row, gains over the baseline, if any, below.

  Args:
    series: Of one output, one per displacement: the columns.
  """
  styles = styles_of(name for one in series for name in one.values)
  with _rc():
    with_gains = any(one.has_baseline for one in series)
    figure, axes = _figure(2 if with_gains else 1, len(series), height=2.5)
    for column, one in enumerate(series):
      _scores(axes[0][column], one, styles)
      if with_gains:
        _gains(axes[1][column], one, styles)
      ahead = f"{one.displacement} tick{'' if one.displacement == 1 else 's'} ahead"
      axes[0][column].set_title(ahead, fontweight="bold", color="#111827")
      axes[-1][column].set_xlabel("ticks observed")
    better = "higher" if series[0].higher_is_better else "lower"
    axes[0][0].set_ylabel(f"{series[0].metric}\n({better} is better)")
    if with_gains:
      axes[1][0].set_ylabel(f"gain over {_label(series[0].reference)}\n(above 0 is better)")
    lines = [axis.get_legend_handles_labels() for axis in axes[0]]
    named = {
      label: handle
      for handles, labels in lines
      for handle, label in zip(handles, labels, strict=True)
    }
    columns = min(len(named), int(figure.get_figwidth() / _LEGEND_WIDTH))
    figure.legend(
      list(named.values()), list(named), loc="outside upper left", ncols=columns, frameon=False
    )
    return _svg(figure)


def course_curves(run: Run) -> bytes:
  """Returns a figure of loss, gradient norm and frames per second; b"" where none was logged."""
  columns = {
    "training loss": run.column("loss"),
    "gradient norm": run.column("grad_norm"),
    "frames per second": run.column("frames_per_s", "timing"),
  }
  columns = {name: pairs for name, pairs in columns.items() if len(pairs)}
  if not columns:
    return b""
  with _rc():
    figure, axes = _figure(1, len(columns), height=2.1)
    for axis, (name, pairs) in zip(axes[0], columns.items(), strict=True):
      _line(axis, pairs[:, 0], pairs[:, 1], np.ones(len(pairs)), STYLES["model"])
      if pairs[:, 1].max() > _DECADES * pairs[:, 1].min() > 0:
        axis.set_yscale("log")
      axis.set_title(name)
      axis.set_xlabel("ticks observed")
    return _svg(figure)


def smooth(
  values: Float[np.ndarray, " N"], weights: Float[np.ndarray, " N"], width: int
) -> Float[np.ndarray, " N"]:
  """Returns the centred weighted mean over `width` windows; NaN is ignored.

  >>> smooth(np.array([0.0, 1.0, np.nan, 5.0]), np.ones(4), 3)
  array([0.5, 0.5, 3. , 5. ])
  """
  weights = np.where(np.isfinite(values), weights, 0.0)
  sums = [np.cumsum(np.pad(x, (1, 0))) for x in (weights * np.nan_to_num(values), weights)]
  at = np.arange(len(values))
  low, high = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(values))
  total, weight = (x[high] - x[low] for x in sums)
  return np.divide(total, weight, where=weight > 0, out=np.full(len(values), np.nan))


def _scores(axis: Any, series: Series, styles: Styles) -> None:
  for name in _drawn(series):
    _line(axis, series.ticks, series.values[name], series.counts, styles[name], _label(name))
  axis.margins(x=0.01)


def _gains(axis: Any, series: Series, styles: Styles) -> None:
  sign = 1 if series.higher_is_better else -1
  base = series.values.get(series.reference)
  axis.axhline(0, **styles.get(series.reference, STYLES["copy"]))
  if base is None:
    return
  for name in _drawn(series):
    if name != series.reference:
      gain = sign * (series.values[name] - base)
      _line(axis, series.ticks, gain, series.counts, styles[name])
  axis.margins(x=0.01)


def _line(
  axis: Any, x: np.ndarray, y: np.ndarray, weights: np.ndarray, style: dict, label: str = ""
) -> None:
  """Draws a smoothed curve, and the raw one faintly."""
  from matplotlib.lines import Line2D

  width = max(1, round(_SMOOTHING * len(y)))
  step = max(1, len(y) // _MAX_POINTS)
  if style is STYLES["model"]:
    # An artist, not a line of the axis: its outliers do not set the scale.
    faint = Line2D(x[::step], y[::step], color=style["color"], linewidth=0.6, alpha=0.25)
    axis.add_artist(faint)
  axis.plot(x[::step], smooth(y, weights, width)[::step], label=label, zorder=3, **style)
  axis.grid(axis="y")


def _drawn(series: Series) -> list[str]:
  """Returns the predictors to draw; the model is last, so on top."""
  names = [name for name in series.values if name != "model"]
  names = [n for n in names if not (n == "extrap_d" and series.displacement == 1)]
  return [*names, "model"] if "model" in series.values else names


def styles_of(names: Iterable[str]) -> Styles:
  """Returns a line style for each predictor; those without one of their own differ in colour."""
  names = list(dict.fromkeys(names))
  unnamed = [name for name in names if name not in STYLES]
  own = {
    name: {"color": _UNNAMED[i % len(_UNNAMED)], "linewidth": 1.3, "linestyle": (0, (4 + i, 2))}
    for i, name in enumerate(unnamed)
  }
  return {name: STYLES.get(name) or own[name] for name in names}


def _label(name: str) -> str:
  return LABELS.get(name, name)


def _rc() -> Any:
  import matplotlib

  return matplotlib.rc_context(_RC)


def _figure(rows: int, columns: int, height: float) -> tuple[Any, Any]:
  from matplotlib.figure import Figure

  size = (max(3.8 * columns, 5.5), height * rows + 0.4)
  figure = Figure(figsize=size, layout="constrained")
  return figure, figure.subplots(rows, columns, squeeze=False, sharex="col")


def _svg(figure: Any) -> bytes:
  file = io.BytesIO()
  figure.savefig(file, format="svg", metadata={"Date": None})
  return file.getvalue()
