"""Results as a page: a table, the effects that were reproduced, curves, and the command."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from perceiver_stream.lab import comparing, motion
from perceiver_stream.lab.comparing import WHERE, Effect, Interval
from perceiver_stream.lab.tables.base import Table
from perceiver_stream.lab.trials import Size
from perceiver_stream.utils.paths import user_path

Results = Mapping[str, list[dict[str, Any]]]
_STYLES = ("-", ":", "--")  # of ten lines each, the number of colours
_TITLES = {"in_stream": "in the stream", "out_of_stream": "out of the stream"} | motion.SCORES


class Made(NamedTuple):
  """The parameters of a request for a page.

  Attributes:
    table: By its name.
    size: One of `SIZES`.
    source: Of the footage, if not the table's own.
  """

  table: str
  size: str = "default"
  source: str = ""

  @property
  def name(self) -> str:
    """Name of its files, without an ending."""
    return "_".join(filter(None, (self.table, user_path(self.source).name)))

  @property
  def command(self) -> str:
    """The command that makes it."""
    size = "" if self.size == "default" else f" --size={self.size}"
    source = f" --source={self.source}" if self.source else ""
    return f"perceiver-stream lab {self.table}{size}{source}"


def write(made: Made, sizes: Size, table: Table, results: Results, folder: pathlib.Path) -> None:
  """Writes `NAME.md` and `NAME.png` into a folder."""
  folder.mkdir(parents=True, exist_ok=True)
  draw(table, results, folder / f"{made.name}.png")
  (folder / f"{made.name}.md").write_text(page(made, sizes, table, results))


def page(made: Made, sizes: Size, table: Table, results: Results) -> str:
  """Returns the page of a table."""
  seconds = sum(r["seconds"] for rows in results.values() for r in rows)
  parts = [
    f"# {table.title}" + (f": {made.source}" if made.source else ""),
    table.about,
    f"Made by `{made.command}`: {len(results)} learners, {sizes.seeds} seeds "
    f"(of worlds, parameters and order), {sizes.num_rates} learning rates each; "
    f"{seconds / 60:.0f} minutes of learning.",
    rows(table, results),
    "Error: mean over seeds ± half of the 95 % interval, lower is better. Each seed is "
    "trained at the rate that is best for the *other* seeds; * marks the least or largest "
    "rate tried. In the stream: the whole pass, every clip scored before the update that "
    "uses it. Out of it: the learner after the pass, frozen, on held-out worlds.",
    flows(results),
    effects(table.effects, results),
    *table.remarks,
    *([table.note(results)] if table.note else []),
    f"![Errors as the stream goes by]({made.name}.png)",
  ]
  return "\n\n".join(part for part in parts if part) + "\n"


def rows(table: Table, results: Results) -> str:
  """Returns the errors of all trials, and of the baselines of each task among them."""
  lines = [
    "| learner | error in the stream | at rate | out of the stream | at rate | parameters | clips |",
    "|---|---|---|---|---|---|---|",
  ]
  tasks: dict[tuple, None] = {}
  for name, found in results.items():
    cells = []
    for where in WHERE:
      chosen = comparing.choose(found, where)
      edge = comparing.at_edge(chosen.rates, list(found[0]["runs"]))
      rates = "/".join(dict.fromkeys(chosen.rates)) + ("*" if edge else "")
      cells += [plus_minus(comparing.interval(chosen.errors)), rates]
    lines.append(
      f"| {name} | {' | '.join(cells)} | {found[0]['parameters']:,} | {found[0]['clips']:,} |"
    )
    tasks[(table.trials[name].task, table.trials[name].source)] = None
  for task, source in tasks:
    found = next(
      r
      for n, r in results.items()
      if (table.trials[n].task, table.trials[n].source) == (task, source)
    )
    for baseline in found[0]["baselines"]:
      errors = [
        plus_minus(comparing.interval([r["baselines"][baseline][where] for r in found]))
        for where in WHERE
      ]
      what = f", {source}, {task.shows}" if len(tasks) > 1 else ""
      lines.append(f"| *{baseline}{what}* | {errors[0]} | | {errors[1]} | | 0 | |")
  return "\n".join(lines)


def flows(results: Results) -> str:
  """Returns the scores of each trial's flow, if it has one, with those of the reference flows."""
  moving = moving_of(results)
  if not moving:
    return ""
  lines = [
    f"| flow | {' | '.join(motion.SCORES.values())} |",
    f"|---|{'---|' * len(motion.SCORES)}",
  ]
  for name, found in moving.items():
    errors = {where: comparing.choose(found, where).errors for where in motion.SCORES}
    lines.append(f"| {name} | {_cells(errors)} |")
  found = next(iter(moving.values()))
  for name in found[0]["rivals"]:
    errors = {where: comparing.given(found, name, where) for where in motion.SCORES}
    lines.append(f"| *{name}* | {_cells(errors)} |")
  lines.append(
    "\nOut of the stream, at the learning rate that is best for the error there; the true "
    "motion was not used for training or tuning. Labels are those of the objects in a "
    "frame, moved along the flow of the following ticks, each predicted before its frame "
    "is input."
  )
  return "\n".join(lines)


def moving_of(results: Results) -> Results:
  """Returns the trials among the results whose learner outputs flow that was scored."""
  judged = lambda found: "motion" in next(iter(found[0]["runs"].values()))  # noqa: E731
  return {name: found for name, found in results.items() if judged(found)}


def _cells(errors: Mapping[str, list[float]]) -> str:
  return " | ".join(plus_minus(comparing.interval(x)) for x in errors.values())


def effects(expected: Sequence[Effect], results: Results) -> str:
  """Returns the published findings, and whether each is reproduced here."""
  if not expected:
    return ""
  lines = [
    "| published | ratio of errors there | here, with 95 % interval | reproduced |",
    "|---|---|---|---|",
  ]
  for effect in expected:
    measured = measure(effect, results)
    there = effect.published or ("below 1" if effect.lower else "above 1")
    lines.append(
      f"| {effect.about}, {_TITLES[effect.where]} | {there} | {measured.mean:.2f} "
      f"({measured.low:.2f} to {measured.high:.2f}) | {comparing.verdict(effect, measured)} |"
    )
  return "\n".join(lines)


def measure(effect: Effect, results: Results) -> Interval:
  """Returns the ratio of errors of an effect."""
  first = results[effect.first]
  if effect.second in results:
    second = comparing.choose(results[effect.second], effect.where).errors
  else:
    second = comparing.given(first, effect.second, effect.where)
  return comparing.ratio(comparing.choose(first, effect.where).errors, second)


def plus_minus(value: Interval) -> str:
  """Returns an error with half of its interval."""
  mean = value.mean if value.mean > comparing.LEAST else 0.0
  return f"{mean:.4g} ± {(value.high - value.low) / 2:.2g}"


def draw(table: Table, results: Results, path: pathlib.Path) -> None:
  """Draws errors over the stream, each learner at its most frequently chosen learning rate.

  If flow was scored, also draws the errors of labels, by the number of ticks they were moved.
  """
  from matplotlib.figure import Figure

  moving = moving_of(results)
  figure = Figure(figsize=(15 if moving else 11, 4.2), layout="constrained")
  sides = figure.subplots(1, 3 if moving else 2)
  for axes, where in zip(sides, WHERE, strict=False):
    for i, (name, found) in enumerate(results.items()):
      rates = comparing.choose(found, where).rates
      rate = max(set(rates), key=rates.count)
      curves = [r["runs"][rate][f"{where}_curve"] for r in found]
      mean = [sum(x) / len(x) if None not in x else float("nan") for x in zip(*curves, strict=True)]
      share = [i / (len(mean) - 1) for i in range(len(mean))]
      marker = "." if where == "out_of_stream" else None
      axes.plot(share, mean, _STYLES[i // 10 % len(_STYLES)], label=name, marker=marker)
    axes.set(title=_TITLES[where], xlabel="share of the stream", yscale="log")
    axes.set_ylabel(next(iter(table.trials.values())).task.error)
  if moving:
    _draw_labels(moving, len(results), sides[-1])
  named: dict[str, Any] = {}
  for axes in sides:
    handles, names = axes.get_legend_handles_labels()
    named |= zip(names, handles, strict=True)
  figure.legend(list(named.values()), list(named), loc="outside right upper", fontsize="small")
  figure.savefig(path, dpi=80)


def _draw_labels(moving: Results, num_learners: int, axes: Any) -> None:
  """Draws errors of labels that are moved along each flow, reference flows dashed in other colours."""
  some = next(iter(moving.values()))
  losses = {
    name: [comparing.choose(found, f"lost@{k}").errors for k in motion.AFTER]
    for name, found in moving.items()
  }
  for name, lost in losses.items():
    axes.plot(motion.AFTER, [sum(x) / len(x) for x in lost], marker=".", label=name)
  for number, name in enumerate(some[0]["rivals"], start=num_learners):
    lost = [comparing.given(some, name, f"lost@{k}") for k in motion.AFTER]
    axes.plot(motion.AFTER, [sum(x) / len(x) for x in lost], f"C{number}--", label=name)
  axes.set(title="labels moved along the flow", xlabel="ticks", ylabel="1 - IoU")
