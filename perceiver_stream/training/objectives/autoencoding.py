"""Autoencoding of clips of video and sound, Perceiver IO's objective.

A window's ticks are the newest of the clip that the state stores. Once per window the clip is encoded,
and a random sample of its points is decoded and compared with the input. If the stream has a label, it
is trained by cross-entropy and never part of the input. Scores are those of the window's newest
`score_ticks` ticks, decoded completely.
"""

from dataclasses import dataclass
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from perceiver_stream.models.base import Model
from perceiver_stream.models.input_memory import Remembered
from perceiver_stream.models.perceiver_io import autoencoder as perceiver_autoencoder
from perceiver_stream.models.perceiver_io import model as perceiver_models
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.objectives.base import (
  Aux,
  Objective,
  Score,
  check_window,
  flag,
  mean_where,
)
from perceiver_stream.types import Observation

GREY = 0.5  # of the baseline `nothing`; for sound it is silence


@dataclass(kw_only=True)
class Config:
  """Sizes and weights of autoencoding; the numbers of points are those of the paper.

  Attributes:
    window: Ticks between updates; at most the clip's.
    num_pixels: Pixels of the clip that are decoded for the loss.
    num_patches: Patches of sound likewise (16 samples each, as released).
    pixels_weight: Of the squared error of values in [0, 1].
    audio_weight: Of the squared error of samples in [-1, 1].
    label_weight: Of the cross-entropy.
    score_ticks: Ticks of a window, its last ones, that are decoded completely and scored; 0 is all.
  """

  window: int = 8
  num_pixels: int = 512
  num_patches: int = 32
  pixels_weight: float = 1.0
  audio_weight: float = 1.0
  label_weight: float = 1e-4
  score_ticks: int = 0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("autoencoding", self.window)
    if min(self.num_pixels, self.num_patches) < 1:
      raise ValueError(
        f"autoencoding: num_pixels={self.num_pixels}, num_patches={self.num_patches}; use at "
        f"least 1 of each."
      )
    if not 0 <= self.score_ticks <= self.window:
      raise ValueError(
        f"autoencoding: score_ticks={self.score_ticks}; use 0 (all) to window={self.window}."
      )


class Autoencoding(Objective):
  """Loss and scores of reconstructing a clip; displacement 0."""

  name, config_type = "autoencoding", Config
  needs = ("pixels", "audio")

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    frames = model.config.num_frames
    if config.window > frames:
      raise ValueError(
        f"autoencoding: window={config.window} ticks, but the model's clip has {frames}; use at "
        f"most {frames}."
      )
    self.outputs = {name: model.modalities[name] for name in self.needs}
    self._apply = hk.transform(self._watch).apply

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model is no Perceiver IO autoencoder, a sentence; None if it is one."""
    fits = isinstance(model.config, perceiver_autoencoder.Config)
    return None if fits else "It is no Perceiver IO autoencoder."

  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the weighted error of the drawn points, with its other results."""
    return self._apply(params, rng, jax.lax.stop_gradient(state), window)

  def _watch(self, state: PyTree, window: Observation) -> tuple[Array, Aux]:
    network = perceiver_models.AutoencoderNetwork(self.model.config, self.model.modalities)
    watched = {name: value for name, value in window.items() if not name.startswith("label")}
    kept = network.remember(state.memory, watched)

    def tick(clip: dict, now: Remembered) -> tuple[dict, None]:
      return network.next_clip(clip, now.memory, now.is_first), None

    clip, _ = jax.lax.scan(tick, state.extra, kept)
    memory = jax.tree.map(lambda x: x[-1], kept.memory)
    latents = network.encode(memory, clip)
    loss = self._learn(network.net, latents, clip, window)
    next_state = perceiver_models.State(latents, memory, clip)
    found = next_state, *self._judge(network.net, jax.lax.stop_gradient(latents), clip, kept)
    return loss, Aux(*jax.lax.stop_gradient(found))

  def _learn(self, net: Any, latents: Array, clip: dict[str, Array], window: Observation) -> Array:
    c = self.config
    targets = self._points(clip)
    asked = {"image": c.num_pixels, "audio": c.num_patches}
    points = {
      name: jax.random.randint(hk.next_rng_key(), (num,), 0, targets[name].shape[1])
      for name, num in asked.items()
    }
    answers = net.decode(latents, points)
    error = {n: jnp.mean(jnp.square(answers[n] - targets[n][:, points[n]])) for n in asked}
    loss = c.pixels_weight * error["image"] + c.audio_weight * error["audio"]
    if "label" not in window:
      return loss
    logits = net.decode(latents, {"label": np.zeros(1, int)})["label"][:, 0]
    entropy = -jnp.sum(window["label"][-1] * jax.nn.log_softmax(logits), axis=-1)
    return loss + c.label_weight * mean_where(entropy, flag(window, "label")[-1])

  def _points(self, clip: dict[str, Array]) -> dict[str, Float[Array, "B N C"]]:
    """Returns the queried points of the clip as flat lists."""
    rows, c = clip["image"].shape[0], self.model.config
    return {
      "image": clip["image"].reshape(rows, -1, c.channels),
      "audio": clip["audio"].reshape(rows, -1, c.samples_per_patch),
    }

  def _judge(
    self, net: Any, latents: Array, clip: dict[str, Array], kept: Remembered
  ) -> tuple[dict[str, Score], dict[str, Array]]:
    """Returns scores and predictions of the newest ticks."""
    c, num = self.model.config, self.config.score_ticks or self.config.window
    targets = self._points(clip)
    recording = jnp.cumsum(kept.is_first.astype(jnp.int32), axis=0)
    same = (recording == recording[-1:])[-num:]
    scores, predictions = {}, {}
    shapes = {"pixels": (c.height, c.width, c.channels), "audio": (c.samples // c.num_frames,)}
    for name, key in (("pixels", "image"), ("audio", "audio")):
      every = targets[key].shape[1]
      points = np.arange(every - every // c.num_frames * num, every)
      shaped = lambda x, name=name: jnp.moveaxis(x.reshape(-1, num, *shapes[name]), 1, 0)  # noqa: E731
      target = shaped(targets[key][:, points])
      predicted = shaped(net.decode(latents, {key: points})[key])
      valid = same & kept.valid[name][-num:]
      mean = jnp.mean(target, axis=tuple(range(2, target.ndim - (name == "pixels"))), keepdims=True)
      error = lambda x, target=target: jnp.mean(  # noqa: E731
        jnp.square(x - target), axis=tuple(range(2, target.ndim))
      )
      blank = jnp.full_like(target, GREY if name == "pixels" else 0.0)
      baselines = {"mean": error(jnp.broadcast_to(mean, target.shape)), "nothing": error(blank)}
      key = str(ScoreKey(name, 0))
      scores[key] = Score(error(predicted), baselines, valid)
      predictions[key] = predicted
    return scores, predictions
