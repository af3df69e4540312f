"""Types of attention between sound and pixels: which of four discs hums?

  python benchmarks/attention_types.py
  python benchmarks/attention_types.py --steps=3000 --seeds=5 --markdown=docs/results.md

Four discs pulse in brightness, each in a rhythm of its own; a tone swells in the rhythm of one of them, and
the answer is its place. Neither modality alone has the answer. All networks have the same blocks and parameters
and differ in the masks of `nn.masks` only; answers are linear in the mean pixel token of each place and in the
mean token of sound, so that towers that attend to their own modality alone cannot compare them. `other
sound`: each clip is scored with the sound of another one.
"""

import itertools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import common
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from perceiver_stream import nn
from perceiver_stream.nn import masks

TICKS, SIDE, PLACES, BANDS = 8, 16, 4, 4
PIECE = 4  # ticks of a token
RATE, SAMPLES = 8000, 400  # sound per second and per tick
DIM, LAYERS, HEADS = 32, 4, 4
COUNTS = (PLACES * TICKS // PIECE, TICKS // PIECE)  # tokens of pixels and of sound
OWN = masks.between_modalities("modality_specific", COUNTS)
CROSS = masks.between_modalities("coattention", COUNTS)
TYPES: dict[str, Sequence[masks.Mask]] = {
  "merged": [masks.between_modalities("merged", COUNTS)] * 2,
  "modality_specific": [OWN] * 2,
  "coattention": [CROSS, OWN],
  "asymmetric, pixels query sound": [masks.between_modalities("asymmetric", COUNTS, asking=0)] * 2,
  "asymmetric, sound queries pixels": [masks.between_modalities("asymmetric", COUNTS, asking=1)]
  * 2,
}


class Data(NamedTuple):
  """Clips `[N, T, H, W]` in [0, 1], sound `[N, T, samples]` of a tick, and places `[N]`."""

  pixels: np.ndarray
  sound: np.ndarray
  labels: np.ndarray


def clips(number: int, seed: int) -> Data:
  """Returns random clips."""
  rng = np.random.default_rng(seed)
  some = list(itertools.combinations(range(TICKS), TICKS // 2))  # as often on as off
  known = np.array([[tick in on for tick in range(TICKS)] for on in some])
  chosen = rng.random((number, len(known))).argsort(axis=1)[:, :PLACES]  # no rhythm twice in a clip
  rhythm = known[chosen]
  labels = rng.integers(PLACES, size=number)
  heard = rhythm[np.arange(number), labels]
  half = SIDE // 2
  rows, columns = np.indices((half, half)) + 0.5
  centre = rng.uniform(0.4, 0.6, (2, number, PLACES, 1, 1)) * half
  radius = rng.uniform(0.25, 0.4, (number, PLACES, 1, 1)) * half
  disc = np.clip(radius + 0.5 - np.hypot(rows - centre[0], columns - centre[1]), 0, 1)
  light = np.where(rhythm, 0.9, 0.3)[..., None, None] * disc[:, :, None]
  image = light.reshape(number, 2, 2, TICKS, half, half).transpose(0, 3, 1, 4, 2, 5)
  image = image.reshape(number, TICKS, SIDE, SIDE) + 0.05 * rng.normal(
    size=(number, TICKS, SIDE, SIDE)
  )
  hz, phase = rng.uniform(300, 2000, (number, 1, 1)), rng.uniform(0, 6.28, (number, 1, 1))
  times = np.arange(TICKS * SAMPLES).reshape(TICKS, SAMPLES) / RATE
  sound = np.where(heard, 0.5, 0.1)[..., None] * np.sin(2 * np.pi * hz * times + phase)
  sound += 0.01 * rng.normal(size=sound.shape)
  return Data(image.astype(np.float32), sound.astype(np.float32), labels)


def loudness(sound: np.ndarray) -> np.ndarray:
  """Returns the logarithm of the energy of each tick in bands, `[N, T, BANDS]`."""
  power = np.abs(np.fft.rfft(sound))[..., 1:] ** 2
  bands = power.reshape(*power.shape[:-1], BANDS, -1).mean(axis=-1)
  return np.log(bands + 1e-3).astype(np.float32) / 5


def tokens_of(data: Data) -> tuple[np.ndarray, np.ndarray]:
  """Returns tubelets `[N, T' · 4, E]` and pieces of sound `[N, T', F]`."""
  n, half, pieces = len(data.labels), SIDE // 2, TICKS // PIECE
  cut = data.pixels.reshape(n, pieces, PIECE, 2, half, 2, half).transpose(0, 1, 3, 5, 2, 4, 6)
  return cut.reshape(n, pieces * PLACES, -1), loudness(data.sound).reshape(n, pieces, -1)


def network(pixels: jax.Array, sound: jax.Array, kinds: Sequence[masks.Mask]) -> jax.Array:
  """Returns the scores of the places; layers take the masks in turns."""
  parts = [nn.Linear(DIM, name="pixels")(pixels), nn.Linear(DIM, name="sound")(sound)]
  x = jnp.concatenate(parts, axis=1)
  start = hk.initializers.RandomNormal(0.3)
  table = hk.get_parameter("positions", x.shape[1:], jnp.float32, start)
  x = x + jnp.broadcast_to(table, x.shape)
  valid = jnp.ones(x.shape[:2], bool)
  for i in range(LAYERS):
    block = nn.SelfBlock(HEADS, mlp_dim=2 * DIM, name=f"block_{i}")
    x = block(x, masks.for_rows(kinds[i % len(kinds)], valid))
  x = nn.LayerNorm(name="norm")(x)
  per_place = x[:, : COUNTS[0]].reshape(len(x), -1, PLACES, DIM).mean(axis=1)
  means = [per_place.reshape(len(x), -1), x[:, COUNTS[0] :].mean(axis=1)]
  return sum(nn.Linear(PLACES, name=f"answer_{i}")(part) for i, part in enumerate(means))  # type: ignore[return-value]


class Trainer:
  """One compiled update of a type of attention for all seeds."""

  def __init__(self, kinds: Sequence[masks.Mask], steps: int, rows: int):
    self.steps, self.rows = steps, rows
    self.net = hk.without_apply_rng(
      hk.transform(lambda pixels, sound: network(pixels, sound, kinds))
    )
    rate = optax.warmup_cosine_decay_schedule(0.0, 3e-3, steps // 10, max(steps, 2), 3e-5)
    self.rule = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-3))
    self._update, self._apply = jax.jit(self._step), jax.jit(self.net.apply)

  def _step(self, params: PyTree, moments: Any, tokens: Any, labels: Any) -> tuple[PyTree, Any]:
    def loss(params: PyTree) -> jax.Array:
      scores = jax.nn.log_softmax(self.net.apply(params, *tokens))
      return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], axis=1))

    grads = jax.grad(loss)(params)
    with jax.numpy_dtype_promotion("standard"):  # optax's powers of an integer count
      change, moments = self.rule.update(grads, moments, params)
    return optax.apply_updates(params, change), moments

  def train(self, tokens: tuple[np.ndarray, np.ndarray], labels: np.ndarray, seed: int) -> PyTree:
    """Returns the parameters after all updates."""
    params = self.net.init(jax.random.key(seed), *(jnp.asarray(x[:1]) for x in tokens))
    moments, rng = self.rule.init(params), np.random.default_rng(seed)
    for _ in range(self.steps):
      rows = rng.integers(0, len(labels), self.rows)
      batch = tuple(x[rows] for x in tokens)
      params, moments = self._update(params, moments, batch, labels[rows])
    return params

  def accuracy(self, params: PyTree, tokens: tuple[np.ndarray, ...], labels: np.ndarray) -> float:
    """Returns the share of right answers, percent."""
    found = np.argmax(np.asarray(self._apply(params, *tokens)), axis=1)
    return 100 * float(np.mean(found == labels))


def main(argv: list[str] | None = None) -> None:
  more = {"steps": 500, "rows": 64, "seeds": 3, "pool": 4096}
  options = common.arguments_of(argv, __doc__ or "", globals(), more)
  about, tiny = common.machine(), options.tiny
  steps, rows, seeds, pool = (
    (2, 4, 1, 8) if tiny else (options.steps, options.rows, options.seeds, options.pool)
  )
  data, held_out = clips(pool, 1), clips(8 if tiny else 1024, 2)
  tokens, (pixels, sound) = tokens_of(data), tokens_of(held_out)
  chosen = list(TYPES)[:2] if tiny else list(TYPES)
  found: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
  count = 0
  trainers = {name: Trainer(TYPES[name], steps, rows) for name in chosen}
  for seed in range(seeds):
    for name, trainer in trainers.items():
      params = trainer.train(tokens, data.labels, seed)
      count = sum(int(np.size(x)) for x in jax.tree.leaves(params))
      right = trainer.accuracy(params, (pixels, sound), held_out.labels)
      other = trainer.accuracy(params, (pixels, np.roll(sound, 1, axis=0)), held_out.labels)
      found[name].append((right, other))
      print(
        f"{time.process_time():.0f} s, seed {seed}, {name}: {right:.1f}, {other:.1f}", flush=True
      )
    chance, table = 100 / PLACES, []
    for name, each in found.items():
      right, other = zip(*each, strict=True)
      table.append(
        [name, common.spread(right), common.spread(other), float(np.mean(right)) / chance]
      )
    table.append(["chance", f"{chance:.1f}", f"{chance:.1f}", 1.0])
    note = (
      f"Mean (least to largest) of {seed + 1} seeds; {steps} updates of {rows} clips; {LAYERS} blocks of width "
      f"{DIM}, {count:,} parameters in every network."
    )
    columns = ["attention", "right, %", "other sound, %", "x chance"]
    common.publish(
      "attention_types", options, [common.Table("Which disc hums", columns, table, note)], about
    )


if __name__ == "__main__":
  main()
