"""The Perceiver image classifiers with Fourier positions, learned positions or convolutions."""

from dataclasses import dataclass, field

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.models.perceiver_io.halves import (
  Decoder,
  DecoderConfig,
  Encoder,
  EncoderConfig,
  FourierConfig,
  plain_init,
)
from perceiver_stream.nn import LearnedPositions, Linear, repeat_rows
from perceiver_stream.nn.conv import Conv2D
from perceiver_stream.nn.precision import broadcast
from perceiver_stream.types import NonNegative, Size

# Statistics that normalise ImageNet pixels, on the scale 0 to 255.
MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
STDDEV_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@dataclass(kw_only=True)
class FourierPixels:
  """Tokens are raw pixels with Fourier positions.

  Attributes:
    positions: Position encoding of the pixels.
    downsample: Stride of the pixels that are kept, in rows and columns.
  """

  positions: FourierConfig = field(default_factory=FourierConfig)
  downsample: Size = 1


@dataclass(kw_only=True)
class LearnedPixels:
  """Tokens are a 1×1 convolution of the pixels, concatenated with projected learned positions.

  Attributes:
    channels: Channels of the convolution.
    position_dim: Width of the learned positions.
    projected_dim: Width of the positions after their projection.
    downsample: Stride of the convolution.
  """

  channels: Size = 256
  position_dim: Size = 256
  projected_dim: Size = 256
  downsample: Size = 1


@dataclass(kw_only=True)
class ConvPixels:
  """Tokens are a 7×7 convolution and a max pool, each of stride 2, with Fourier positions.

  Attributes:
    channels: Channels of the convolution.
    positions: Position encoding of the cells.
  """

  channels: Size = 64
  positions: FourierConfig = field(default_factory=FourierConfig)


@dataclass(kw_only=True)
class Config:
  """Sizes of a `Classifier`; defaults are the published Fourier model.

  Attributes:
    height: Rows of an image.
    width: Columns of an image.
    channels: Channels of an image; the common model contract needs three, RGB.
    num_classes: Classes.
    tokens: Kind and sizes of the tokens.
    encoder: Sizes of the encoder of the tokens.
    decoder: Sizes of the decoder with one learned query.
    query_dim: Width of the query.
    query_init_scale: Standard deviation of the initial query.
  """

  height: Size = 224
  width: Size = 224
  channels: Size = 3
  num_classes: Size = 1000
  tokens: FourierPixels | LearnedPixels | ConvPixels = field(default_factory=FourierPixels)
  encoder: EncoderConfig = field(
    default_factory=lambda: EncoderConfig(
      num_latents=512, latent_dim=1024, num_blocks=8, num_layers=6, num_self_heads=8
    )
  )
  decoder: DecoderConfig = field(default_factory=lambda: DecoderConfig(use_query_residual=True))
  query_dim: Size = 1024
  query_init_scale: NonNegative = 0.02


class Classifier(hk.Module):
  """Class logits of an image.

  Source: Jaegle et al. 2021, 2103.03206 and 2107.14795; deepmind-research `perceiver/`. Differs:
  the convolutional model normalises with stored statistics, which training does not update.
  """

  def __init__(self, config: Config, *, name: str = "perceiver_classifier"):
    super().__init__(name=name)
    self.config = config

  def __call__(self, images: Float[Array, "B H W c"]) -> Float[Array, "B K"]:
    """Returns logits; `images` are normalised with `MEAN_RGB` and `STDDEV_RGB`."""
    return self.decode(self.encode(self.tokens(images)))[:, 0]

  @hk.name_like("__call__")
  def tokens(self, images: Float[Array, "B H W c"]) -> Float[Array, "B N C"]:
    """Returns the tokens of an image."""
    c = self.config
    if images.shape[1:] != (c.height, c.width, c.channels):
      raise ValueError(
        f"Classifier '{self.name}': images {list(images.shape)} are not "
        f"[B, {c.height}, {c.width}, {c.channels}]; crop and resize them."
      )
    return _TOKENS[type(c.tokens)](c.tokens, images)

  @hk.name_like("__call__")
  def encode(self, tokens: Float[Array, "B N C"]) -> Float[Array, "B L D"]:
    """Returns the latents."""
    return Encoder(self.config.encoder, name="encoder")(tokens)

  @hk.name_like("__call__")
  def query(self, batch_size: int) -> Float[Array, "B 1 E"]:
    """Returns the learned query."""
    c = self.config
    return LearnedPositions(1, c.query_dim, init_scale=c.query_init_scale, name="query")(batch_size)

  @hk.name_like("__call__")
  def decode(self, latents: Float[Array, "B L D"]) -> Float[Array, "B 1 K"]:
    """Returns the output of the query."""
    c = self.config
    decoder = Decoder(c.decoder, c.num_classes, w_init=plain_init(c.query_dim), name="decoder")
    return decoder(self.query(latents.shape[0]).astype(latents.dtype), latents)


class StoredNorm(hk.Module):
  """Batch norm with stored mean and variance, which have no gradient."""

  def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Returns the normalised images."""
    get = lambda name, init: hk.get_parameter(name, x.shape[-1:], jnp.float32, init)  # noqa: E731
    mean = jax.lax.stop_gradient(get("mean", jnp.zeros))
    variance = jax.lax.stop_gradient(get("variance", jnp.ones))
    scale = get("scale", jnp.ones) * jax.lax.rsqrt(variance + 1e-5)
    return (x - broadcast(mean, x)) * broadcast(scale, x) + broadcast(get("offset", jnp.zeros), x)


def _with_positions(x: Float[Array, "B H W C"], positions: FourierConfig) -> Array:
  batch, height, width, channels = x.shape
  table = jnp.asarray(positions.grid((height, width)), x.dtype)
  x = x.reshape(batch, height * width, channels)
  return jnp.concatenate([x, repeat_rows(table, batch)], axis=-1)


def _fourier_pixels(c: FourierPixels, images: Array) -> Array:
  return _with_positions(images[:, :: c.downsample, :: c.downsample], c.positions)


def _learned_pixels(c: LearnedPixels, images: Array) -> Array:
  features = Conv2D(c.channels, kernel=1, stride=c.downsample, name="conv1x1")(images)
  features = features.reshape(images.shape[0], -1, c.channels)
  places = LearnedPositions(features.shape[1], c.position_dim, name="positions")
  project = Linear(c.projected_dim, w_init=plain_init(c.position_dim), name="position_projection")
  table = repeat_rows(project(places()).astype(features.dtype), images.shape[0])
  return jnp.concatenate([features, table], axis=-1)


def _conv_pixels(c: ConvPixels, images: Array) -> Array:
  x = Conv2D(c.channels, kernel=7, stride=2, use_bias=False, name="conv")(images)
  x = jax.nn.relu(StoredNorm(name="norm")(x))
  x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
  return _with_positions(x, c.positions)


_TOKENS = {
  FourierPixels: _fourier_pixels,
  LearnedPixels: _learned_pixels,
  ConvPixels: _conv_pixels,
}
