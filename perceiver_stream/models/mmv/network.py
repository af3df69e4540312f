"""MMV: video, sound and text in common spaces, a fine one of video and sound, a coarse one of all.

Source: Self-Supervised MultiModal Versatile Networks, 2006.16228; google-deepmind/deepmind-research,
mmv/models/mm_embeddings.py. The training loss is from the paper; no code of it is released.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from perceiver_stream.models import s3d
from perceiver_stream.models.mmv.config import Config, HeadConfig
from perceiver_stream.models.tsm_resnet import ResNetV2
from perceiver_stream.nn.debiased_batch_norm import NormMode, batch_norm
from perceiver_stream.nn.layers import Linear, haiku_normal
from perceiver_stream.nn.losses.contrastive import unit_length
from perceiver_stream.nn.losses.multiple_instance import asymmetric_nce

TRAIN = NormMode(is_training=True)
EVAL = NormMode(is_training=False)
INPUTS = ("video", "audio", "words")


class Outputs(NamedTuple):
  """Outputs for the inputs that were given.

  Attributes:
    features: Of the towers, by `"video"`, `"audio"`, `"text"`, `[B, C]`.
    embeddings: In the common spaces, by `"video_to_audio"` and so on, `[B, D]`.
  """

  features: dict[str, Float[Array, "B C"]]
  embeddings: dict[str, Float[Array, "B D"]]


class Mmv(NamedTuple):
  """MMV as pure functions of parameters and of the state of its batch norms.

  Inputs are `{"video": [B, T, H, W, 3], "audio": [B, F, M], "words": [N, W]}`: pixels RGB in [0, 1],
  log-mel spectrograms, int32 numbers of words; any of them may be absent except in `init`.

  Attributes:
    init: `(rng, inputs) -> (params, state)`.
    embed: `(params, state, inputs, mode=EVAL) -> (Outputs, state)`.
    loss: `(params, state, inputs, mode=TRAIN, text_valid=None, temperature=0.07) -> (loss, (terms,
      Outputs, state))`. With N = B · P words of P candidates for each clip; terms are
      `"video_audio"` and, with words, `"video_text"`. `text_valid` `[B]` is False for clips without text.
    config: Its config.
  """

  init: Callable[..., tuple[PyTree, PyTree]]
  embed: Callable[..., tuple[Outputs, PyTree]]
  loss: Callable[..., tuple[Array, tuple[dict[str, Array], Outputs, PyTree]]]
  config: Config


class _Network:
  """The modules."""

  def __init__(self, config: Config):
    self.config = config
    if isinstance(config.video, s3d.Config):
      self.video = s3d.S3D(config.video, name="video")
    else:
      self.video = ResNetV2(config.video, name="video")
    self.audio = ResNetV2(config.audio, name="audio")
    self.text = Text(config.vocabulary, config.word_dim, config.sentence_dim, name="text")
    self.heads = {name: Head(getattr(config, name), name=name) for name in HEADS}
    if config.graph == "shared":
      same = {"video_to_audio": "video_to_text", "audio_to_text": "audio_to_video"}
      same |= {"text_to_audio": "text_to_video"}
      self.heads |= {name: self.heads[other] for name, other in same.items()}

  def embed(self, inputs: Mapping[str, Array], mode: NormMode = EVAL) -> Outputs:
    """Returns features and embeddings of the inputs that are given, video first."""
    if not set(inputs) & set(INPUTS):
      raise ValueError(f"mmv: got {sorted(inputs)}; give at least one of {INPUTS}.")
    features, found, apply = {}, {}, lambda name, x: self.heads[name](x, mode)
    if "video" in inputs:
      features["video"] = video = self.video(inputs["video"], mode).features
      found["video_to_audio"] = fine = apply("video_to_audio", video)
      coarse = self._activated(fine, mode) if self._is_fac else video
      found["video_to_text"] = apply("video_to_text", coarse)
    if "audio" in inputs:
      features["audio"] = audio = self.audio(inputs["audio"][:, None, ..., None], mode).features
      found["audio_to_video"] = fine = apply("audio_to_video", audio)
      if self._is_fac and (self.config.audio_text or not mode.is_training):
        found["audio_to_text"] = apply("video_to_text", self._activated(fine, mode))
      else:  # so that the batch norms of the shared head see video only
        found["audio_to_text"] = apply("audio_to_text", audio)
    if "words" in inputs:
      features["text"] = text = self.text(inputs["words"])
      found |= {name: apply(name, text) for name in ("text_to_video", "text_to_audio")}
    return Outputs(features, found)

  def loss(
    self,
    inputs: Mapping[str, Array],
    mode: NormMode = TRAIN,
    text_valid: Array | None = None,
    temperature: float = 0.07,
  ) -> tuple[Array, tuple[dict[str, Array], Outputs]]:
    """Returns the sum of the terms; a term without its inputs is left out."""
    outputs = self.embed(inputs, mode)
    found = {name: unit_length(x) for name, x in outputs.embeddings.items()}
    axis = None if hk.running_init() else mode.axis_name
    nce = functools.partial(asymmetric_nce, temperature=temperature, axis_name=axis)
    sounds = found["audio_to_video"][:, None]
    terms = {"video_audio": nce(found["video_to_audio"], sounds)}
    if "words" in inputs:
      clips = found["video_to_text"]
      texts = found["text_to_video"].reshape(clips.shape[0], -1, clips.shape[1])
      terms["video_text"] = nce(clips, texts, valid=text_valid)
    return jnp.sum(jnp.stack(list(terms.values()))), (terms, outputs)

  def all(self, inputs: Mapping[str, Array]) -> None:
    """Runs every module, to make all parameters and states."""
    outputs = self.embed(inputs, TRAIN)
    self.heads["audio_to_text"](outputs.features["audio"], TRAIN)

  @property
  def _is_fac(self) -> bool:
    return self.config.graph.startswith("fac")

  def _activated(self, fine: Float[Array, "B D"], mode: NormMode) -> Float[Array, "B D"]:
    if self.config.graph == "fac":
      return fine
    return _Activation(self.config.graph == "fac_bnrelu", name="fine")(fine, mode)


HEADS = (
  *("video_to_text", "video_to_audio", "audio_to_video", "audio_to_text"),
  *("text_to_video", "text_to_audio"),
)


class _Activation(hk.Module):
  """ReLU of the fine embedding, after a batch norm if `norm`."""

  def __init__(self, norm: bool, *, name: str):
    super().__init__(name=name)
    self.norm = norm

  def __call__(self, x: Float[Array, "B D"], mode: NormMode) -> Float[Array, "B D"]:
    """Returns the rectified embedding."""
    return jax.nn.relu(batch_norm(x, mode, name="norm_0") if self.norm else x)


class Head(hk.Module):
  """Linear map or MLP into a common space."""

  def __init__(self, config: HeadConfig, *, name: str):
    super().__init__(name=name)
    self.config = config

  def __call__(self, x: Float[Array, "B C"], mode: NormMode) -> Float[Array, "B D"]:
    """Returns the embedding."""
    c, norms = self.config, 0
    for i, width in enumerate(c.hidden):
      x = Linear(width, w_init=haiku_normal(), name=f"hidden_{i}")(x)
      if c.norm_hidden:
        x, norms = batch_norm(x, mode, name=f"norm_{norms}"), norms + 1
      x = jax.nn.relu(x)
    bias = not (c.hidden and c.norm_last)
    x = Linear(c.dim, use_bias=bias, w_init=haiku_normal(), name="projection")(x)
    return batch_norm(x, mode, name=f"norm_{norms}") if c.norm_last else x


class Text(hk.Module):
  """Frozen word vectors, a linear map with ReLU, and the maximum over words."""

  def __init__(self, vocabulary: int, word_dim: int, sentence_dim: int, *, name: str):
    super().__init__(name=name)
    self.shape, self.sentence_dim = (vocabulary, word_dim), sentence_dim

  def __call__(self, words: Int[Array, "N W"]) -> Float[Array, "N S"]:
    """Returns sentence features; a word's number must be below the vocabulary's size."""
    init = hk.initializers.TruncatedNormal(1.0)
    vectors = jax.lax.stop_gradient(hk.get_parameter("embeddings", self.shape, jnp.float32, init))
    x = Linear(self.sentence_dim, w_init=haiku_normal(), name="conv")(vectors[words])
    return jnp.max(jax.nn.relu(x), axis=1)


def build(config: Config) -> Mmv:
  """Returns MMV as pure functions.

  Raises:
    ValueError: A size does not fit another; see `Config.validate`.
  """
  config.validate()

  def transformed() -> tuple[Callable, tuple[Callable, ...]]:
    network = _Network(config)
    return network.all, (network.embed, network.loss)

  init, (embed, loss) = hk.multi_transform_with_state(transformed)

  def loss_with_state(params: PyTree, state: PyTree, inputs: Mapping[str, Array], *args, **kwargs):
    (value, (terms, outputs)), state = loss(params, state, None, inputs, *args, **kwargs)
    return value, (terms, outputs, state)

  return Mmv(
    init=lambda rng, inputs: init(rng, inputs),
    embed=lambda params, state, inputs, mode=EVAL: embed(params, state, None, inputs, mode),
    loss=loss_with_state,
    config=config,
  )
