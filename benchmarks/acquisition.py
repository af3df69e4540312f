"""A2MT in miniature: an agent that pays for what it observes, against simpler strategies.

  python benchmarks/acquisition.py
  python benchmarks/acquisition.py --updates=1500 --seeds=5 --markdown=docs/results.md
  python benchmarks/acquisition.py --path=media/demo --versions=clips

`adaptive`: only a clock tells when an image matters; `control`: the same ticks matter in all episodes
(`streams.countdown`). `clips`: the class is the video of a folder with sound; trained on the first part of
each, scored on the rest. One agent learns all prices of a list. Cost is minus the return: the prices paid
plus -log p(label). Writes `acquisition.html`, the purchases of some episodes.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import common
import jax
import numpy as np
import optax
from jaxtyping import PyTree

from perceiver_stream import streams, training, zoo
from perceiver_stream.inference import acquisition
from perceiver_stream.modalities import audio, pixels
from perceiver_stream.models import a2mt
from perceiver_stream.models.a2mt import objective
from perceiver_stream.reporting import purchases
from perceiver_stream.streams import countdown, video
from perceiver_stream.streams.acquisition import Episode, episodes
from perceiver_stream.training import objectives
from perceiver_stream.training.objectives.base import mean_where
from perceiver_stream.training.optimizers import make_optimizer
from perceiver_stream.types import IS_FIRST, valid_key

ROWS, TICKS, SHOWN = 64, 16, 12
PRICES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
CLOCK = 0.01
SIDE, RATE, AUDIO_RATE = 32, 12.5, 8000  # of clips


class Task(NamedTuple):
  """Data of one version.

  Attributes:
    model: Config of the agent.
    train: Episodes to learn from.
    choosing: Others, to choose schedules from.
    held_out: Others, to score on.
    oracle: The best purchases of `held_out`, if they are known.
    priced: Modalities whose price varies; others cost `CLOCK`.
  """

  model: a2mt.Config
  train: acquisition.Episodes
  choosing: acquisition.Episodes
  held_out: acquisition.Episodes
  oracle: np.ndarray | None
  priced: tuple[str, ...]


def miniature(version: str, count: int, ticks: int) -> Task:
  """Returns the clock and the images."""
  experiment = training.load_config(f"active:{version}")
  model = dataclasses.replace(experiment.model, num_ticks=ticks)
  names = tuple(model.modalities)
  parts = []
  for seed, number in ((1, 4 * count), (3, 24), (2, count)):
    config = dataclasses.replace(experiment.stream, seed=seed, ticks_per_recording=ticks)
    found = itertools.islice(episodes(iter(streams.open_rows(config)[0]), names, ticks), number)
    parts.append(acquisition.stacked(list(found), names))
  train, choosing, held_out = parts
  oracle = np.zeros_like(held_out.valid)
  oracle[1:, :, names.index("clock")] = True  # the prediction must know which image counted
  for row in range(count):
    oracle[countdown.Countdown(config, 0, row).zeros[-1], row, names.index("pixels")] = True
  return Task(model, train, choosing, held_out, oracle, ("pixels",))


def clips(path: str, ticks: int) -> Task:
  """Returns windows of the videos of a folder; a class is a video.

  Raises:
    ValueError: There are fewer than two with sound.
  """
  files = [p for p in sorted(pathlib.Path(path).iterdir()) if p.suffix in (".mp4", ".mkv", ".avi")]
  parts: list[list[Episode]] = [[], [], []]
  label = 0
  for file in files:
    config = video.Config(
      path=str(file), height=SIDE, width=SIDE, rate_hz=RATE, audio_rate_hz=AUDIO_RATE
    )
    read = [t | {"label": label} for t in streams.open_rows(config)[0]]
    if not any(t.get(valid_key("audio"), True) for t in read):
      continue
    cuts = [round(share * len(read)) for share in (0, 0.5, 0.6, 1)]
    for first, last, kept in zip(cuts, cuts[1:], parts, strict=False):
      for start in range(first, last - ticks + 1):
        window = [t | {IS_FIRST: i == 0} for i, t in enumerate(read[start : start + ticks])]
        kept += episodes(window, ("audio", "pixels"), ticks)
    label += 1
  if label < 2:
    raise ValueError(f"{path}: {label} videos with sound; give a folder with two or more.")
  model = a2mt.Config(
    modalities={
      "audio": audio.Config(num_samples=int(AUDIO_RATE / RATE), rate_hz=float(AUDIO_RATE)),
      "pixels": pixels.Config(height=SIDE, width=SIDE, patch=16, rate_hz=RATE, motion_levels=1),
    },
    num_classes=label,
    num_ticks=ticks,
  )
  names = tuple(model.modalities)
  train, choosing, held_out = (acquisition.stacked(part, names) for part in parts)
  return Task(model, train, choosing, held_out, None, names)


class Trainer:
  """One compiled update for all seeds."""

  def __init__(self, task: Task, updates: int):
    prices = {n: PRICES if n in task.priced else (CLOCK,) for n in task.model.modalities}
    config = a2mt_objective(task.model.num_ticks, prices, updates)
    steps = training.load_config("active:adaptive").optimizer
    warmup = min(steps.warmup_steps, updates - 1)
    self.task, self.updates = task, updates
    self.objective: Any = objectives.make(zoo.build(task.model), config)
    self.optimizer = make_optimizer(
      dataclasses.replace(steps, warmup_steps=warmup, decay_steps=updates)
    )
    self._update = jax.jit(self._step)

  def _step(self, carry: PyTree, window: Mapping[str, Any], key: Any) -> tuple[PyTree, Any]:
    params, moments, state = carry
    (_, aux), grads = self.objective.loss_and_grad(params, state, window, key)
    with jax.numpy_dtype_promotion("standard"):  # optax's powers of an integer count
      change, moments = self.optimizer.update(grads, moments, params)
    score = aux.scores["cost@0"]
    cost = mean_where(score.model, score.valid)
    return (optax.apply_updates(params, change), moments, aux.next_state), cost

  def windows(self, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields random rows of the episodes for learning."""
    rng, data = np.random.default_rng(seed), self.task.train
    labels = np.broadcast_to(data.labels, (self.task.model.num_ticks, *data.labels.shape))
    while True:
      rows = rng.integers(0, len(data.labels), ROWS)
      window = {name: x[:, rows] for name, x in data.values.items()}
      window |= {valid_key(n): data.valid[:, rows, i] for i, n in enumerate(data.values)}
      yield window | {"label": labels[:, rows]}

  def train(self, seed: int) -> PyTree:
    """Returns the parameters after all updates."""
    source = self.windows(seed)
    first = {name: x[0] for name, x in next(source).items()}
    params = self.objective.init_params(jax.random.key(seed), first)
    carry = params, self.optimizer.init(params), self.objective.initial_state(params)
    for number in range(self.updates):
      key = jax.random.fold_in(jax.random.key(seed), number)
      carry, cost = self._update(carry, next(source), key)
      if (number + 1) % 200 == 0:
        print(f"seed {seed}, update {number + 1}, cost {float(cost):.3f}", flush=True)
    return carry[0]


def a2mt_objective(ticks: int, prices: dict[str, tuple[float, ...]], updates: int) -> Any:
  """Returns the objective's config: pretraining by masking, then rising prices, as `configs.active`."""
  third = 35 * updates // 100
  return objective.Config(window=ticks, prices=prices, masking_windows=third, rising_windows=third)


Found = dict[tuple[float, str], list[acquisition.Outcome]]


class Outcomes:
  """Trains one version, and compares its strategies."""

  def __init__(self, version: str, task: Task, updates: int, prices: Sequence[float]):
    self.version, self.task, self.prices = version, task, prices
    self.trainer, self.choosing = Trainer(task, updates), _some(task.choosing, 24)
    self.strategies: acquisition.Strategies | None = None
    self.found: Found = {}

  def add(self, seed: int) -> None:
    """Adds the outcomes of a seed."""
    params, agent = self.trainer.train(seed), self.trainer.objective.agent
    for price in self.prices:
      each = {n: price if n in self.task.priced else CLOCK for n in self.task.model.modalities}
      if self.strategies is None:
        self.strategies = acquisition.Strategies(agent, params, each)
      strategies = self.strategies.changed(params, each, seed=seed)
      task = self.task
      results = acquisition.compare(strategies, self.choosing, task.held_out, task.oracle)
      for name, outcome in results.items():
        self.found.setdefault((price, name), []).append(outcome)
      costs = {n: round(-float(o.returns.mean()), 3) for n, o in results.items()}
      print(self.version, seed, price, costs, flush=True)


def _some(data: acquisition.Episodes, count: int) -> acquisition.Episodes:
  rows = np.linspace(0, len(data.labels) - 1, min(count, len(data.labels))).astype(int)
  values = {name: x[:, rows] for name, x in data.values.items()}
  return acquisition.Episodes(values, data.valid[:, rows], data.labels[rows])


def cost_table(version: str, task: Task, found: Found, about: str) -> common.Table:
  """Returns costs of all strategies, and what the agent gets and buys."""
  names = list(dict.fromkeys(name for _, name in found))
  bought = [f"{name} bought" for name in task.model.modalities]
  rows = []
  for price in dict.fromkeys(price for price, _ in found):
    costs = {n: [-float(o.returns.mean()) for o in found[price, n]] for n in names}
    own = found[price, "agent"]
    counts = [o.bought.sum(axis=0).mean(axis=0) for o in own]
    accuracy = common.spread([100 * float(o.correct.mean()) for o in own], ".3g")
    ratio = float(np.mean(costs["agent"]) / np.mean(costs["random"]))
    cells = [common.spread([float(c[i]) for c in counts], ".3g") for i in range(len(bought))]
    rows.append(
      [f"{price:g}", *(common.spread(costs[n], ".3g") for n in names), accuracy, *cells, ratio]
    )
  columns = ["price", *names, "agent right, %", *bought, "x random"]
  return common.Table(f"Cost of observing and of errors, {version}", columns, rows, about)


def shuffle_table(found: Mapping[str, Found]) -> common.Table:
  """Returns the loss by another episode's purchases, over the gap between agent and random."""
  rows = []
  for version, outcome in found.items():
    for price in dict.fromkeys(price for price, _ in outcome):
      cost = {
        n: np.array([-o.returns.mean() for o in outcome[price, n]])
        for n in ("agent", "shuffled", "random")
      }
      lost, gap = cost["shuffled"] - cost["agent"], cost["random"] - cost["agent"]
      share = f"{lost.mean() / gap.mean():.2f}" if gap.mean() > 0.05 else "–"
      ratio = float(np.mean(cost["shuffled"]) / np.mean(cost["agent"]))
      rows.append(
        [
          version,
          f"{price:g}",
          common.spread(list(lost), ".3g"),
          common.spread(list(gap), ".3g"),
          share,
          ratio,
        ]
      )
  columns = ["version", "price", "lost by shuffling", "gap to random", "share of it", "x agent"]
  note = "Nats; a share is given where the gap is above 0.05."
  return common.Table("The agent's purchases in other episodes", columns, rows, note)


def page(path: pathlib.Path, tasks: Mapping[str, Task], found: Mapping[str, Found]) -> None:
  """Writes what the first seed's agent bought in some episodes."""
  sections = []
  for version, task in tasks.items():
    for price in dict.fromkeys(price for price, _ in found[version]):
      own, rows = found[version][price, "agent"][0], slice(0, SHOWN)
      marks = None if task.oracle is None else task.oracle[:, rows].any(axis=2)
      guess = own.scores[rows].argmax(axis=1)
      names = list(task.model.modalities)
      text = purchases.table(own.bought[:, rows], names, task.held_out.labels[rows], guess, marks)
      sections.append((f"{version}, price {price:g}", text))
  purchases.write(path, "Purchases", sections)


def main(argv: list[str] | None = None) -> None:
  more = {"updates": 700, "seeds": 3, "count": 256, "versions": "adaptive,control"}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about, tiny = common.machine(), options.tiny
  updates, seeds = (2, 1) if tiny else (options.updates, options.seeds)
  prices = (0.0, 0.3) if tiny else PRICES
  made = {}
  for version in ["control"] if tiny else options.versions.split(","):
    if version == "clips":
      task = clips(options.path, 8)
    else:
      task = miniature(version, 8 if tiny else options.count, 8 if tiny else TICKS)
    made[version] = Outcomes(version, task, updates, prices)
  for seed in range(seeds):
    for one in made.values():
      one.add(seed)
    tasks = {version: one.task for version, one in made.items()}
    found = {version: one.found for version, one in made.items()}
    note = (
      f"Nats; mean (least to largest) of {seed + 1} seeds, {updates} updates of {ROWS} episodes."
    )
    tables = [cost_table(version, tasks[version], found[version], note) for version in tasks]
    page(pathlib.Path(options.output) / "acquisition.html", tasks, found)
    common.publish("acquisition", options, [*tables, shuffle_table(found)], about)


if __name__ == "__main__":
  main()
