"""LongViViT in miniature: captions of two events far apart, from a part of the tubelets.

  python benchmarks/long_video.py --markdown=docs/results.md
  python benchmarks/long_video.py --steps=2200 --only="joint, 75 % masked"

Clips of `streams.events`. R@1 is the share of captions that retrieve their own clip among 64, and the
reverse, over galleries of held-out clips: every second caption of a gallery is another one reversed, so that
events without order give 50 % at best. All rows have the same updates, learning rate and batches. `tokens` are
those of a clip in training; held-out clips have all of theirs unless the row says otherwise. `MiB` is the
temporary memory of an update by the compiler. Coarse tubelets are as many as those that 75 % masking
leaves. Rows of `short clips` start from an encoder of short ones, with the same attention. After each
row, the table so far is written. `--only` is a regular expression of the rows to run.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import common
import numpy as np
from jaxtyping import PyTree
from long_video_parts import (
  Data,
  Trained,
  Trainer,
  galleries,
  one_frame,
  recordings,
  shuffled,
  without_order,
)

from perceiver_stream.models import longvivit
from perceiver_stream.models.longvivit.variants import nano, tiny
from perceiver_stream.streams import events

GALLERY = 64
MASKED, FACTORISED = "joint, 75 % masked", "factorised, 75 % masked"
SHORT, TUNED = "short clips, {}, not tuned", "short clips, {}, tuned: {}"
VARIANTS = {  # of the row MASKED, and the share of tubelets that are left out when scored
  "clips shuffled in time": 0.0,
  "30 % at inference too": 0.3,
  "75 % at inference too": 0.75,
}
TINY = (MASKED, f"{MASKED}, captions without order", SHORT.format("joint"))


class Row(NamedTuple):
  """A row of the table.

  Attributes:
    trainer: Of its updates.
    data: "long", "short", "one frame", or "without order" (of the captions).
    start: Row whose parameters it starts from; empty: from new ones.
    scored: Row whose encoder scores the parameters; empty: its own.
  """

  trainer: Trainer
  data: str = "long"
  start: str = ""
  scored: str = ""


def rows_of(base: longvivit.Config, steps: int, size: int) -> dict[str, Row]:
  """Returns all rows, with batches of `size` clips; each comes after the one that it starts from."""
  made = lambda kind="all", **fields: Trainer(  # noqa: E731
    dataclasses.replace(base, **fields), steps, size, kind
  )
  found = {}
  for attention, shares in (
    ("joint", (0.0, 0.5, 0.75, 0.9)),
    ("factorised", (0.0, 0.5, 0.75, 0.9)),
  ):
    for share in shares:
      name = f"{attention}, {100 * share:.0f} % masked"
      found[name] = Row(made(attention=attention, masking=share))
  coarse: dict[str, dict[str, Any]] = {
    "time": {"patch_frames": 4 * base.patch_frames},
    "space": {"patch_height": 2 * base.patch_height, "patch_width": 2 * base.patch_width},
  }
  for name, sizes in coarse.items():
    found[f"joint, coarse in {name}"] = Row(made(masking=0.0, **sizes))
  masked = found[MASKED].trainer
  found["frames alone, mean"] = Row(made(attention="frames", masking=0.0))
  found[f"{MASKED}, one frame repeated"] = Row(masked, "one frame")
  found[f"{MASKED}, captions without order"] = Row(masked, "without order")
  return found | tuned_rows(base, made, found)


def chosen(rows: dict[str, Row], only: str) -> dict[str, Row]:
  """Returns the rows whose names match an expression wholly, and those that they start from.

  Raises:
    ValueError: No row matches.
  """
  names = {name for name in rows if re.fullmatch(only, name)}
  if not names:
    raise ValueError(f"--only={only!r} matches no row; there are {', '.join(rows)}.")
  names |= {rows[name].start for name in names}
  return {name: row for name, row in rows.items() if name in names}


def tuned_rows(
  base: longvivit.Config, made: Callable[..., Trainer], long: dict[str, Row]
) -> dict[str, Row]:
  """Returns encoders of short clips, and the ways of tuning them on long ones."""
  ways = {
    MASKED: {
      "all": long[MASKED].trainer,
      "last layer": made("last_layers", masking=0.75),
      "adapters": made("adapters", masking=0.75, adapter_dim=base.dim // 4),
      "LoRA": made("lora", masking=0.75, lora_rank=max(base.dim // 8, 1)),
    },
    FACTORISED: {"layers over time": made("temporal", masking=0.75, attention="factorised")},
  }
  found = {}
  for scored, tuned in ways.items():
    attention, frames = long[scored].trainer.config.attention, base.num_frames // 4
    short = made(attention=attention, masking=0.0, num_frames=frames)
    found[SHORT.format(attention)] = Row(short, "short", scored=scored)
    for name, trainer in tuned.items():
      found[TUNED.format(attention, name)] = Row(trainer, start=SHORT.format(attention))
  return found


class Sets(NamedTuple):
  """Clips of training, long and short, and long galleries that are held out."""

  long: Data
  short: Data
  held_out: Data

  def of(self, kind: str, seed: int) -> tuple[Data, Data]:
    """Returns the clips to learn from and the galleries for the data of a row."""
    if kind == "short":
      return self.short, self.held_out
    if kind == "one frame":
      first, second = (
        data._replace(clips=one_frame(data.clips, seed)) for data in (self.long, self.held_out)
      )
      return first, second
    if kind == "without order":
      captions = without_order(self.held_out.captions)
      return self.long, self.held_out._replace(captions=captions)
    return self.long, self.held_out


def sets_of(base: longvivit.Config, pool: int, number: int, gallery: int) -> Sets:
  """Returns the data: `pool` clips to learn from, and so many galleries."""

  def config(frames: int, event: int, gap: int, seed: int) -> events.Config:
    return events.Config(
      height=base.height,
      width=base.width,
      ticks_per_recording=frames,
      event_ticks=event,
      gap=gap,
      seed=seed,
    )

  long, short = base.num_frames, base.num_frames // 4
  apart = 3 * long // 16  # ticks of an event and, at least, between both
  return Sets(
    recordings(config(long, apart, apart, 1), range(pool)),
    recordings(config(short, max(short // 4, 1), 0, 3), range(pool)),
    galleries(config(long, apart, apart, 2), number, gallery),
  )


class Found(NamedTuple):
  """Results of a row over the seeds, none yet at first; rows without updates have only `recalls`."""

  recalls: list[float]
  cpu_s: list[float]
  tokens: int | None = None
  trained: int | None = None
  megabytes: float | None = None


class Benchmark:
  """Trains and scores rows of the table.

  Attributes:
    found: Results so far.
  """

  def __init__(self, rows: dict[str, Row], sets: Sets, gallery: int):
    self.rows, self.sets, self.gallery = rows, sets, gallery
    self.found: dict[str, Found] = {}
    for name in rows:
      self.found[name] = Found([], [])
      if name == MASKED:
        self.found |= {f"{name}, {variant}": Found([], []) for variant in VARIANTS}
    self._starts: dict[tuple[str, int], PyTree] = {}

  def run(self, name: str, seed: int) -> None:
    """Trains and scores a row with a seed."""
    row = self.rows[name]
    learned, held_out = self.sets.of(row.data, seed)
    start = None
    if row.start:
      start = longvivit.inserted(self._starts[row.start, seed], row.trainer.init(seed))
    trained = row.trainer.train(learned, seed, start, ordered=row.data != "without order")
    scorer, params = row.trainer, trained.params
    if row.scored:
      self._starts[name, seed] = params
      scorer = self.rows[row.scored].trainer
      params = longvivit.inserted(params, scorer.init(seed))
    self._add(name, scorer.recall(params, held_out, self.gallery), row.trainer, trained)
    if name == MASKED:
      self._vary(name, row.trainer, params, seed)

  def _vary(self, name: str, trainer: Trainer, params: PyTree, seed: int) -> None:
    """Scores a row with other galleries and with tubelets left out."""
    test, frames = self.sets.held_out, trainer.config.patch_frames
    mixed = test._replace(clips=shuffled(test.clips, frames, seed))
    for variant, share in VARIANTS.items():
      recall = trainer.recall(params, test if share else mixed, self.gallery, share)
      self._add(f"{name}, {variant}", recall)

  def _add(
    self, name: str, recall: float, trainer: Trainer | None = None, trained: Trained | None = None
  ) -> None:
    if trainer and trained:
      tokens, number = trainer.config.num_kept(True), trainer.num_trained(trained.params)
      sizes = {"tokens": tokens, "trained": number, "megabytes": trainer.megabytes}
      self.found[name] = self.found[name]._replace(**sizes)
      self.found[name].cpu_s.append(trained.cpu_s)
    self.found[name].recalls.append(recall)
    print(f"{name}: {recall:.1f}", flush=True)


def table(found: dict[str, Found], size: int, note: str) -> common.Table:
  """Returns the table of all rows; memory is compared with the first."""
  found = {name: f for name, f in found.items() if f.recalls}
  first, rows = next(iter(found.values())).megabytes, []
  for name, f in found.items():
    ratio = f.megabytes / first if first and f.megabytes else None
    spent = float(np.mean(f.cpu_s)) if f.cpu_s else None
    rows.append([name, f.tokens, common.spread(f.recalls), f.trained, f.megabytes, ratio, spent])
  rows.append(["chance", None, f"{100 / size:.1f}", None, None, None, None])
  columns = ["encoder", "tokens", "R@1, %", "trained parameters", "MiB", "x first", "CPU s"]
  return common.Table(f"Retrieval among {size} long clips", columns, rows, note)


def results(benchmark: Benchmark, seeds: int) -> Iterator[dict[str, Found]]:
  """Yields all results so far after each row; shares of masks between others come last."""
  for name in sorted(benchmark.rows, key=lambda n: n.endswith(("50 % masked", "90 % masked"))):
    for seed in range(seeds):
      benchmark.run(name, seed)
    yield benchmark.found


def main(argv: list[str] | None = None) -> None:
  more: dict[str, Any] = {
    "steps": 400,
    "rows": 32,
    "seeds": 3,
    "pool": 768,
    "galleries": 2,
    "only": "",
  }
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about, o = common.machine(), options
  text = dataclasses.replace(nano().text, vocabulary=10)
  base = nano(num_frames=16, text=text) if o.tiny else tiny()
  steps, size, seeds = (2, 4, 1) if o.tiny else (o.steps, o.rows, o.seeds)
  pool, gallery, number = (300, 4, 1) if o.tiny else (o.pool, GALLERY, o.galleries)
  rows = rows_of(base, steps, size)
  if o.tiny:
    rows = {n: r for n, r in rows.items() if n in (*TINY, TUNED.format("joint", "adapters"))}
  elif o.only:
    rows = chosen(rows, o.only)
  note = (
    f"Mean (least to largest) of {seeds} seeds, each with {number} galleries; {steps} updates of {size} clips of "
    f"{base.num_frames} frames of {base.height}×{base.width}, {base.grid} tubelets. Events without order retrieve "
    f"50 % at most. CPU s: of the updates of one seed, without compiling."
  )
  benchmark = Benchmark(rows, sets_of(base, pool, number, gallery), gallery)
  for found in results(benchmark, seeds):
    common.publish("long_video", options, [table(found, gallery, note)], about)


if __name__ == "__main__":
  main()
