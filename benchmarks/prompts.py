"""Prompts for a frozen encoder of clips: accuracy of a new task against trained parameters.

  python benchmarks/prompts.py
  python benchmarks/prompts.py --steps=1000 --seeds=5 --markdown=docs/results.md

A small ViViT learns the direction in which the one ball of `streams.balls` moves. The new task is the number
of balls. `one rendering`: images as before; `two renderings`: half of the clips are inverted; `two
meanings`: the answer of inverted ones is reversed, too. Every method has the same linear read-out of the class
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

SIDE, TICKS, PATCH, LAYERS, DIM = 24, 2, 6, 4, 32
COUNTS, DIRECTIONS = 4, 8  # classes of the new task and of the old one
PROMPTS, LIBRARY, BORDER = 8, 16, 3  # prompts, vectors of PGN's library, pixels
RATES = (1e-3, 5e-3, 2.5e-2)
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
VERSIONS = ("one rendering", "two renderings", "two meanings")


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
    turn = np.arctan2(y, x) / (2 * np.pi) * DIRECTIONS
    image = np.stack([tick["pixels"] for tick in (first, last)]).astype(np.float32) / 255
    found.append((image, count - 1, round(float(turn)) % DIRECTIONS))
  images, counts, turns = zip(*found, strict=True)
  return np.stack(images), np.array(counts), np.array(turns)


def version_of(data: Data, version: str) -> Data:
  """Returns the clips of a version; every second one is inverted in those of two."""
  if version == "one rendering":
    return data
  odd = np.arange(len(data.labels)) % 2 == 1
  images = np.where(odd[:, None, None, None, None], 1 - data.clips, data.clips)
  reverse = odd & (version == "two meanings")
  return Data(images, np.where(reverse, COUNTS - 1 - data.labels, data.labels))


def small_network(clips: jax.Array) -> jax.Array:
  """Returns features of a small residual network on the frames of a clip, as channels."""
  x = jnp.moveaxis(clips, 1, 3).reshape(*clips.shape[:1], *clips.shape[2:4], -1)
  x = Conv2D(8, stride=2, name="stem")(x)
  for i, dim in enumerate((16, 32)):
    with hk.name_scope(f"block_{i}"):
      y = Conv2D(dim, stride=2, name="first")(jax.nn.relu(x))
      y = Conv2D(dim, name="second")(jax.nn.relu(y))
      x = y + Conv2D(dim, kernel=1, stride=2, name="shortcut")(x)
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


def network(method: str, num_classes: int, clips: jax.Array, others: jax.Array) -> jax.Array:
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
  return nn.Linear(num_classes, name="answer")(features)


class Trainer:
  """One compiled update of a method, for all learning rates and seeds."""

  def __init__(self, method: str, num_classes: int, steps: int, rows: int):
    self.method, self.steps, self.rows = method, steps, rows
    make = functools.partial(network, method, num_classes)
    self.net = hk.without_apply_rng(hk.transform(make))
    self.rule = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
    self._init, self._update = jax.jit(self.net.init), jax.jit(self._step)
    self._scores = jax.jit(lambda trained, frozen, *x: self.net.apply({**frozen, **trained}, *x))

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
    x = jnp.zeros((1, TICKS, SIDE, SIDE, 3))
    start = self._init(jax.random.key(seed), x, x)
    own = {name: leaves for name, leaves in start.items() if name not in encoder}
    if self.method in FROZEN:
      return own, encoder
    return (own | encoder if self.method == "full finetuning" else start), {}

  def train(self, encoder: PyTree, data: Data, rate: float, seed: int) -> tuple[PyTree, PyTree]:
    """Returns the trained and the frozen parameters after all updates."""
    trained, frozen = self.split(encoder, seed)
    moments, rng = self.rule.init(trained), np.random.default_rng(seed)
    for step in range(self.steps):
      now = rate * min(1.0, 10 * (step + 1) / self.steps)
      now *= 0.5 + 0.5 * np.cos(np.pi * step / self.steps)
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


def measured(trainer: Trainer, encoder: PyTree, sets: Sets, seeds: int) -> Found:
  """Returns the test accuracy of each seed at the rate that is best on validation clips.

  Raises:
    RuntimeError: A frozen encoder has changed, or a trained one has not.
  """
  before = jax.tree.map(np.array, encoder)
  tried = {rate: trainer.train(encoder, sets.pool, rate, 0) for rate in RATES}
  valid = {rate: trainer.accuracy(params, sets.validation) for rate, params in tried.items()}
  best, right, other, trained = max(valid, key=valid.__getitem__), [], [], {}
  for seed in range(seeds):
    params = trainer.train(encoder, sets.pool, best, seed) if seed else tried[best]
    trained = params[0]
    if trainer.method != "PGN's network alone":
      kept = same_bits({**params[0], **params[1]}, before)
      if kept != (trainer.method in FROZEN):
        raise RuntimeError(f"{trainer.method}: the encoder is {'un' * kept}changed after training.")
    right.append(trainer.accuracy(params, sets.test))
    if trainer.method == "PGN":
      other.append(trainer.accuracy(params, sets.test, others=1))
  return Found(best, right, other, sum(int(np.size(x)) for x in jax.tree.leaves(trained)))


def spread(values: Sequence[float]) -> str | None:
  """Returns the mean and the range over seeds."""
  if not values:
    return None
  low, mean, high = (float(f(values)) for f in (np.min, np.mean, np.max))
  return f"{mean:.1f}" if len(values) == 1 else f"{mean:.1f} ({low:.1f} to {high:.1f})"


def table(found: dict[str, dict[str, Found]], common_class: dict[str, float], note: str):
  """Returns the table of the versions that are done: methods by row."""
  rows, first = [], next(iter(found))
  mean = lambda method: np.mean([np.mean(f[method].right) for f in found.values()])  # noqa: E731
  for method, f in found[first].items():
    each = [one[method] for one in found.values()]
    rates = ", ".join(f"{one.rate:g}" for one in each)
    accuracies = [spread(one.right) for one in each]
    ratio = float(mean(method) / mean("linear probe"))
    rows.append([method, f.trained, *accuracies, spread(each[-1].other), rates, ratio])
  most = [common_class[version] for version in found]
  ratio = float(np.mean(most) / mean("linear probe"))
  rows.append(["most frequent class", None, *(f"{x:.1f}" for x in most), None, "", ratio])
  columns = ["method", "trained parameters", *(f"{version}, %" for version in found)]
  columns += [f"other prompts, {list(found)[-1]}, %", "rates", "x linear probe"]
  return common.Table("Number of balls with a frozen encoder", columns, rows, note)


def pretrained(steps: int, rows: int, pool: int) -> tuple[PyTree, float]:
  """Returns the encoder's parameters after it learned directions, and its accuracy in percent."""
  trainer = Trainer("from scratch", DIRECTIONS, steps, rows)
  images, _, turns = clips(pool, 1, 1)
  held_out, _, truth = clips(max(pool // 4, 8), 2, 1)
  params = trainer.train({}, Data(images, turns), 2e-3, 0)
  encoder = {name: leaves for name, leaves in params[0].items() if name.startswith("vivit")}
  return encoder, trainer.accuracy(params, Data(held_out, truth))


def results(
  encoder: PyTree, methods: Sequence[str], sets: Sets, steps: int, rows: int, seeds: int
) -> Iterator[tuple[dict[str, dict[str, Found]], dict[str, float]]]:
  """Yields all results so far, and the share of the most frequent class, after each version."""
  trainers = [Trainer(method, COUNTS, steps, rows) for method in methods]
  found: dict[str, dict[str, Found]] = {}
  most: dict[str, float] = {}
  for version in VERSIONS:
    here = Sets(*(version_of(data, version) for data in sets))
    guess = np.bincount(here.pool.labels).argmax()
    most[version] = 100 * float(np.mean(here.test.labels == guess))
    one = found.setdefault(version, {})
    for trainer in trainers:
      one[trainer.method] = measured(trainer, encoder, here, seeds)
      print(
        f"{time.process_time():.0f} s, {version}, {trainer.method}: {one[trainer.method]}",
        flush=True,
      )
    yield found, most


def main(argv: list[str] | None = None) -> None:
  more = {"steps": 300, "rows": 32, "seeds": 3, "pool": 4096, "pretraining": 1500}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about, tiny = common.machine(), options.tiny
  steps, rows, seeds, pool, first = (
    (1, 2, 1, 8, 1)
    if tiny
    else (options.steps, options.rows, options.seeds, options.pool, options.pretraining)
  )
  encoder, direction = pretrained(first, 2 * rows, pool)
  print(f"{time.process_time():.0f} s, direction: {direction:.1f} %", flush=True)
  sizes = (pool, max(pool // 8, 8), max(pool // 4, 8))
  sets = Sets(*(Data(*clips(n, seed, COUNTS)[:2]) for seed, n in enumerate(sizes, 3)))
  methods = ("linear probe", "PGN") if tiny else METHODS
  for found, most in results(encoder, methods, sets, steps, rows, seeds):
    note = (
      f"Mean (least to largest) of {seeds} seeds; {steps} updates of {rows} clips of {TICKS} frames of {SIDE}×{SIDE}, "
      f"16 tubelets; {sizes[2]} test clips. {PROMPTS} prompts, {LAYERS} blocks of width {DIM}, which name the direction "
      f"of one ball in {direction:.1f} % of held-out clips (chance {100 / DIRECTIONS:g}). The frozen encoder is the same bit "
      f"by bit after every training. {time.process_time() / 60:.1f} CPU minutes."
    )
    common.publish("prompts", options, [table(found, most, note)], about)


if __name__ == "__main__":
  main()
