"""A trial, one learner, one rule, one stream, one task, and its results as plain numbers."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perceiver_stream.lab import footage, motion, sources
from perceiver_stream.lab.footage import Clips, Footage
from perceiver_stream.lab.learners import LEARNERS
from perceiver_stream.lab.masking import MASKINGS
from perceiver_stream.lab.rules import Rule, optimizer
from perceiver_stream.lab.running import Curves, Program, Runner
from perceiver_stream.lab.tasks import Task

NUM_POINTS = 20  # of a stored curve
PRETRAINING = Rule(optimizer=optimizer("adamw", 0.9), shuffled=True)
PRETRAINING_RATE = 1e-3
# Carry-over of the state from clip to clip: while training, and out of the stream.
CARRY = {"never": (False, False), "always": (True, True), "held out": (False, True)}


@dataclass(frozen=True, kw_only=True)
class Trial:
  """One experiment, run at every learning rate of its rule and with every seed.

  Attributes:
    learner: One of `LEARNERS`.
    task: Its targets.
    source: Of the footage: see `sources.sets_of`.
    rule: Its learning rule.
    pretraining: The pretraining objective, of `MASKINGS`, on shuffled footage of the third set;
      empty is none.
    carry: Carry-over of the state from clip to clip, one of `CARRY`.
    ticks: Frames of a clip.
    smoothness: Weight in the loss of the roughness of the flow, for learners with flow.
  """

  learner: str = "vit"
  task: Task = field(default_factory=Task)
  source: str = "world"
  rule: Rule = field(default_factory=Rule)
  pretraining: str = ""
  carry: str = "never"
  ticks: int = 4
  smoothness: float = 0.0

  def __post_init__(self):
    for name, known in (("learner", LEARNERS), ("carry", CARRY)):
      if getattr(self, name) not in known:
        raise ValueError(f"trial: {name}={getattr(self, name)!r}; use one of {', '.join(known)}.")
    if self.smoothness < 0:
      raise ValueError(f"trial: smoothness={self.smoothness}; use 0 (none) or more.")
    if self.carry == "always" and self.rule.shuffled:
      raise ValueError("trial: shuffled clips have no state to carry over; use carry='never'.")


@dataclass(frozen=True, kw_only=True)
class Size:
  """The scale of a grid: ticks, seeds, learning rates.

  Attributes:
    side: Rows and columns of a frame.
    widths: Of each learner, chosen for about the same number of parameters.
    stream_ticks: Length of the stream.
    held_out: Rows and ticks of the held-out footage; of videos, a row per file at most.
    pretraining_ticks: Length of the pretraining footage.
    pretraining_batch: Clips per pretraining step; every clip is used once per epoch.
    pretraining_epochs: Passes over the pretraining footage.
    seeds: Of worlds, parameters and orders, all at once.
    num_rates: Learning rates tried, from the middle of the rule's.
    parts: Number of times that a run is scored out of the stream.
  """

  side: int
  widths: Mapping[str, int]
  stream_ticks: int
  held_out: tuple[int, int]
  pretraining_ticks: int
  pretraining_batch: int = 8
  pretraining_epochs: int = 2
  seeds: int = 3
  num_rates: int = 5
  parts: int = 4

  def rates(self, rule: Rule) -> tuple[float, ...]:
    """Returns the learning rates of a rule: the same number for all rules."""
    least = (len(rule.rates) - self.num_rates) // 2
    return rule.rates[least : least + self.num_rates]


SIZES = {
  "default": Size(
    side=32,
    widths={
      "vit": 64,
      "unet": 30,
      "frame_by_frame": 84,
      "image_rnn": 72,
      "conv3d": 56,
      "trecvit": 72,
      "rvm": 68,
      "moog": 88,
      "stream_perceiver": 56,
      "video_autoencoder": 34,
      "conv_lstm": 36,
    },
    stream_ticks=8004,
    held_out=(8, 404),
    pretraining_ticks=8004,
  ),
  "full": Size(
    side=64,
    widths={
      "vit": 256,
      "unet": 120,
      "frame_by_frame": 280,
      "image_rnn": 248,
      "conv3d": 192,
      "trecvit": 236,
      "rvm": 228,
      "moog": 264,
      "stream_perceiver": 236,
      "video_autoencoder": 110,
      "conv_lstm": 116,
    },
    stream_ticks=200_016,
    held_out=(32, 2016),
    pretraining_ticks=200_016,
    pretraining_batch=64,
    seeds=5,
    parts=10,
  ),
  "nano": Size(
    side=16,
    widths={
      "vit": 8,
      "unet": 4,
      "frame_by_frame": 16,
      "image_rnn": 16,
      "conv3d": 12,
      "trecvit": 16,
      "rvm": 16,
      "moog": 20,
      "stream_perceiver": 8,
      "video_autoencoder": 8,
      "conv_lstm": 8,
    },
    stream_ticks=48,
    held_out=(2, 24),
    pretraining_ticks=64,
    pretraining_batch=2,
    pretraining_epochs=1,
    seeds=2,
    num_rates=1,
    parts=2,
  ),
}


class Material(NamedTuple):
  """Clips of the three sets."""

  pretraining: Clips | None
  in_stream: Clips
  out_of_stream: Clips


class Workshop:
  """Runs trials of one kind: their program is compiled and their footage rendered once."""

  def __init__(self, trial: Trial, size: Size, cache: pathlib.Path):
    self.trial, self.size, self.cache = trial, size, cache
    self.learner = LEARNERS[trial.learner](size.side, size.widths[trial.learner])
    self.runner = Runner(self._program(trial.rule))

  def __call__(self, seed: int) -> dict[str, Any]:
    """Returns the `summary` of the curves of all learning rates, and their cost.

    Where learner and footage both have flow, runs and baselines have `motion.SCORES` too.
    """
    trial, size, began = self.trial, self.size, time.monotonic()
    material = jax.tree.map(jnp.asarray, self.material(seed))
    params = jax.jit(self.runner.program.init)(jax.random.key(seed), material.in_stream)
    if trial.pretraining:
      params = self._pretrained(params, material.pretraining, seed)
    order = trial.rule.order(len(material.in_stream.frames), seed)
    runs, judge = {}, self._judge(params, seed, material.out_of_stream)
    for rate in size.rates(trial.rule):
      curves = self.runner(
        params, rate, seed, order, material.in_stream, material.out_of_stream, size.parts
      )
      runs[f"{rate:g}"] = summary(trial.task, curves)
      if judge:
        flow = self.runner.flow(curves.params, material.out_of_stream)
        runs[f"{rate:g}"]["motion"] = judge.scores(by_row(flow))
    return {
      "runs": runs,
      "baselines": baselines(trial.task, material),
      "rivals": judge.rivals() if judge else {},
      "parameters": sum(x.size for x in jax.tree.leaves(params)),
      "clips": int(np.sum(order >= 0)),
      "seconds": round(time.monotonic() - began, 1),
    }

  def material(self, seed: int) -> Material:
    """Returns the footage of a seed, cut into clips."""
    trial, size = self.trial, self.size
    clips = lambda name, ticks: footage.cut(  # noqa: E731
      self._watched(seed, name, 1, ticks), trial.task, trial.ticks
    )
    return Material(
      clips("pretraining", size.pretraining_ticks) if trial.pretraining else None,
      clips("in_stream", size.stream_ticks),
      footage.cut(self.held_out(seed), trial.task, trial.ticks),
    )

  def held_out(self, seed: int) -> Footage:
    """Returns the held-out footage."""
    return self._watched(seed, "out_of_stream", *self.size.held_out)

  def _watched(self, seed: int, name: str, rows: int, ticks: int) -> Footage:
    config = sources.sets_of(self.trial.source, seed, self.size.side)[name]
    return footage.kept(self.cache, config, sources.rows_of(config, rows), ticks)

  def _judge(self, params: Any, seed: int, clips: Any) -> motion.Judge | None:
    """Returns the scorer of flow, if both learner and footage have it."""
    held_out, task = self.held_out(seed), self.trial.task
    known = motion.MOTION in held_out and (task.shows, task.displacement) == ("pixels", 1)
    if known and self.runner.program.says_flow(params, clips):
      return motion.Judge(held_out)
    return None

  def _program(self, rule: Rule, masking: str = "vanilla") -> Program:
    trial, (carry, carry_held_out) = self.trial, CARRY[self.trial.carry]
    return Program(
      learner=self.learner,
      task=trial.task,
      rule=rule,
      masking=MASKINGS[masking],
      carry=carry and not rule.shuffled,
      carry_held_out=carry_held_out,
      hints=bool(trial.pretraining),
      smoothness=trial.smoothness,
    )

  @functools.cached_property
  def _teacher(self) -> Runner:
    return Runner(self._program(PRETRAINING, self.trial.pretraining))

  def _pretrained(self, params: Any, clips: Any, seed: int) -> Any:
    """Returns parameters after pretraining on shuffled batches."""
    rng, size = np.random.default_rng((seed, 2)), self.size
    epochs = [rng.permutation(len(clips.frames)) for _ in range(size.pretraining_epochs)]
    order = np.concatenate(epochs).astype(np.int32)
    order = order[: len(order) // size.pretraining_batch * size.pretraining_batch]
    order = order.reshape(-1, size.pretraining_batch)
    return self._teacher(params, PRETRAINING_RATE, seed, order, clips, parts=1).params


def summary(task: Task, curves: Curves) -> dict[str, Any]:
  """Returns errors in and out of the stream, and their curves; None where they are not finite."""
  points = np.array_split(curves.in_stream, min(NUM_POINTS, len(curves.in_stream)))
  out = task.score(curves.out_of_stream)
  return {
    "in_stream": _plain(task.score(curves.in_stream.sum(0))),
    "out_of_stream": _plain(out[-1]),
    "in_stream_curve": [_plain(task.score(p.sum(0))) for p in points],
    "out_of_stream_curve": [_plain(x) for x in out],
  }


def by_row(flow: Float[Array, "n T R H W 2"]) -> Float[np.ndarray, "R N H W 2"]:
  """Returns outputs by clip as rows of ticks."""
  ticks = np.asarray(flow).reshape(-1, *flow.shape[2:])
  return np.moveaxis(ticks, 1, 0)


def baselines(task: Task, material: Material) -> dict[str, dict[str, float | None]]:
  """Returns the errors of copying the frame (pixels only) and of the stream's mean image."""
  mean = np.asarray(material.in_stream.pictures, np.float32).mean((0, 1, 2)) / 255
  found: dict[str, dict[str, float | None]] = {"mean picture": {}}
  if task.shows == "pixels":
    found["copy"] = {}
  for name in ("in_stream", "out_of_stream"):
    clips: Clips = getattr(material, name)
    flat = lambda x: np.asarray(x).reshape(-1, *x.shape[3:])  # noqa: E731
    pictures, counts = flat(clips.pictures).astype(np.float32) / 255, flat(clips.counts)
    predictions = {"mean picture": np.broadcast_to(mean, pictures.shape)}
    if task.shows == "pixels":
      predictions["copy"] = flat(clips.frames).astype(np.float32) / 255
    for baseline, painted in predictions.items():
      sums = task.measure(jnp.asarray(painted), jnp.asarray(pictures), jnp.asarray(counts))
      found[baseline][name] = _plain(task.score(np.asarray(sums)))
  return found


def _plain(value: float | Float[np.ndarray, ""]) -> float | None:
  return float(value) if np.isfinite(value) else None


def key_of(trial: Trial, size: Size, seed: int) -> str:
  """Returns everything a result depends on, as text."""
  fields = dataclasses.asdict(trial)
  if not trial.smoothness:  # results of versions without it keep their names
    del fields["smoothness"]
  about = {"trial": fields, "size": dataclasses.asdict(size), "seed": seed}
  about["size"]["widths"] = size.widths[trial.learner]
  about["rates"] = size.rates(trial.rule)
  del about["size"]["seeds"]
  return repr(about)
