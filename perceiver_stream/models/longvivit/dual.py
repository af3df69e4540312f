"""Clips and captions in one space: embeddings of unit length, and their contrastive loss."""

from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
from jaxtyping import Array, Float, Int, PyTree

from perceiver_stream.models.clips import ClipEncoder
from perceiver_stream.models.longvivit.config import Config
from perceiver_stream.models.longvivit.network import LongViViT, build
from perceiver_stream.nn.losses.contrastive import clip_loss, unit_length


class DualEncoder(NamedTuple):
  """Both towers as pure functions of the parameters of `encoder`.

  Attributes:
    encoder: The tower of video as the zoo knows it; `encoder.init` makes the parameters of both.
    video: `(params, clips, is_training=False, rng=None) -> [B, E]` of unit length; RGB clips in
      [0, 1], `[B, T, H, W, 3]`. A key is needed where tubelets are left out.
    text: `(params, words) -> [B, E]` of unit length; words int32 `[B, W]`, -1 is no word.
    loss: `(params, clips, words, rng=None) -> loss`: the symmetric NCE of the batch in training, with
      row b of `words` the caption of clip b and all others negatives.
  """

  encoder: ClipEncoder
  video: Callable[..., Float[Array, "B E"]]
  text: Callable[..., Float[Array, "B E"]]
  loss: Callable[..., Float[Array, ""]]


def dual_encoder(config: Config) -> DualEncoder:
  """Returns both towers.

  Raises:
    ValueError: Fields do not fit together.
  """
  encoder = build(config)

  def encode(words: Int[Array, "B W"]) -> tuple[Array, Array]:
    network = LongViViT(config)
    return unit_length(network.encode_words(words)), network.similarity_scale()

  captions = jax.jit(hk.without_apply_rng(hk.transform(encode)).apply)

  def video(
    params: PyTree, clips: Array, is_training: bool = False, rng: Array | None = None
  ) -> Float[Array, "B E"]:
    outputs, _ = encoder.apply(params, {}, clips, is_training, rng)
    return unit_length(outputs.parts["embedding"])

  def loss(
    params: PyTree, clips: Array, words: Int[Array, "B W"], rng: Array | None = None
  ) -> Float[Array, ""]:
    text, scale = captions(params, words)
    return clip_loss(video(params, clips, True, rng), text, scale)

  return DualEncoder(encoder, video, lambda params, words: captions(params, words)[0], loss)
