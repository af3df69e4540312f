"""Prompts for a frozen encoder of clips: accuracy of a new task against trained parameters.

  python benchmarks/prompts.py
  python benchmarks/prompts.py --steps=1000 --seeds=5 --markdown=docs/results.md

A small ViViT learns the direction in which the one ball of `streams.balls` moves. The new task is the number
of balls. `one rendering`: images as before; `two meanings`: half of the clips are inverted, and their answers
reversed, so that it matters which. Every method has the same linear read-out of the class
token, steps, batches and number of learning rates, of which one is chosen on validation clips with seed 0.
`other prompts`: PGN's prompts are those of another test clip. The encoder's arrays are compared bit by bit.
"""

import functools
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import common
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from perceiver_stream import nn
from perceiver_stream.models import vivit
from perceiver_stream.nn import prompts
from perceiver_stream.nn.conv import Conv2D
from perceiver_stream.streams import balls
from perceiver_stream.zoo import clip_encoders

SIDE, TICKS, PATCH, LAYERS, DIM = 24, 2, 6, 3, 32
CLASSES = 4  # of both tasks: right, down, left, up, and 1 to 4 balls
PROMPTS, LIBRARY, BORDER = 8, 16, 3  # prompts, vectors of PGN's library, pixels
RATES = (5e-3, 2e-2, 8e-2)
ENCODER = clip_encoders.build(
  vivit.Config(
    num_frames=TICKS,
    height=SIDE,
    width=SIDE,
    patch_frames=TICKS,
    patch_height=PATCH,
    patch_width=PATCH,
    dim=DIM,
    num_layers=LAYERS,
    num_heads=4,
    mlp_dim=2 * DIM,
    num_classes=0,
    tubelet_init="full",
  )
)
FROZEN = ("linear probe", "pixel border", "VPT shallow", "VPT deep", "IIP", "PGN")
METHODS = (*FROZEN, "PGN's network alone", "full finetuning", "from scratch")
VERSIONS = ("one rendering", "two meanings")


class Data(NamedTuple):
  """Clips `[N, T, H, W, 3]` in [0, 1] and labels `[N]`."""

  clips: np.ndarray
  labels: np.ndarray


def clips(number: int, seed: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns clips of 1 to `most` balls, their number less one, and the direction of the first."""
  rng, found = np.random.default_rng(seed), []
  for i in range(number):
    count = int(rng.integers(1, most, endpoint=True))
    size = {"height": SIDE, "width": SIDE, "num_balls": count, "radius": rng.uniform(0.07, 0.15)}
    box = balls.Box(balls.Config(**size, rate_hz=8.0, motion=True, seed=seed), 0, i)
    first, last = (box.read() for _ in range(TICKS))
    x, y = -last["flow_backward"][last["segmentation"] == 1][0]
    turn = np.arctan2(y, x) / (2 * np.pi) * CLASSES
    image = np.stack([tick["pixels"] for tick in (first, last)]).astype(np.float32) / 255
    found.append((image, count - 1, round(float(turn)) % CLASSES))
  images, counts, turns = zip(*found, strict=True)
  return np.stack(images), np.array(counts), np.array(turns)


def version_of(data: Data, version: str) -> Data:
  """Returns the clips of a version; with two meanings, every second one is inverted."""
  if version == "one rendering":
    return data
  odd = np.arange(len(data.labels)) % 2 == 1
  images = np.where(odd[:, None, None, None, None], 1 - data.clips, data.clips)
  return Data(images, np.where(odd, CLASSES - 1 - data.labels, data.labels))


def small_network(clips: jax.Array) -> jax.Array:
  """Returns features of a small residual network on the frames of a clip, as channels."""
  x = jnp.moveaxis(clips, 1, 3).reshape(*clips.shape[:1], *clips.shape[2:4], -1)
  x = Conv2D(4, stride=2, name="stem")(x)
  y = Conv2D(8, stride=2, name="first")(jax.nn.relu(x))
  y = Conv2D(8, name="second")(jax.nn.relu(y))
  x = y + Conv2D(8, kernel=1, stride=2, name="shortcut")(x)
  return jnp.mean(jax.nn.relu(x), axis=(1, 2))


def prompts_of(method: str, clips: jax.Array, tokens: int) -> dict[str, Any]:
  """Returns the prompts of a method on some clips, as arguments of `run_with_prompts`."""
  rows = clips.shape[0]
  if method.startswith("VPT"):
    deep = LAYERS - 1 if method == "VPT deep" else 0
    found = prompts.VisualPrompts(PROMPTS, DIM, patch=(PATCH, PATCH), num_deep=deep)(rows)
    return dict(zip(("prompts", "deep"), found, strict=True))
  if method not in ("IIP", "PGN"):
    return {}
  mix = prompts.GeneratedPrompts(PROMPTS, LIBRARY, DIM)
  if method == "IIP":
    return {"prompts": prompts.IndependentPrompts(mix)(rows), "position": tokens}
  logits = nn.Linear(PROMPTS * LIBRARY, name="logits")(small_network(clips))
  return {"prompts": mix(logits), "position": tokens}


def network(method: str, clips: jax.Array, others: jax.Array) -> jax.Array:
  """Returns the scores of clips; PGN's prompts are computed from `others`."""
  if method == "PGN's network alone":
    features = small_network(clips)
  else:
    if method == "pixel border":
      flat = clips.reshape(-1, *clips.shape[2:])
      clips = prompts.PixelBorder(BORDER)(flat).reshape(clips.shape)
    tokens, blocks = ENCODER.tokens_and_blocks(clips)
    given = prompts_of(method, others, tokens.shape[1])
    features = prompts.run_with_prompts(blocks, tokens, **given)[:, 0]
  return nn.Linear(CLASSES, name="answer")(features)


def first_encoder(seed: int) -> PyTree:
  """Returns random parameters of the encoder."""
  return ENCODER.init(jax.random.key(seed), jnp.zeros((1, TICKS, SIDE, SIDE, 3)))[0]


class Trainer:
  """One compiled update of a method, for all learning rates, seeds and encoders."""

  def __init__(self, method: str, steps: int, rows: int):
    self.method, self.steps, self.rows = method, steps, rows
    self.net = hk.without_apply_rng(hk.transform(functools.partial(network, method)))
    self.rule = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
    self._init, self._update = jax.jit(self._own), jax.jit(self._step)
    self._scores = jax.jit(lambda trained, frozen, *x: self.net.apply({**frozen, **trained}, *x))

  def _own(self, rng: jax.Array) -> PyTree:
    x = jnp.zeros((1, TICKS, SIDE, SIDE, 3))
    start = self.net.init(rng, x, x)
    return {name: leaves for name, leaves in start.items() if name.split("/")[0] != "vivit"}

  def _step(
    self, trained: PyTree, frozen: PyTree, moments: Any, rate: Any, clips: Any, labels: Any
  ):
    def loss(trained: PyTree) -> jax.Array:
      scores = jax.nn.log_softmax(self.net.apply({**frozen, **trained}, clips, clips))
      return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], axis=1))

    with jax.numpy_dtype_promotion("standard"):  # optax's powers of an integer count
      change, moments = self.rule.update(jax.grad(loss)(trained), moments)
    return jax.tree.map(lambda x, y: x - rate * y, trained, change), moments

  def split(self, encoder: PyTree, seed: int) -> tuple[PyTree, PyTree]:
    """Returns the parameters that are trained, at the start, and the frozen ones."""
    own = self._init(jax.random.key(seed))
    return (own, encoder) if self.method in FROZEN else (own | encoder, {})

  def train(
    self, encoder: PyTree, data: Data, rate: float, seed: int, steps: int = 0
  ) -> tuple[PyTree, PyTree]:
    """Returns the trained and the frozen parameters after `steps` updates, its own number if 0."""
    trained, frozen = self.split(encoder, seed)
    moments, rng, steps = self.rule.init(trained), np.random.default_rng(seed), steps or self.steps
    for step in range(steps):
      now = rate * min(1.0, 10 * (step + 1) / steps)
      now *= 0.5 + 0.5 * np.cos(np.pi * step / steps)
      batch = rng.integers(0, len(data.labels), self.rows)
      batch = data.clips[batch], data.labels[batch]
      trained, moments = self._update(trained, frozen, moments, np.float32(now), *batch)
    return trained, frozen

  def accuracy(self, params: tuple[PyTree, PyTree], data: Data, others: int = 0) -> float:
    """Returns the share of right answers in percent, with the prompts of another clip if wanted."""
    scores = self._scores(*params, data.clips, np.roll(data.clips, others, axis=0))
    return 100 * float(np.mean(np.argmax(np.asarray(scores), axis=1) == data.labels))


def same_bits(params: PyTree, before: PyTree) -> bool:
  """Returns True if all arrays of `before` are in `params`, bit by bit."""
  return all(
    np.asarray(params[module][name]).tobytes() == np.asarray(value).tobytes()
    for module, leaves in before.items()
    for name, value in leaves.items()
  )


class Found(NamedTuple):
  """Results of a method in one version over the seeds."""

  rate: float
  right: list[float]
  other: list[float]
  trained: int


class Sets(NamedTuple):
  """Clips for training, for the choice of rates, and for the test."""

  pool: Data
  validation: Data
  test: Data


def measured(trainer: Trainer, encoders: Sequence[PyTree], sets: Sets) -> Found:
  """Returns the test accuracy of each seed at the rate that is best on validation clips.

  Args:
    trainer: Of the method.
    encoders: Parameters of the encoder at the start, by seed.
    sets: Clips.

  Raises:
    RuntimeError: A frozen encoder has changed, or a trained one has not.
  """
  tried = {rate: trainer.train(encoders[0], sets.pool, rate, 0) for rate in RATES}
  valid = {rate: trainer.accuracy(params, sets.validation) for rate, params in tried.items()}
  best, right, other, trained = max(valid, key=valid.__getitem__), [], [], {}
  for seed, encoder in enumerate(encoders):
    before = jax.tree.map(np.array, encoder)
    params = trainer.train(encoder, sets.pool, best, seed) if seed else tried[best]
    trained, kept = params[0], same_bits({**params[0], **params[1]}, before)
    if before and kept != (trainer.method in FROZEN):
      raise RuntimeError(f"{trainer.method}: the encoder is {'un' * kept}changed after training.")
    right.append(trainer.accuracy(params, sets.test))
    if trainer.method == "PGN":
      other.append(trainer.accuracy(params, sets.test, others=1))
  return Found(best, right, other, sum(int(np.size(x)) for x in jax.tree.leaves(trained)))


def table(found: dict[str, dict[str, Found]], common_class: dict[str, float], note: str):
  """Returns the table of the versions that are done: methods by row."""
  rows, first = [], next(iter(found))
  mean = lambda method: np.mean([np.mean(f[method].right) for f in found.values()])  # noqa: E731
  for method, f in found[first].items():
    each = [one[method] for one in found.values()]
    rates = ", ".join(f"{one.rate:g}" for one in each)
    accuracies = [common.spread(one.right) for one in each]
    ratio = float(mean(method) / mean("linear probe"))
    other = common.spread(each[-1].other) if each[-1].other else None
    rows.append([method, f.trained, *accuracies, other, rates, ratio])
  most = [common_class[version] for version in found]
  ratio = float(np.mean(most) / mean("linear probe"))
  rows.append(["most frequent class", None, *(f"{x:.1f}" for x in most), None, "", ratio])
  columns = ["method", "trained parameters", *(f"{version}, %" for version in found)]
  columns += [f"other prompts, {list(found)[-1]}, %", "rates", "x linear probe"]
  return common.Table("Number of balls with a frozen encoder", columns, rows, note)


def pretrained(trainer: Trainer, updates: int, pool: int) -> tuple[PyTree, float]:
  """Returns the encoder's parameters after it learned directions, and its accuracy in percent."""
  images, _, turns = clips(pool, 1, 1)
  held_out, _, truth = clips(max(pool // 2, 8), 2, 1)
  params = trainer.train(first_encoder(0), Data(images, turns), 2e-3, 0, updates)
  encoder = {name: leaves for name, leaves in params[0].items() if name.startswith("vivit")}
  return encoder, trainer.accuracy(params, Data(held_out, truth))


def results(
  trainers: dict[str, Trainer], encoder: PyTree, sets: Sets, seeds: int
) -> Iterator[tuple[dict[str, dict[str, Found]], dict[str, float]]]:
  """Yields all results so far, and the share of the most frequent class, after each version."""
  starts = {"from scratch": [first_encoder(1 + seed) for seed in range(seeds)]}
  starts["PGN's network alone"] = [{}] * seeds
  found: dict[str, dict[str, Found]] = {}
  most: dict[str, float] = {}
  for version in VERSIONS:
    here = Sets(*(version_of(data, version) for data in sets))
    guess = np.bincount(here.pool.labels).argmax()
    most[version] = 100 * float(np.mean(here.test.labels == guess))
    found[version] = {}
    for method, trainer in trainers.items():
      one = measured(trainer, starts.get(method, [encoder] * seeds), here)
      found[version][method] = one
      print(f"{time.process_time():.0f} s, {version}, {method}: {one}", flush=True)
    yield found, most


def main(argv: list[str] | None = None) -> None:
  more = {"steps": 600, "rows": 32, "seeds": 3, "pool": 2048, "pretraining": 1500}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about, o = common.machine(), options
  steps, rows, seeds, pool, first = (
    (1, 2, 1, 8, 1) if o.tiny else (o.steps, o.rows, o.seeds, o.pool, o.pretraining)
  )
  whole = Trainer("full finetuning", steps, rows)
  encoder, direction = pretrained(whole, first, pool)
  print(f"{time.process_time():.0f} s, direction: {direction:.1f} %", flush=True)
  held_out = max(pool // 2, 8)
  sets = Sets(*(Data(*clips(n, i, 4)[:2]) for n, i in ((pool, 3), (held_out, 4), (held_out, 5))))
  wholes = {"full finetuning": whole, "from scratch": whole}
  methods = ("linear probe",) if o.tiny else METHODS
  trainers = {name: wholes.get(name) or Trainer(name, steps, rows) for name in methods}
  for found, most in results(trainers, encoder, sets, seeds):
    note = (
      f"Mean (least to largest) of {seeds} seeds; {steps} updates of {rows} clips of {TICKS} frames of {SIDE}×{SIDE}, "
      f"16 tubelets; {held_out} test clips. {PROMPTS} prompts; {LAYERS} blocks of width {DIM}, which name the direction "
      f"of one ball in {direction:.1f} % of held-out clips (chance {100 / CLASSES:g}) after {first} updates. The frozen "
      f"encoder is the same bit by bit after every training. {time.process_time() / 60:.1f} CPU minutes."
    )
    common.publish("prompts", options, [table(found, most, note)], about)


if __name__ == "__main__":
  main()
