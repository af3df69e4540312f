"""The released TRecViT classifier: frames to class logits, clip by clip or tick by tick."""

from dataclasses import dataclass, field
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from perceiver_stream.core.lru import LruState
from perceiver_stream.core.recurrent_vit import RecurrentVit, RecurrentVitConfig
from perceiver_stream.nn import LayerNorm, Linear, patchify
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Sizes of a `Classifier`; defaults are the released Kinetics-400 model.

  Attributes:
    height: Rows of a frame.
    width: Columns of a frame.
    patch: Rows and columns of a patch; each patch is a token, beside a class token.
    backbone: Sizes of the encoder.
    rep_dim: Width of the representation before the last layer.
    num_classes: Classes.
    frames_per_clip: Frames after which the state starts anew.
  """

  height: Size = 224
  width: Size = 224
  patch: Size = 16
  backbone: RecurrentVitConfig = field(default_factory=RecurrentVitConfig)
  rep_dim: Size = 3072
  num_classes: Size = 400
  frames_per_clip: Size = 32

  @property
  def num_tokens(self) -> int:
    """Tokens of a frame: the class token and those of the patches.

    Raises:
      ValueError: The frame is not a whole number of patches.
    """
    if self.height % self.patch or self.width % self.patch:
      raise ValueError(
        f"trecvit_classifier: frames {self.height}×{self.width} are not a whole number of "
        f"{self.patch}×{self.patch} patches; crop or resize them."
      )
    return 1 + self.height // self.patch * (self.width // self.patch)


class Classified(NamedTuple):
  """Outputs for a batch of videos of n clips with t frames each.

  Attributes:
    tokens: Input of the encoder.
    encoded: Output of the encoder.
    representation: Mean over the frames of each clip.
    logits: Class logits, mean over the clips.
    probabilities: Class probabilities, mean over the clips.
  """

  tokens: Float[Array, "b t N D"]
  encoded: Float[Array, "b t N D"]
  representation: Float[Array, "B n R"]
  logits: Float[Array, "B K"]
  probabilities: Float[Array, "B K"]


class Classifier(hk.Module):
  """Class logits from the class token of every frame; frames are RGB in [0, 1].

  Source: TRecViT 2024, 2412.14294; google-deepmind/trecvit, `get_model`.
  """

  @hk.name_like("__call__")
  def __init__(self, config: Config, *, name: str = "trecvit_classifier"):
    super().__init__(name=name)
    self.config = config
    self.backbone = RecurrentVit(config.backbone, name="backbone")

  @hk.name_like("__call__")
  def tokens(self, frames: Float[Array, "*B H W 3"]) -> Float[Array, "*B N D"]:
    """Returns the class token, then those of the patches with their positions."""
    c, dim = self.config, self.config.backbone.dim
    patches = Linear(dim, name="patches")(patchify(frames, c.patch))
    patches = patches.reshape(*frames.shape[:-3], -1, dim)
    init = hk.initializers.RandomNormal(dim**-0.5)
    table = hk.get_parameter("positions", (c.num_tokens - 1, dim), jnp.float32, init)
    token = hk.get_parameter("class_token", (dim,), jnp.float32, jnp.zeros)
    token = jnp.broadcast_to(token, (*patches.shape[:-2], 1, dim))
    return jnp.concatenate([token, patches + jnp.broadcast_to(table, patches.shape)], axis=-2)

  def encode(
    self,
    tokens: Float[Array, "T B N D"],
    is_first: Bool[Array, "T B"],
    state: tuple[LruState, ...],
  ) -> tuple[Float[Array, "T B N D"], tuple[LruState, ...]]:
    """Returns the encoded tokens and the states after each of T ticks."""
    starts = jnp.broadcast_to(is_first[..., None], tokens.shape[:3])
    outputs, states = self.backbone(tokens, starts, state)
    return self._norm(outputs[-1] if outputs else tokens), states

  @hk.name_like("__call__")
  def _norm(self, x: Array) -> Array:
    return LayerNorm(name="norm")(x)

  @hk.name_like("__call__")
  def represent(self, encoded: Float[Array, "*B N D"]) -> Float[Array, "*B R"]:
    """Returns the representation of each frame."""
    return jnp.tanh(Linear(self.config.rep_dim, name="representation")(encoded[..., 0, :]))

  @hk.name_like("__call__")
  def logits(self, representation: Float[Array, "*B R"]) -> Float[Array, "*B K"]:
    """Returns the class logits of a mean representation."""
    return Linear(self.config.num_classes, name="classes")(representation)

  def __call__(self, video: Float[Array, "B T H W 3"]) -> Classified:
    """Returns the outputs for whole videos; each clip starts without a state.

    Raises:
      ValueError: The frames are not a whole number of clips.
    """
    ticks, clips = video.shape[1], max(video.shape[1] // self.config.frames_per_clip, 1)
    if ticks % clips:
      raise ValueError(
        f"Classifier '{self.name}': {ticks} frames are not {clips} equal clips; give a multiple of "
        f"frames_per_clip={self.config.frames_per_clip}, or fewer."
      )
    frames = rearrange(video, "b (n t) h w c -> t (b n) h w c", n=clips)
    tokens = self.tokens(frames)
    rows, num = tokens.shape[1:3]
    is_first = jnp.zeros((len(frames), rows), bool).at[0].set(True)
    encoded, _ = self.encode(tokens, is_first, self.backbone.initial_state(rows, num))
    mean = jnp.mean(self.represent(encoded), axis=0).reshape(-1, clips, self.config.rep_dim)
    logits = self.logits(mean)
    probabilities = jnp.mean(jax.nn.softmax(logits), axis=1)
    first = lambda x: jnp.swapaxes(x, 0, 1)  # noqa: E731
    return Classified(first(tokens), first(encoded), mean, jnp.mean(logits, axis=1), probabilities)
