"""Parts of `long_video.py`: clips with captions, batches, galleries, and updates of both towers."""

import dataclasses
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

from perceiver_stream.evaluation.probes.features import recall_at
from perceiver_stream.models import longvivit
from perceiver_stream.streams import events

RATE = 5e-3  # highest learning rate


class Data(NamedTuple):
  """Clips `[N, T, H, W, 3]` uint8 and captions `[N, 3]`."""

  clips: np.ndarray
  captions: np.ndarray


def recordings(config: events.Config, numbers: Sequence[int]) -> Data:
  """Returns some recordings of a stream."""
  ticks, found = range(config.ticks_per_recording), []
  for number in numbers:
    one = events.Events(config, 0, number)
    read = [one.read() for _ in ticks]
    found.append((np.stack([tick["pixels"] for tick in read]), read[0]["caption"]))
  return Data(*map(np.stack, zip(*found, strict=True)))


def galleries(config: events.Config, number: int, size: int) -> Data:
  """Returns galleries of clips with different captions, each with its reverse."""
  pairs = list(itertools.combinations(range(config.num_colours), 2))[: size // 2]
  wanted = [pair for a, b in pairs for pair in ((a, b), (b, a))]
  found: dict[tuple[int, ...], list[int]] = {pair: [] for pair in wanted}
  for recording in itertools.count():
    colours = tuple(events.Events(config, 0, recording).colours.tolist())
    if len(found.get(colours, range(number))) < number:
      found[colours].append(recording)
    if all(len(each) == number for each in found.values()):
      break
  return recordings(config, [found[pair][i] for i in range(number) for pair in wanted])


def without_order(captions: np.ndarray) -> np.ndarray:
  """Returns captions with their words sorted."""
  return np.sort(captions, axis=1)


def shuffled(clips: np.ndarray, frames: int, seed: int) -> np.ndarray:
  """Returns clips whose runs of `frames` frames are in random order, another one in each clip."""
  rng, runs = np.random.default_rng(seed), clips.shape[1] // frames
  parts = clips.reshape(len(clips), runs, frames, *clips.shape[2:])
  order = rng.permuted(np.tile(np.arange(runs), (len(clips), 1)), axis=1)
  return np.take_along_axis(parts, order[:, :, None, None, None, None], axis=1).reshape(clips.shape)


def one_frame(clips: np.ndarray, seed: int) -> np.ndarray:
  """Returns clips that repeat one of their frames, a random one in each clip."""
  chosen = np.random.default_rng(seed).integers(clips.shape[1], size=len(clips))
  return np.broadcast_to(clips[np.arange(len(clips)), chosen][:, None], clips.shape)


class Batches:
  """Random batches in which every second caption is the one before it, reversed.

  Otherwise a batch seldom has two captions that differ in order alone, and order is learned late.
  """

  def __init__(self, data: Data, rows: int, seed: int):
    self.data, self.rows, self.rng = data, rows, np.random.default_rng(seed)
    self.of: dict[tuple[int, ...], list[int]] = {}
    for number, caption in enumerate(data.captions.tolist()):
      self.of.setdefault(tuple(caption), []).append(number)
    self.paired = [c for c in self.of if c < c[::-1] and c[::-1] in self.of]

  def draw(self) -> Data:
    """Returns a batch of captions and their reverses, none of them twice if there are enough."""
    size, pairs = self.rows // 2, len(self.paired)
    chosen = self.rng.choice(pairs, size, replace=pairs < size)
    captions = [c for i in chosen for c in (self.paired[i], self.paired[i][::-1])]
    rows = np.array([self.rng.choice(self.of[c]) for c in captions])
    return Data(self.data.clips[rows], self.data.captions[rows])


_ENCODERS: dict[str, longvivit.DualEncoder] = {}


def encoder_of(config: longvivit.Config) -> longvivit.DualEncoder:
  """Returns the encoder of a config; equal configs share its compiled functions."""
  if repr(config) not in _ENCODERS:
    _ENCODERS[repr(config)] = longvivit.dual_encoder(config)
  return _ENCODERS[repr(config)]


class Trained(NamedTuple):
  """Parameters of both towers, and the CPU seconds of their updates without compiling."""

  params: PyTree
  cpu_s: float


class Trainer:
  """One compiled update for all seeds of a config and a kind of tuning."""

  def __init__(self, config: longvivit.Config, steps: int, rows: int, kind: str = "all"):
    self.config, self.steps, self.rows, self.kind = config, steps, rows, kind
    self.dual = encoder_of(config)
    self.unmasked = encoder_of(dataclasses.replace(config, masking=0.0))
    rate = optax.warmup_cosine_decay_schedule(0.0, RATE, steps // 10, max(steps, 2), 3e-5)
    self.rule = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-4))
    self._program: common.Program | None = None

  def init(self, seed: int) -> PyTree:
    """Returns the parameters of both towers."""
    c = self.config
    return self.unmasked.encoder.init(
      jax.random.key(seed), jnp.zeros((1, c.num_frames, c.height, c.width, 3))
    )[0]

  def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the trained and the frozen parameters."""
    return longvivit.split_params(params, self.kind, self.config, num_last=1)

  def num_trained(self, params: PyTree) -> int:
    """Returns the number of trained parameters."""
    return sum(int(np.size(x)) for x in jax.tree.leaves(self.split(params)[0]))

  def _update(self, trained, frozen, moments, clips, words, key):
    def loss(trained):
      params = hk.data_structures.merge(trained, frozen)
      return self.dual.loss(params, clips.astype(np.float32) / 255, words, key)

    value, grads = jax.value_and_grad(loss)(trained)
    with jax.numpy_dtype_promotion("standard"):  # optax's powers of an integer count
      change, moments = self.rule.update(grads, moments, trained)
    return optax.apply_updates(trained, change), moments, value

  def program(self, *arguments: Any) -> common.Program:
    """Returns the compiled update."""
    if self._program is None:
      self._program = common.program(self._update, *arguments, donate=(0, 2))
    return self._program

  def train(
    self, data: Data, seed: int, params: PyTree | None = None, *, ordered: bool = True
  ) -> Trained:
    """Returns the parameters after all updates; captions lose their order if not `ordered`."""
    trained, frozen = self.split(self.init(seed) if params is None else params)
    trained = jax.tree.map(np.array, trained)  # the update overwrites its argument
    moments, batches, began = self.rule.init(trained), Batches(data, self.rows, seed), 0.0
    for number in range(self.steps):
      clips, captions = batches.draw()
      captions = captions if ordered else without_order(captions)
      batch = clips, captions, jax.random.fold_in(jax.random.key(seed), number)
      update = self.program(trained, frozen, moments, *batch).call
      began = began or time.process_time()
      trained, moments, value = update(trained, frozen, moments, *batch)
      value.block_until_ready()
    return Trained(hk.data_structures.merge(trained, frozen), time.process_time() - began)

  @property
  def megabytes(self) -> float:
    """Temporary memory of an update, MiB."""
    assert self._program is not None
    return self._program.temp_bytes / 2**20

  def recall(self, params: PyTree, data: Data, size: int, masking: float = 0.0) -> float:
    """Returns the mean R@1 of text to video and video to text over the galleries, in percent.

    Args:
      params: Of both towers.
      data: Galleries, one after another.
      size: Clips of a gallery.
      masking: Share of the tubelets that are left out.
    """
    masked = dataclasses.replace(self.config, masking=0.0, inference_masking=masking)
    dual, found = encoder_of(masked), []
    for start in range(0, len(data.clips), size):
      clips = jnp.asarray(data.clips[start : start + size], jnp.float32) / 255
      key = jax.random.key(start) if masking else None
      video = np.asarray(dual.video(params, clips, False, key))
      text = np.asarray(dual.text(params, jnp.asarray(data.captions[start : start + size])))
      pairs = np.eye(len(video))
      found += [recall_at(text, video, pairs, 1), recall_at(video, text, pairs, 1)]
    return 100 * float(np.mean(found))
