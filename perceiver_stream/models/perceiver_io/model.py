"""The feed-forward Perceivers as models of the common contract.

The state consists of the current inputs (two frames for flow, one for classification, the last clip
for the autoencoder) and their latents, so evaluation, tracking and latent extraction work as for
recurrent models. The Haiku modules are in `flow`, `autoencoder` and `classifier`.
"""

import abc
from collections.abc import Mapping
from typing import Any

import haiku as hk
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perceiver_stream import modalities as modality_room
from perceiver_stream.modalities import Memory, Modality, ModalityConfig, Queries
from perceiver_stream.modalities import audio as audio_modality
from perceiver_stream.modalities import flow as flow_modality
from perceiver_stream.modalities import pixels as pixel_modality
from perceiver_stream.modalities import vector as vector_modality
from perceiver_stream.modalities.base import cell_index
from perceiver_stream.models.base import Model, as_model
from perceiver_stream.models.input_memory import Remembered
from perceiver_stream.models.perceiver_io import autoencoder as perceiver_autoencoder
from perceiver_stream.models.perceiver_io import classifier as perceiver_classifier
from perceiver_stream.models.perceiver_io import flow as perceiver_flow
from perceiver_stream.models.recurrent import State, StreamNetwork
from perceiver_stream.nn.rows import where_rows


class AbstractFeedForward(StreamNetwork):
  """Base class of the three networks; subclasses add `encode`, `predict` and `decode`.

  The latents of a state are those of its current inputs; its `extra` contains the last frames and
  samples for the autoencoder and is empty otherwise.
  """

  def __init__(self, latent_shape: tuple[int, int], modalities: dict[str, Modality]):
    self.latent_shape = latent_shape
    self.modalities = modalities

  @abc.abstractmethod
  def encode(self, memory: dict[str, Memory], clip: dict[str, Array]) -> Array:
    """Returns the latents of the remembered inputs."""

  def initial_latents(self, batch_size: int) -> Float[Array, "B L D"]:
    """Returns zeros."""
    return jnp.zeros((batch_size, *self.latent_shape), jnp.float32)

  def initial_extra(self, latents: Array, memory: Mapping[str, Memory]) -> dict[str, Array]:
    """Returns the clip before the first tick."""
    del latents, memory
    return {}

  def unroll(self, state: State, kept: Remembered) -> State:
    """Returns the state after each of T ticks, one encoder pass each."""

    def tick(clip: dict, now: tuple) -> tuple[dict, tuple]:
      memory, is_first = now
      clip = self.next_clip(clip, memory, is_first)
      return clip, (self.encode(memory, clip), clip)

    _, (latents, clips) = hk.scan(tick, state.extra, (kept.memory, kept.is_first))
    return State(latents, kept.memory, clips)

  def next_clip(self, clip: dict, memory: dict[str, Memory], is_first: Array) -> dict[str, Array]:
    """Returns the clip with the newest tick at its end."""
    del memory, is_first
    return clip


class FlowNetwork(AbstractFeedForward):
  """Flow from the previous frame to the newest one, at displacement 0."""

  def __init__(self, config: perceiver_flow.Config, modalities: dict[str, Modality]):
    super().__init__((config.encoder.num_latents, config.encoder.latent_dim), modalities)
    self.net = perceiver_flow.FlowPerceiver(config)
    self.config = config

  def encode(self, memory: dict[str, Memory], clip: dict[str, Array]) -> Array:
    """Returns the latents of the last two frames."""
    del clip
    return self.net.encode_frames(self._frames(memory))

  def predict(self, state: State, displacements: tuple[int, ...]) -> dict[str, Array]:
    """Returns flow `[B, num_displacements, H, W, 2]` in units of the flow modality."""
    flow = self.net.everywhere(state.latents, self._frames(state.memory))
    flow = (flow / self.modalities["flow"].config.scale).reshape(
      -1, 1, self.config.height, self.config.width, 2
    )
    return {"flow": jnp.repeat(flow, len(displacements), axis=1)}

  def decode(self, state: State, queries: Mapping[str, Queries]) -> dict[str, Array]:
    """Returns flow at the queried pixels, `[B, Q, 1, 1, 2]`; others are not computed."""
    shape = (self.config.height, self.config.width)
    tokens = self.net.tokens(self._frames(state.memory))
    answers, scale = {}, self.modalities["flow"].config.scale
    for name, query in queries.items():
      flow = self.net.decode(state.latents, tokens[:, cell_index(query.positions, shape)])
      answers[name] = flow[:, :, None, None] / scale
    return answers

  def _frames(self, memory: dict[str, Memory]) -> Array:
    frames = jnp.stack([memory["pixels"].previous, memory["pixels"].last], axis=1)
    return frames * 2 - 1


class ClassifierNetwork(AbstractFeedForward):
  """Class logits of the newest frame, as a vector called "label"."""

  def __init__(self, config: perceiver_classifier.Config, modalities: dict[str, Modality]):
    super().__init__((config.encoder.num_latents, config.encoder.latent_dim), modalities)
    self.net = perceiver_classifier.Classifier(config)

  def encode(self, memory: dict[str, Memory], clip: dict[str, Array]) -> Array:
    """Returns the latents of the newest frame."""
    del clip
    frame = memory["pixels"].last * 255
    mean = jnp.broadcast_to(jnp.asarray(perceiver_classifier.MEAN_RGB), frame.shape)
    deviation = jnp.broadcast_to(jnp.asarray(perceiver_classifier.STDDEV_RGB), frame.shape)
    return self.net.encode(self.net.tokens((frame - mean) / deviation))

  def predict(self, state: State, displacements: tuple[int, ...]) -> dict[str, Array]:
    """Returns logits `[B, num_displacements, classes]`."""
    return {"label": jnp.repeat(self.net.decode(state.latents), len(displacements), axis=1)}

  def decode(self, state: State, queries: Mapping[str, Queries]) -> dict[str, Array]:
    """Returns logits `[B, Q, classes]`, the same for every query."""
    logits = self.net.decode(state.latents)
    return {n: jnp.repeat(logits, q.positions.shape[0], axis=1) for n, q in queries.items()}


class AutoencoderNetwork(AbstractFeedForward):
  """Reconstruction of the newest tick of the last clip from its latents: image, sound and label."""

  def __init__(self, config: perceiver_autoencoder.Config, modalities: dict[str, Modality]):
    super().__init__((config.encoder.num_latents, config.encoder.latent_dim), modalities)
    self.net = perceiver_autoencoder.Autoencoder(config)
    self.config = config

  def initial_extra(self, latents: Array, memory: Mapping[str, Memory]) -> dict[str, Array]:
    """Returns a black, silent clip."""
    del memory
    c, batch_size = self.config, latents.shape[0]
    return {
      "image": jnp.zeros((batch_size, c.num_frames, c.height, c.width, c.channels)),
      "audio": jnp.zeros((batch_size, c.samples, 1)),
    }

  def next_clip(self, clip: dict, memory: dict[str, Memory], is_first: Array) -> dict[str, Array]:
    """Returns the clip with the newest tick at its end; at a first tick, that tick repeated."""
    image, sound = memory["pixels"].last[:, None], memory["audio"].last[..., None]

    def shift(old: Array, new: Array) -> Array:
      repeated = jnp.concatenate([new] * self.config.num_frames, axis=1)
      return where_rows(is_first, repeated, jnp.concatenate([old[:, new.shape[1] :], new], axis=1))

    return {"image": shift(clip["image"], image), "audio": shift(clip["audio"], sound)}

  def encode(self, memory: dict[str, Memory], clip: dict[str, Array]) -> Array:
    """Returns the latents of the clip; the label is zero, since its token is always masked."""
    del memory
    label = jnp.zeros((clip["image"].shape[0], self.config.num_classes))
    return self.net.encode_inputs({**clip, "label": label})

  def predict(self, state: State, displacements: tuple[int, ...]) -> dict[str, Array]:
    """Returns the newest tick: pixels, waveform and label logits, `[B, num_displacements, ...]`."""
    c = self.config
    cells = c.height * c.width
    patches = c.samples // c.samples_per_patch // c.num_frames
    newest = {
      "image": np.arange(cells) + (c.num_frames - 1) * cells,
      "audio": np.arange(patches) + (c.num_frames - 1) * patches,
      "label": np.zeros(1, int),
    }
    outputs = self.net.decode(state.latents, newest)
    shaped = {
      "pixels": outputs["image"].reshape(-1, 1, c.height, c.width, c.num_outputs),
      "audio": outputs["audio"].reshape(-1, 1, c.samples // c.num_frames),
      "label": outputs["label"],
    }
    return {n: jnp.repeat(x, len(displacements), axis=1) for n, x in shaped.items()}

  def decode(self, state: State, queries: Mapping[str, Queries]) -> dict[str, Array]:
    """Returns pixels of the clip, `[B, Q, 1, 1, 3]`; displacement -n is n ticks before the newest.

    Audio is decoded as the patch of `samples_per_patch` samples at a position in the tick.
    """
    c = self.config
    answers = {}
    for name, query in queries.items():
      back = jnp.clip(jnp.round(query.displacement).astype(jnp.int32), 1 - c.num_frames, 0)
      frame = c.num_frames - 1 + back
      if name == "pixels":
        cell = cell_index(query.positions, (c.height, c.width))
        points = {"image": frame * (c.height * c.width) + cell}
        answers[name] = self.net.decode(state.latents, points)["image"][:, :, None, None]
      elif name == "audio":
        patches = c.samples // c.samples_per_patch // c.num_frames
        cell = cell_index(query.positions, (patches,))
        points = {"audio": frame * patches + cell}
        answers[name] = self.net.decode(state.latents, points)["audio"]
      else:
        points = {"label": jnp.zeros(query.positions.shape[0], jnp.int32)}
        answers[name] = self.net.decode(state.latents, points)["label"]
    return answers


def build_flow(config: perceiver_flow.Config) -> Model:
  """Returns the flow model: pixels to flow."""
  size: dict[str, Any] = {"height": config.height, "width": config.width, "patch": 1}
  return _build(
    FlowNetwork,
    config,
    {
      "pixels": pixel_modality.Config(tokenizer="pixel", use_output=False, **size),
      "flow": flow_modality.Config(use_input=False, **size),
    },
  )


def build_classifier(config: perceiver_classifier.Config) -> Model:
  """Returns the classifier: pixels to label logits."""
  size: dict[str, Any] = {"height": config.height, "width": config.width, "patch": 1}
  return _build(
    ClassifierNetwork,
    config,
    {
      "pixels": pixel_modality.Config(tokenizer="pixel", use_output=False, **size),
      "label": vector_modality.Config(size=config.num_classes, use_input=False),
    },
  )


def build_autoencoder(config: perceiver_autoencoder.Config) -> Model:
  """Returns the autoencoder: pixels and sound to their reconstruction and label logits."""
  samples = config.samples // config.num_frames
  size: dict[str, Any] = {"height": config.height, "width": config.width, "patch": 1}
  return _build(
    AutoencoderNetwork,
    config,
    {
      "pixels": pixel_modality.Config(tokenizer="pixel", **size),
      "audio": audio_modality.Config(
        num_samples=samples,
        rate_hz=25.0 * samples,
        tokenizer="patch",
        patch=config.samples_per_patch,
        predict="waveform",
        window=min(256, samples),
      ),
      "label": vector_modality.Config(size=config.num_classes, use_input=False),
    },
  )


def _build(network: type, config: object, sizes: dict[str, ModalityConfig]) -> Model:
  modalities = {n: modality_room.build(n, m) for n, m in sizes.items()}
  return as_model(lambda: network(config, modalities), modalities, (0,), config)
