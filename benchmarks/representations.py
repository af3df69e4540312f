"""Self-supervised methods in small: a linear probe of frozen video features, after as many updates each.

  python benchmarks/representations.py
  python benchmarks/representations.py --only='moco|untrained' --markdown=docs/results.md

Clips of `streams.pulses`: the class is the period in which a disc pulses, slower than a few frames show,
and the tone of its sound. Every method of `models.self_supervised` trains the same towers on the same
recordings; the probe is a ridge regression on the frozen features of whole clips, with labels of a part
of these recordings, tested on others. Each method stands beside an ablation of its own; all beside
untrained towers, and the same tower trained with labels. Rows that were measured before are kept in
the folder of results (--again=1 measures them anew).
"""

import dataclasses
import json
import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from perceiver_stream import training, zoo
from perceiver_stream.evaluation.probes import features as probes
from perceiver_stream.models import brave
from perceiver_stream.models.self_supervised import METHODS
from perceiver_stream.models.tsm_resnet import Config as TowerConfig
from perceiver_stream.nn.losses.localisation import heat_maps
from perceiver_stream.streams import pulses
from perceiver_stream.training import objectives
from perceiver_stream.training.optimizers import make_optimizer

UNTRAINED, SUPERVISED, BRAVE, LOCALISE = "untrained", "supervised", "brave", "localise"
SHUFFLED = {"shuffled": True}
CLASSES = 4

# Ablation of each method: its name, fields of the method, and fields of the objective.
ABLATIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
  "simclr": ("no augmentation", {}, {"augment": False}),
  "moco": ("no slow encoder", {"momentum": 0.0}, {}),
  "clip": ("shuffled sound", {}, SHUFFLED),
  "l3": ("shuffled sound", {}, SHUFFLED),
  "avts": ("easy negatives only", {"hard_share": 0.0}, {}),
  "gdt": ("no transformations", {"hypothesis": 1}, {}),
  "xdc": ("own clusters", {"own_labels": True}, {}),
  "selavi": ("not balanced", {"balanced": False}, {}),
  "vatt": ("all tokens", {"drop": 0.0}, {}),
  "mil_nce": ("one caption", {"candidates": 1}, {}),
  "mmv": ("no captions", {"text_weight": 0.0}, {}),
  "localise": ("shuffled sound", {}, SHUFFLED),
  "coclr": ("nothing mined", {"top_k": 0}, {}),
  "dpc": ("one block ahead", {"predicted": 1}, {}),
  BRAVE: ("no stop-gradient", {}, {"stop_gradient": False}),
}


class Row(NamedTuple):
  """A row of the table: a method, and the fields that differ from its config."""

  method: str
  ablation: str = ""
  fields: Mapping[str, Any] = {}
  more: Mapping[str, Any] = {}

  @property
  def name(self) -> str:
    """Name in the table."""
    return f"{self.method}, {self.ablation}" if self.ablation else self.method


class Found(NamedTuple):
  """Results of a row, by seed.

  Attributes:
    right: Accuracy of the probe in percent.
    alarms: Late windows with an alarm of collapse, in percent.
    step_s: CPU seconds of an update.
    half: Clips with a silent disc whose heat map peaks in the half of the other one, in percent.
  """

  right: list[float]
  alarms: list[float]
  step_s: list[float]
  half: list[float]


class Clips(NamedTuple):
  """Recordings by modality, `[N, T, ...]`."""

  ticks: dict[str, np.ndarray]

  @property
  def labels(self) -> np.ndarray:
    """Class of each recording, `[N]`."""
    return self.ticks["label"][:, 0]

  def first(self, number: int) -> "Clips":
    """Returns the first recordings."""
    return Clips({name: x[:number] for name, x in self.ticks.items()})


def rows_of() -> dict[str, Row]:
  """Returns all rows by name, references first."""
  rows = [Row(UNTRAINED), Row(SUPERVISED)]
  for method in (*METHODS, BRAVE):
    if method == SUPERVISED:
      continue
    rows.append(Row(method))
    if method in ABLATIONS:
      rows.append(Row(method, *ABLATIONS[method]))
  return {row.name: row for row in rows}


def recordings(config: pulses.Config, number: int, seed: int) -> Clips:
  """Returns recordings of one seed with all modalities of the stream."""
  config = dataclasses.replace(config, seed=seed)
  found: dict[str, list[np.ndarray]] = {}
  for recording in range(number):
    one = pulses.Pulse(config, 0, recording)
    ticks = [one.read() for _ in range(config.ticks_per_recording)]
    for name in ticks[0]:
      found.setdefault(name, []).append(np.stack([tick[name] for tick in ticks]))
  return Clips({name: np.stack(x) for name, x in found.items()})


def experiment_of(row: Row, steps: int, *, nano: bool) -> training.ExperimentConfig:
  """Returns the experiment of a row."""
  base = SUPERVISED if row.method in (UNTRAINED, BRAVE) else row.method
  experiment = training.load_config(f"self_supervised:{'nano_' if nano else ''}{base}")
  objective = experiment.objective
  if row.method == BRAVE:
    own = training.load_config(f"brave:{'nano' if nano else 'tiny'}")
    narrow = {"narrow_step": objective.frame_step, "narrow_side": objective.side}
    own.objective = dataclasses.replace(own.objective, window=objective.window, **narrow)
    video: TowerConfig = experiment.model.video
    sound: TowerConfig = experiment.model.audio
    own.model = dataclasses.replace(own.model, video=video, audio=sound)
    own.stream, experiment, objective = experiment.stream, own, own.objective
  else:
    objective.method = dataclasses.replace(objective.method, **row.fields)
  experiment.objective = dataclasses.replace(objective, **row.more)
  schedule = {"warmup_steps": max(steps // 15, 1), "decay_steps": max(steps, 2)}
  experiment.optimizer = dataclasses.replace(experiment.optimizer, **schedule)
  return experiment


class Trainer:
  """One compiled update of a row, for all seeds."""

  def __init__(self, row: Row, steps: int, num_rows: int, *, nano: bool):
    self.row, self.num_rows = row, num_rows
    self.steps = min(steps, 20) if row.method == UNTRAINED else steps
    self.experiment = experiment_of(row, steps, nano=nano)
    model = zoo.build(self.experiment.model)
    self.objective = objectives.make(model, self.experiment.objective)
    self._rule = make_optimizer(self.experiment.optimizer)
    self._first, self._features = jax.jit(self._start), jax.jit(self._features_of)
    self._update = jax.jit(self._updated, donate_argnums=(0, 1, 2))

  def trained(self, clips: Clips, seed: int) -> tuple[PyTree, PyTree, float, float]:
    """Returns parameters, state, the share of late windows with an alarm, and CPU seconds a step.

    Untrained towers see some batches too, for the statistics of their batch norms.
    """
    key, late = jax.random.key(seed), max(self.steps // 4, 1)
    rng, number = np.random.default_rng(seed), len(clips.labels)
    params, state = self._first(key)
    moments, alarms, start = self._rule.init(params), [], 0.0
    for step in range(self.steps):
      rows = rng.integers(0, number, self.num_rows)
      window = {name: jnp.asarray(np.moveaxis(x[rows], 0, 1)) for name, x in clips.ticks.items()}
      found = self._update(params, moments, state, window, jax.random.fold_in(key, step))
      params, moments, state, alarm = jax.block_until_ready(found)
      alarms.append(float(alarm))
      start = start or time.process_time()  # the first call compiles
    spent = (time.process_time() - start) / max(self.steps - 1, 1)
    return params, state, float(np.mean(alarms[-late:])), spent

  def features(self, params: PyTree, state: PyTree, clips: Clips) -> np.ndarray:
    """Returns the features of whole clips, `[N, D]`, frozen."""
    parts = np.array_split(clips.ticks["pixels"], max(len(clips.labels) // 64, 1))
    return np.concatenate([self._features(params, state, jnp.asarray(x)) for x in parts])

  def in_half(self, params: PyTree, state: PyTree, clips: Clips) -> float:
    """Returns the share of clips whose heat map peaks in the half of the disc that sounds."""
    window = {name: jnp.asarray(np.moveaxis(x, 0, 1)) for name, x in clips.ticks.items()}
    outputs = self.objective.embed(params, state, window)  # type: ignore[attr-defined]
    maps = jax.vmap(lambda image, sound: heat_maps(image[None], sound[None])[0, 0])
    peaks = np.asarray(maps(outputs["places"], outputs["sounds"]).max(axis=1)).argmax(axis=1)
    width, columns = clips.ticks["pixels"].shape[3], outputs["places"].shape[2]
    sounding = clips.ticks["place"][:, 0, 1] >= width / 2
    return float(np.mean((peaks >= columns / 2) == sounding))

  def _start(self, key: jax.Array) -> tuple[PyTree, PyTree]:
    params = self.objective.init_params(key, {})
    state = self.objective.initial_state(params, self.num_rows, jax.random.fold_in(key, 1))
    return params, state

  def _updated(
    self, params: PyTree, moments: Any, state: PyTree, window: Any, key: jax.Array
  ) -> tuple[PyTree, Any, PyTree, jax.Array]:
    (_, aux), grads = self.objective.loss_and_grad(params, state, window, key)
    if self.row.method != UNTRAINED:
      with jax.numpy_dtype_promotion("standard"):  # optax's powers of an integer count
        change, moments = self._rule.update(grads, moments, params)
      params = optax.apply_updates(params, change)
    alarm = jnp.mean(aux.scores["collapse_alarm@0"].model)
    return params, moments, aux.next_state, alarm

  def _features_of(self, params: PyTree, state: PyTree, frames: jax.Array) -> jax.Array:
    window = {"pixels": jnp.moveaxis(frames, 0, 1)}
    if self.row.method != BRAVE:
      return self.objective.clip_features(params, state, window)  # type: ignore[attr-defined]
    clips = window["pixels"][:: self.experiment.objective.narrow_step]
    clips = jnp.moveaxis(clips, 0, 1).astype(jnp.float32) / 255
    found, _ = brave.build(self.experiment.model).embed(params, state, {"narrow_video": clips})
    return found["narrow_video"].features


class Sets(NamedTuple):
  """Recordings to learn from without labels, those with labels, and those of the test.

  Attributes:
    pools: By the fields of the stream that a method changes, sorted.
    labelled: For the probe; the first of the pool.
    test: Others.
    silent: Others with a silent disc.
  """

  pools: dict[str, Clips]
  labelled: Clips
  test: Clips
  silent: Clips


def sets_of(pool: int, test: int, fields: Mapping[str, Mapping[str, Any]]) -> Sets:
  """Returns recordings; `fields` are those of the stream, by key of the pool."""
  stream = training.load_config("self_supervised:clip").stream
  stream = dataclasses.replace(stream, modalities=pulses.MODALITIES)
  pools = {
    key: recordings(dataclasses.replace(stream, **more), pool, 1)
    for key, more in {"": {}, **fields}.items()
  }
  silent = dataclasses.replace(stream, silent=True)
  held_out = recordings(stream, test, 2), recordings(silent, test, 2)
  return Sets(pools, pools[""].first(test), *held_out)


def pool_key(row: Row) -> str:
  """Returns the key of a row's pool: the fields of the stream that its method changes."""
  method = METHODS.get(row.method)
  return json.dumps(dict(method.stream), sort_keys=True) if method and method.stream else ""


def measured(row: Row, sets: Sets, seeds: int, steps: int, num_rows: int, *, nano: bool) -> Found:
  """Returns the results of a row for all seeds."""
  trainer, found = Trainer(row, steps, num_rows, nano=nano), Found([], [], [], [])
  for seed in range(seeds):
    params, state, alarm, step_s = trainer.trained(sets.pools[pool_key(row)], seed)
    train, test = (trainer.features(params, state, clips) for clips in sets[1:3])
    guess = probes.linear_probe(train, sets.labelled.labels, test)
    found.right.append(100 * probes.accuracy(guess, sets.test.labels))
    found.alarms.append(100 * alarm)
    found.step_s.append(step_s)
    if row.method == LOCALISE:
      found.half.append(100 * trainer.in_half(params, state, sets.silent))
  return found


def table(found: Mapping[str, Found], note: str) -> common.Table:
  """Returns the table of the rows that are done."""
  rows, chance = [], 100 / CLASSES
  for name, one in found.items():
    alarms, ratio = float(np.mean(one.alarms)), float(np.mean(one.right) / chance)
    step = None if name == UNTRAINED else 1000 * float(np.median(one.step_s))
    half = common.spread(one.half) if one.half else None
    rows.append([name, common.spread(one.right), half, alarms, step, ratio])
  rows.append(["chance", f"{chance:.1f}", "50.0", None, None, 1.0])
  columns = [
    "method",
    "linear probe, %",
    "peak in the half that sounds, %",
    "late alarms of collapse, %",
    "CPU ms/update",
    "x chance",
  ]
  return common.Table("Linear probes of frozen video features", columns, rows, note)


def kept(path: pathlib.Path, sizes: Mapping[str, int]) -> dict[str, Found]:
  """Returns the rows of a file that were measured with the same sizes."""
  if not path.is_file():
    return {}
  stored = json.loads(path.read_text())
  return {k: Found(*x) for k, x in stored["rows"].items()} if stored["sizes"] == dict(sizes) else {}


def chosen(rows: Mapping[str, Row], only: str) -> dict[str, Row]:
  """Returns the rows whose name a regular expression matches from its start to its end.

  Raises:
    ValueError: It matches none.
  """
  found = {name: row for name, row in rows.items() if not only or re.fullmatch(only, name)}
  if not found:
    raise ValueError(f"--only={only!r} matches no row; there are {', '.join(rows)}.")
  return found


def main(argv: Sequence[str] | None = None) -> None:
  more = {"steps": 200, "rows": 32, "seeds": 3, "pool": 512, "test": 512, "only": "", "again": 0}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about, o = common.machine(), options
  tiny = {"steps": 2, "rows": 4, "seeds": 1, "pool": 8, "test": 8}
  sizes: dict[str, int] = tiny if o.tiny else {name: getattr(o, name) for name in tiny}
  every = rows_of()
  wanted = chosen(every, UNTRAINED if o.tiny else o.only)
  fields = {pool_key(row): METHODS[row.method].stream for row in wanted.values() if pool_key(row)}
  sets = sets_of(sizes["pool"], sizes["test"], fields)
  path = pathlib.Path(o.output) / "representations_rows.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  found = {} if o.again else kept(path, sizes)
  for name, row in sorted(wanted.items(), key=lambda item: bool(item[1].ablation)):
    if name in found:
      continue
    arguments = sizes["seeds"], sizes["steps"], sizes["rows"]
    found[name] = measured(row, sets, *arguments, nano=o.tiny)
    print(f"{time.process_time():.0f} s, {name}: {found[name]}", flush=True)
    path.write_text(json.dumps({"sizes": sizes, "rows": found}) + "\n")
  found = {name: found[name] for name in every if name in found}
  note = (
    f"Mean (least to largest) of {sizes['seeds']} seeds; {sizes['steps']} updates of {sizes['rows']} clips, from "
    f"{sizes['pool']} recordings; the probe has {len(sets.labelled.labels)} of them with labels, and {sizes['test']} "
    f"others for the test. Alarms: share of the last quarter of updates."
  )
  common.publish("representations", options, [table(found, note)], about)


if __name__ == "__main__":
  main()
