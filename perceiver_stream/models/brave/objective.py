"""BraVe's objective: in each window, a narrow clip and a broad view of the same moment.

The broad view is the whole window, as frames, as sound, or both; the narrow one a short clip in it.
A row that lacks an observation, or spans two recordings, does not count: a row that counts takes its
place, so that statistics of batch norms are of observed windows only.
The running statistics of batch norms are the state that is carried, saved and resumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.modalities import pixels
from perceiver_stream.models.base import Model
from perceiver_stream.models.brave.config import Config as BraveConfig
from perceiver_stream.models.brave.network import BROAD_AUDIO, BROAD_VIDEO, NARROW, build
from perceiver_stream.nn import augment
from perceiver_stream.nn.augment.crops import resize
from perceiver_stream.nn.log_mel import log_mel
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.streams.sampling import span_length
from perceiver_stream.training.objectives.base import (
  Aux,
  Objective,
  Score,
  check_window,
  whole_rows,
)
from perceiver_stream.training.objectives.teacher import MONITORED, collapse_scores
from perceiver_stream.types import Observation

STARTS = ("aligned", "random")


@dataclass(kw_only=True)
class Config:
  """Windows, views and augmentations of BraVe.

  Attributes:
    window: Ticks between updates: the moment that both views show.
    narrow_frames: Frames of the narrow view.
    narrow_step: Ticks from one of them to the next.
    narrow_side: Rows and columns of the narrow view.
    narrow_start: "aligned" with the broad view, as released, or "random" inside it.
    broad_step: Ticks from one frame of the broad view to the next.
    broad_side: Rows and columns of the broad view.
    audio_rate_hz: Samples per second of the stream's sound.
    num_mels: Bands of its spectrogram.
    hop: Samples from one column of it to the next.
    augment: Whether clips are cropped, flipped, blurred and recoloured at random.
    random_convolution: Whether the broad view's frames are filtered by a random kernel too.
    stop_gradient: If False, targets have a gradient: the ablation that collapses.
    healthy_rank: Effective rank of a healthy run, for the alarm of partial collapse; 0: not tested.
  """

  window: int = 16
  narrow_frames: int = 4
  narrow_step: int = 1
  narrow_side: int = 24
  narrow_start: str = "random"
  broad_step: int = 2
  broad_side: int = 24
  audio_rate_hz: int = 8000
  num_mels: int = 16
  hop: int = 400
  augment: bool = True
  random_convolution: bool = False
  stop_gradient: bool = True
  healthy_rank: float = 0.0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("brave", self.window)
    if self.narrow_start not in STARTS:
      raise ValueError(f"brave: narrow_start={self.narrow_start!r} is not one of {STARTS}.")
    if span_length(self.narrow_frames, self.narrow_step) > self.window:
      raise ValueError(
        f"brave: narrow_frames={self.narrow_frames} every {self.narrow_step} ticks do not fit into "
        f"window={self.window}; use fewer frames or a longer window."
      )


class BroadenViews(Objective):
  """Loss and scores of BraVe; `views@0` is 1 - cosine of predictions and projections.

  The numbers of `nn.losses.collapse`, of the narrow view's projections, are scores too.
  """

  name, config_type = "brave", Config
  labels = {"views": ("views", "cosine_distance"), **MONITORED}

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    self.towers = build(model.config)
    self.needs = ("pixels", "audio") if model.config.broad_audio else ("pixels",)

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model is no BraVe, a sentence; None if it is one."""
    return None if isinstance(model.config, BraveConfig) else "It is no BraVe."

  def init_params(self, rng: Array, observation: Observation) -> PyTree:
    """Returns the parameters of towers and head."""
    return self.towers.init(rng, self._blank(observation))[0]

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> PyTree:
    """Returns the statistics of batch norms before the first batch: zeros."""
    del params, batch_size, rng
    template = jax.eval_shape(self.towers.init, jax.random.key(0), self._blank({}))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), template[1])

  def loss(
    self, params: PyTree, state: PyTree, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the mean of the terms of all broad views, with its other results."""
    if rng is None:
      raise ValueError("brave: views are random; give a key as rng.")
    valid = whole_rows(window, self.needs)
    views = self.views(_filled(window, self.needs, valid), rng)
    options = {"stop_gradient": self.config.stop_gradient, "valid": valid}
    loss, (parts, after) = self.towers.loss(params, state, views, **options)
    after = jax.tree.map(lambda new, old: jnp.where(jnp.any(valid), new, old), after, state)
    error = jnp.broadcast_to(loss, (1, valid.size))
    score = Score(error, {"orthogonal": jnp.ones((1, valid.size))}, valid[None])
    scores = {str(ScoreKey("views", 0)): score}
    scores |= collapse_scores(parts.narrow.z[:, None], valid, score.valid, self.config.healthy_rank)
    found = after, scores, {}
    return loss, Aux(*jax.lax.stop_gradient(found))

  def views(self, window: Observation, rng: Array | None = None) -> dict[str, Array]:
    """Returns the views of a window `[W, B, ...]`, rows first; without a key, as they are.

    Without a key, the narrow view is the first clip, and nothing is drawn.
    """
    c, model = self.config, self.model.config
    keys = [None] * 3 if rng is None else list(jax.random.split(rng, 3))
    frames = jnp.moveaxis(pixels.unit_range(jnp.asarray(window["pixels"])), 0, 1)
    span = span_length(c.narrow_frames, c.narrow_step)
    start = jnp.zeros((), jnp.int32)
    if keys[0] is not None and c.narrow_start == "random":
      start = jax.random.randint(keys[0], (), 0, c.window - span + 1)
    narrow = jax.lax.dynamic_slice_in_dim(frames, start, span, axis=1)[:, :: c.narrow_step]
    views = {NARROW: self._clips(narrow, keys[1], c.narrow_side, False)}
    if model.broad_video:
      broad = frames[:, : c.window : c.broad_step]
      views[BROAD_VIDEO] = self._clips(broad, keys[2], c.broad_side, c.random_convolution)
    if model.broad_audio:
      sound = jnp.moveaxis(jnp.asarray(window["audio"])[: c.window], 0, 1)
      sound = sound.reshape(sound.shape[0], -1)
      options = {"rate_hz": c.audio_rate_hz, "num_mels": c.num_mels, "hop": c.hop}
      views[BROAD_AUDIO] = log_mel(sound, **options)
    return views

  def _clips(
    self, clips: Float[Array, "B T H W 3"], rng: Array | None, side: int, convolve: bool
  ) -> Float[Array, "B T s s 3"]:
    if rng is None or not self.config.augment:
      return jax.vmap(lambda clip: resize(clip, side, side))(clips)

    def one(key: Array, clip: Array) -> Array:
      keys = jax.random.split(key, 5)
      clip = augment.random_crop(keys[0], clip, side)
      clip = augment.random_flip(keys[1], augment.random_blur(keys[2], clip))
      clip = augment.random_colour(keys[3], clip)
      return augment.random_convolution(keys[4], clip) if convolve else clip

    return jax.vmap(one)(jax.random.split(rng, clips.shape[0]), clips)

  def _blank(self, observation: Observation) -> dict[str, Array]:
    """Returns views of zeros; the parameters do not depend on their sizes."""
    del observation
    c, model = self.config, self.model.config
    clip = jnp.zeros((2, 2, c.narrow_side, c.narrow_side, 3))
    views = {NARROW: clip}
    views |= {BROAD_VIDEO: clip} if model.broad_video else {}
    return views | ({BROAD_AUDIO: jnp.zeros((2, 16, c.num_mels))} if model.broad_audio else {})


def _filled(window: Observation, names: Sequence[str], valid: Bool[Array, " B"]) -> Observation:
  """Returns the window with rows that count in place of the others; zeros if none counts."""
  rows, count = jnp.arange(valid.size), jnp.maximum(jnp.sum(valid), 1)
  counting = jnp.argsort(~valid, stable=True)
  source = jnp.where(valid, rows, counting[rows % count])
  filled = dict(window)
  for name in names:
    taken = jnp.asarray(window[name])[:, source]
    filled[name] = jnp.where(jnp.any(valid), taken, jnp.zeros_like(taken))
  return filled
