"""The report of a run: one self-contained HTML file; it can be written during the run."""

import html
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from perceiver_stream.reporting import camera_path, curves, images, purchases
from perceiver_stream.reporting.filmstrips import strip_html
from perceiver_stream.reporting.page import PAGE
from perceiver_stream.reporting.run_files import REPORT, Strip, read_strip
from perceiver_stream.reporting.runs import Run, Series, read_run, summarise_run
from perceiver_stream.reporting.runs import summarise as summarise
from perceiver_stream.utils import atomic
from perceiver_stream.utils.addresses import hidden, hidden_in
from perceiver_stream.version import __version__

NUM_STRIPS = 3  # the newest, the first and one between
_PACKAGES = ("jax", "dm-haiku", "optax", "numpy", "av")


def write_report(run_dir: str | pathlib.Path, output: str = REPORT) -> pathlib.Path:
  """Writes the report of a run and returns its path.

  Args:
    run_dir: The run's folder; sections whose files are missing are left out.
    output: Name of the file in that folder, or a path of its own.

  Raises:
    FileNotFoundError: There is no such folder.
  """
  run = read_run(run_dir)
  path = run.folder / output
  atomic.write_text(path, report_html(run))
  return path


def report_html(run: Run) -> str:
  """Returns the report as text."""
  try:
    summary, series = summarise_run(run), run.series()
  except Exception:  # a damaged log has no end of ways; the rest of the run is still shown
    summary, series = summarise_run(Run(run.folder)), []
  sections = [
    _section("Last quarter of the run", lambda: _headline(series, summary)),
    _section("Learning curves", lambda: _curves(run, series)),
    _section("Purchases", lambda: _purchases(run)),
    _section("Film strips", lambda: _strips(run)),
    _section("Camera path", lambda: _camera_path(run)),
    _section("Config", lambda: _config(run.config) + _changes(run.changes())),
    _section("Environment", lambda: _environment(run)),
  ]
  return PAGE.substitute(
    title=html.escape(run.folder.resolve().name),
    facts=_or_note(lambda: _facts(run, summary)),
    body="".join(sections),
  )


def _section(title: str, make: Callable[[], str]) -> str:
  content = _or_note(make)
  return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _or_note(make: Callable[[], str]) -> str:
  """Returns the result of `make`, or a note where the run is too damaged for it."""
  try:
    return make()
  except Exception as error:
    text = html.escape(f"{type(error).__name__}: {error}"[:300])
    return f"<p class=note>Left out, since what the run wrote is damaged: {text}</p>"


def _facts(run: Run, summary: Mapping[str, Any]) -> str:
  """Returns the line of numbers at the top."""
  state = "not finished, or still running"
  if run.summary:
    stopped = run.summary.get("stopped_by")
    finished = run.summary.get("finished", True)
    state = "finished" if finished else f"stopped by {stopped}" if stopped else "stopped"
  wait = summary["wait_share"]
  facts = {
    "state": state,
    "ticks observed": _number(summary["ticks"]),
    "updates": _number(summary["windows"]),
    "skipped": _number(summary["skipped"]),
    "observations not finite": _number(sum(run.non_finite().values()) or None),
    "frames / s": _number(summary["frames_per_s"], 1),
    "waiting for data": "" if wait is None else f"{100 * wait:.1f} %",
    "loss": _number(summary["loss"], 4),
    "unreadable lines": str(run.num_broken or ""),
  }
  cells = (f"<div><b>{html.escape(v)}</b><span>{k}</span></div>" for k, v in facts.items() if v)
  return "".join(cells)


def _headline(series: Iterable[Series], summary: Mapping[str, Any]) -> str:
  """Returns a table per output: the mean of each predictor, and the model's gains.

  Gains are over the reference and, where there are several baselines, over the best of them.
  """
  tables = []
  for modality, group in itertools.groupby(series, lambda one: one.modality):
    group = list(group)
    names = list(dict.fromkeys(name for one in group for name in one.values))
    over = [f"gain over {_label(group[0].reference)}"] if group[0].has_baseline else []
    over += ["gain over the best other"] if len(names) > 2 else []
    better = "higher" if group[0].higher_is_better else "lower"
    heads = ["ticks ahead", *map(_label, names), *over]
    rows = "".join(_row(one, summary["scores"][one.key], names) for one in group)
    tables.append(
      f"<h3>{html.escape(modality)} <small>{html.escape(group[0].metric)}, {better} is better"
      f"</small></h3><table><tr>{''.join(f'<th>{h}</th>' for h in [*heads, 'targets'])}</tr>"
      f"{rows}</table>"
    )
  if not tables:
    return "<p class=note>No scores yet: metrics.jsonl holds no window with a valid target.</p>"
  note = (
    "<p class=note>Every prediction was scored before the update that saw its target. Gains in "
    "the metric's unit, above 0 where the model is better; in brackets the first quarter.</p>"
  )
  return "".join(tables) + note


def _row(series: Series, scores: Mapping[str, Any], names: list[str]) -> str:
  in_db = "dB" in series.metric
  known = {n: scores[n] for n in names if scores.get(n) is not None}
  best = max if series.higher_is_better else min
  cells = [f"<th>{series.displacement}</th>"]
  for name in names:
    mark = " class=best" if name in known and known[name] == best(known.values()) else ""
    cells.append(f"<td{mark}>{_score(scores.get(name), in_db)}</td>")
  first = scores.get(f"first_gain_over_{series.reference}")
  small = "" if first is None else f" <small>({_score(first, in_db, '+')})</small>"
  if series.has_baseline:
    cells.append(_gain(scores.get(f"gain_over_{series.reference}"), in_db, small))
  if len(names) > 2:
    others = {n: value for n, value in known.items() if n != "model"}
    strongest = best(others, key=lambda n: others[n]) if others else None
    cells.append(_gain(scores.get(f"gain_over_{strongest}"), in_db))
  return f"<tr>{''.join(cells)}<td>{scores['count']}</td></tr>"


def _gain(gain: float | None, in_db: bool, more: str = "") -> str:
  if gain is None:
    return "<td></td>"
  kind = "good" if gain >= 0 else "bad"
  return f"<td class={kind}>{_score(gain, in_db, '+')}{more}</td>"


def _curves(run: Run, series: Iterable[Series]) -> str:
  figures = []
  for modality, group in itertools.groupby(series, lambda one: one.modality):
    figures.append((modality, curves.score_curves(list(group))))
  figures.append(("course of the run", curves.course_curves(run)))
  return "".join(
    f'<h3>{html.escape(name)}</h3><img class=figure alt="{html.escape(name)}" '
    f'src="{images.data_uri(svg, "image/svg+xml")}">'
    for name, svg in figures
    if svg
  )


def _purchases(run: Run) -> str:
  """Returns the purchases of an agent, tick by tick; "" if it has no agent."""
  if not run.strips or not _bought(run.strips[-1]):
    return ""
  return (
    "<p class=note>One line for each modality of an episode, one cell for each tick: coloured where it was "
    "acquired. Prices are of one tick, in nats. During pretraining by masking modalities are acquired "
    f"at random and cost nothing.</p>{_folded(run, _bought)}"
  )


def _bought(strip: Strip) -> str:
  """Returns the purchases of a strip; "" if it has none or is damaged."""
  try:
    return purchases.of_strip(read_strip(strip.paths))
  except ValueError:
    return ""


def _strips(run: Run) -> str:
  """Returns the strips of predictions; "" if the run has none, or those of an agent."""
  if not run.strips or _bought(run.strips[-1]):
    return ""
  known = run.modalities()
  legend = images.data_uri(images.png_bytes(images.flow_legend()))
  return (
    f'<p class=note><img class=legend alt="flow colours" src="{legend}">Decoded flow: the colour '
    "is the direction of motion since the last input frame, white is no motion. Errors: black is none, light "
    "the named mean difference of values in [0, 1]. Below each image its score, and that of "
    "the baseline in brackets.</p>"
  ) + _folded(run, lambda strip: strip_html(strip.paths, known))


def _folded(run: Run, show: Callable[[Strip], str]) -> str:
  """Returns the newest strip unfolded, and earlier ones folded."""
  last = len(run.strips) - 1
  chosen = sorted({last - i * last // (NUM_STRIPS - 1) for i in range(NUM_STRIPS)}, reverse=True)
  parts = []
  for strip in (run.strips[index] for index in chosen):
    is_open = " open" if strip is run.strips[last] else ""
    parts.append(
      f"<details{is_open}><summary>Update {strip.number}</summary>{show(strip)}</details>"
    )
  return "".join(parts)


def _camera_path(run: Run) -> str:
  """Returns the newest path of the camera; "" where the run learned none."""
  path = camera_path.read(run.folder)
  if path is None:
    return ""
  scale = "" if path.truth is None else ", the estimate scaled to the length of the true path"
  uri = images.data_uri(camera_path.figure(path), "image/svg+xml")
  return (
    f"<p class=note>{len(path.estimate)} ticks, predicted before the updates{scale}. Both start at "
    f'the same pose.</p><img class=figure alt="camera path" src="{uri}">'
  )


def _config(config: Mapping[str, Any]) -> str:
  """Returns every field with the flag that sets it; addresses are without their passwords."""
  lines = [f"--config.{key}={json.dumps(hidden_in(value))}" for key, value in _flat(config)]
  if not lines:
    return ""
  text = html.escape("\n".join(lines))
  return f"<details><summary>{len(lines)} fields</summary><pre>{text}</pre></details>"


def _changes(changes: Iterable[tuple[int, str, str]]) -> str:
  """Returns a table of the fields that were changed where the run was resumed."""
  rows = "".join(
    f"<tr><th>{window}</th><td>{html.escape(field)}</td><td>{html.escape(hidden(change))}</td></tr>"
    for window, field, change in changes
  )
  heads = "<tr><th>from window</th><th>field</th><th>change</th></tr>"
  return f"<h3>Changed on resume</h3><table class=plain>{heads}{rows}</table>" if rows else ""


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
  for key, one in value.items():
    if isinstance(one, Mapping):
      yield from _flat(one, f"{prefix}{key}.")
    elif key != "_type":
      yield f"{prefix}{key}", one


def _environment(run: Run) -> str:
  """Returns versions and devices of the run, and of the process that wrote this report."""
  rows = {
    "perceiver_stream of the run": str(run.summary.get("version", "")),
    "devices of the run": ", ".join(map(str, run.summary.get("devices", []))),
    "report written by": f"perceiver_stream {__version__}, Python {platform.python_version()}, "
    + ", ".join(f"{name} {version}" for name, version in _versions()),
    "on": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
  }
  cells = (
    f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>"
    for name, value in rows.items()
    if value
  )
  return f"<table class=plain>{''.join(cells)}</table>"


def _versions() -> Iterable[tuple[str, str]]:
  for name in _PACKAGES:
    try:
      yield name, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue


def _label(name: str) -> str:
  return html.escape(curves.LABELS.get(name, name))


def _score(value: float | None, in_db: bool, sign: str = "") -> str:
  """Returns a score with two decimals in dB, else with four significant digits."""
  return "" if value is None else f"{value:{sign}{'.2f' if in_db else '.4g'}}"


def _number(value: Any, digits: int = 0) -> str:
  return "" if value is None else f"{value:,.{digits}f}"
