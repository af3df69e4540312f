"""Perceiver IO autoencoder of video, sound and a label through few latents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float

from perceiver_stream.models.perceiver_io.factored_attention import (
  Grid,
  GridDecoder,
  GridEncoder,
  answer_grid,
  answer_points,
  existing,
  grid_of,
)
from perceiver_stream.models.perceiver_io.halves import (
  Decoder,
  DecoderConfig,
  Encoder,
  EncoderConfig,
  FourierConfig,
  plain_init,
)
from perceiver_stream.nn import LearnedPositions, Linear, in_chunks, repeat_rows, where_rows
from perceiver_stream.types import Count, NonNegative, Positive, Share, Size

MODALITIES = ("audio", "image", "label")  # the alphabetical order is part of the format


@dataclass(kw_only=True)
class Config:
  """Sizes of an `Autoencoder`; defaults are the published Kinetics model.

  Attributes:
    num_frames: Frames of a clip.
    height: Rows of a frame.
    width: Columns of a frame.
    channels: Channels of a frame.
    num_outputs: Channels decoded per pixel.
    samples: Audio samples of a clip.
    samples_per_patch: Audio samples in one token.
    audio_gain: Factor of input samples and divisor of decoded ones. Most sound is far quieter than
      [-1, 1]; since tokens are normalised together with positions in [-1, 1], little of it would
      remain without a gain.
    num_classes: Width of the label.
    space_patch: Rows and columns of a video patch.
    time_patch: Frames of a video patch.
    audio_positions: Fourier features of audio patches.
    image_positions: Fourier features of video patches and of the queried pixels.
    token_padding: Width of tokens beyond that of the widest modality.
    query_padding: Width of queries beyond that of the widest modality's queries.
    mask_probs: By modality, probability that a token is replaced by the learned mask token.
    padding_init_scale: Standard deviation of the initial paddings and mask tokens.
    label_query_dim: Width of the learned label query.
    label_query_init_scale: Standard deviation of the initial label query.
    decoded_dim: Width of the shared decoder's output.
    encoder: Sizes of the encoder.
    decoder: Sizes of the decoder.
    decode_chunk: Maximum number of points decoded at once.
  """

  num_frames: Size = 16
  height: Size = 224
  width: Size = 224
  channels: Size = 3
  num_outputs: Size = 3
  samples: Size = 30720
  samples_per_patch: Size = 16
  audio_gain: Positive = 1.0
  num_classes: Size = 700
  space_patch: Size = 4
  time_patch: Size = 1
  audio_positions: FourierConfig = field(
    default_factory=lambda: FourierConfig(num_bands=192, max_resolution=(30720,))
  )
  image_positions: FourierConfig = field(
    default_factory=lambda: FourierConfig(num_bands=32, max_resolution=(16, 56, 56))
  )
  token_padding: Count = 4
  query_padding: Count = 2
  mask_probs: dict[str, Share] = field(
    default_factory=lambda: {"audio": 0.0, "image": 0.0, "label": 1.0}
  )
  padding_init_scale: NonNegative = 0.02
  label_query_dim: Size = 1024
  label_query_init_scale: NonNegative = 0.02
  decoded_dim: Size = 512
  encoder: EncoderConfig = field(
    default_factory=lambda: EncoderConfig(
      num_latents=784, latent_dim=512, num_layers=8, num_self_heads=8
    )
  )
  decoder: DecoderConfig = field(default_factory=DecoderConfig)
  decode_chunk: Size = 6272

  @property
  def query_shapes(self) -> dict[str, tuple[int, ...]]:
    """Grid of points that can be decoded, by modality; a point of audio is a patch."""
    return {
      "audio": (self.samples // self.samples_per_patch,),
      "image": (self.num_frames, self.height, self.width),
      "label": (1,),
    }


class Autoencoder(hk.Module):
  """Autoencoder of the video, audio and label of a clip.

  The clip is encoded once; then any number of points can be decoded. Queries are independent, so
  any partition into chunks gives the same result.

  Source: Jaegle et al. 2021, 2107.14795, section 4.3; deepmind-research `perceiver/`, video
  autoencoding colab. Differs: the colab encodes the clip again for every chunk.
  """

  def __init__(self, config: Config, *, name: str = "perceiver_autoencoder"):
    super().__init__(name=name)
    self.config = config

  def __call__(self, inputs: Mapping[str, Float[Array, "B ..."]]) -> dict[str, Array]:
    """Returns the decoded clip: audio `[B, S, 1]`, image `[B, T, H, W, C]`, label `[B, K]`.

    Args:
      inputs: `image` `[B, T, H, W, 3]` in [0, 1], `audio` `[B, S, 1]` in [-1, 1], `label`
        `[B, K]` one-hot or zeros.
    """
    c = self.config
    everything = {n: np.arange(int(np.prod(shape))) for n, shape in c.query_shapes.items()}
    outputs = self.decode(self.encode_inputs(inputs), everything)
    return {
      "audio": outputs["audio"].reshape(-1, c.samples, 1),
      "image": outputs["image"].reshape(-1, c.num_frames, c.height, c.width, c.num_outputs),
      "label": outputs["label"][:, 0],
    }

  # --- in -----------------------------------------------------------------------------------------

  @hk.name_like("__call__")
  def encode_inputs(self, inputs: Mapping[str, Float[Array, "B ..."]]) -> Float[Array, "B L D"]:
    """Returns `encode(tokens(inputs))`, with less arithmetic if there is one head."""
    c = self.config
    random_mask = any(0 < prob < 1 for prob in c.mask_probs.values())
    if hk.running_init() or c.encoder.num_cross_heads > 1 or random_mask:
      return self.encode(self.tokens(inputs))
    encoder = GridEncoder(c.encoder, name="encoder")
    return encoder.process(encoder.read_grids(self._grids(inputs), inputs["image"].shape[0]))

  @hk.name_like("__call__")
  def _grids(self, inputs: Mapping[str, Array]) -> list[Grid]:
    c = self.config
    features = self._features(inputs)
    axes = {name: self._axes(name, features[name].shape[1:-1]) for name in MODALITIES}
    dims = {n: features[n].shape[-1] + sum(len(k) for _, k in axes[n]) for n in MODALITIES}
    width, grids = max(dims.values()) + c.token_padding, []
    for name, x in features.items():
      rows = x.ndim // 4  # a clip has a row per frame, sound and label have one row
      if c.mask_probs.get(name, 0.0):
        blank = [(np.zeros((n, 0)), np.zeros(0, int)) for n in x.shape[1:-1]]
        grids.append(grid_of(None, blank, self._vector(width, f"{name}_mask"), rows))
      else:
        padding = self._vector(width - dims[name], f"{name}_padding")
        places = axes[name] or [(np.zeros((1, 0)), np.zeros(0, int))]
        grids.append(grid_of(x, places, padding, rows))
    return grids

  def _axes(self, name: str, shape: Sequence[int], convention: str = "inclusive") -> list[tuple]:
    c = self.config
    if name == "label":
      return []
    return (c.audio_positions if name == "audio" else c.image_positions).axes(shape, convention)

  @hk.name_like("__call__")
  def _vector(self, dim: int, name: str) -> Float[Array, " K"]:
    scale = self.config.padding_init_scale
    return LearnedPositions(1, dim, init_scale=scale, name=name)()[0]

  @hk.name_like("__call__")
  def tokens(self, inputs: Mapping[str, Float[Array, "B ..."]]) -> Float[Array, "B N C"]:
    """Returns all tokens, padded to one width: audio, then image, then label."""
    c = self.config
    patches = self._patches(inputs)
    width = max(x.shape[-1] for x in patches.values()) + c.token_padding
    tokens = []
    for name in MODALITIES:
      x = self._pad(patches[name], width, f"{name}_padding")
      tokens.append(self._mask(x, c.mask_probs.get(name, 0.0), f"{name}_mask"))
    return jnp.concatenate(tokens, axis=1)

  def _patches(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
    c = self.config
    features = self._features(inputs)
    image, audio = features["image"], features["audio"]
    flat = image.reshape(image.shape[0], -1, image.shape[-1])
    return {
      "audio": _beside(audio, c.audio_positions.grid(audio.shape[1:2])),
      "image": _beside(flat, c.image_positions.grid(image.shape[1:4])),
      "label": features["label"],
    }

  def _features(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
    c = self.config
    expected = {
      "audio": (c.samples, 1),
      "image": (c.num_frames, c.height, c.width, c.channels),
      "label": (c.num_classes,),
    }
    for name, shape in expected.items():
      if name not in inputs or inputs[name].shape[1:] != shape:
        got = list(inputs[name].shape) if name in inputs else "missing"
        raise ValueError(f"Autoencoder '{self.name}': {name} is {got}, expected {['B', *shape]}.")
    audio = c.audio_gain * inputs["audio"]
    audio = rearrange(audio, "b (n s) 1 -> b n s", s=c.samples_per_patch)
    image = rearrange(
      inputs["image"],
      "b (t dt) (h dy) (w dx) c -> b t h w (dt dy dx c)",
      dt=c.time_patch,
      dy=c.space_patch,
      dx=c.space_patch,
    )
    return {"audio": audio, "image": image, "label": inputs["label"][:, None]}

  @hk.name_like("__call__")
  def _pad(self, x: Float[Array, "B N C"], width: int, name: str) -> Float[Array, "B N K"]:
    vector = self._vector(width - x.shape[-1], name)
    vector = jnp.broadcast_to(vector[None, None], (*x.shape[:2], *vector.shape))
    return jnp.concatenate([x, vector.astype(x.dtype)], axis=-1)

  @hk.name_like("__call__")
  def _mask(self, x: Float[Array, "B N C"], prob: float, name: str) -> Float[Array, "B N C"]:
    """Returns tokens, each replaced by the mask token with probability `prob`, always."""
    scale = self.config.padding_init_scale
    token = LearnedPositions(1, x.shape[-1], init_scale=scale, name=name)()
    token = jnp.broadcast_to(token[None], x.shape).astype(x.dtype)
    if prob in (0.0, 1.0):
      return token if prob else x
    masked = jax.random.bernoulli(hk.next_rng_key(), prob, x.shape[:2])
    return where_rows(masked, token, x)

  @hk.name_like("__call__")
  def encode(self, tokens: Float[Array, "B N C"]) -> Float[Array, "B L D"]:
    """Returns the latents."""
    return Encoder(self.config.encoder, name="encoder")(tokens)

  # --- out ----------------------------------------------------------------------------------------

  @hk.name_like("__call__")
  def queries(self, name: str, points: Array | np.ndarray) -> Float[Array, "Q E"]:
    """Returns the queries for some points of a modality; all modalities have the same width."""
    c = self.config
    scale = c.label_query_init_scale
    label = LearnedPositions(1, c.label_query_dim, init_scale=scale, name="label_query")()
    shape = c.query_shapes[name]
    if name == "label":
      query = jnp.broadcast_to(label, (points.shape[0], c.label_query_dim))
    else:
      positions = c.audio_positions if name == "audio" else c.image_positions
      query = positions.points(shape, points)
    return self._pad(query[None], self._query_dim(), f"{name}_query_padding")[0]

  @hk.name_like("__call__")
  def decoded(
    self, latents: Float[Array, "B L D"], queries: Float[Array, "Q E"]
  ) -> Float[Array, "B Q K"]:
    """Returns the outputs of the shared decoder, before the last layer of each modality."""
    c = self.config
    init = plain_init(queries.shape[-1])
    decoder = Decoder(c.decoder, c.decoded_dim, w_init=init, name="decoder")
    return decoder(repeat_rows(queries.astype(latents.dtype), latents.shape[0]), latents)

  @hk.name_like("__call__")
  def decode(
    self, latents: Float[Array, "B L D"], points: Mapping[str, Array | np.ndarray]
  ) -> dict[str, Float[Array, "B Q K"]]:
    """Returns the requested points by modality, decoded in chunks of bounded memory.

    Args:
      latents: From `encode`.
      points: By modality, flat indices into `config.query_shapes`, any number in any order.

    Returns:
      Audio `[B, Q, samples_per_patch]`, image `[B, Q, num_outputs]`, label `[B, Q, num_classes]`.
    """
    c = self.config
    written_out = hk.running_init() or c.decoder.num_heads > 1 or c.decoder.use_query_residual
    decode = self._in_chunks if written_out else self._decode_absorbed
    outputs = {name: decode(latents, name, points[name]) for name in MODALITIES if name in points}
    if "audio" in outputs:
      outputs["audio"] = outputs["audio"] / c.audio_gain
    return outputs

  @hk.name_like("__call__")
  def _decode_absorbed(
    self, latents: Float[Array, "B L D"], name: str, points: Array | np.ndarray
  ) -> Float[Array, "B Q K"]:
    """Returns the result of `_decode_points` with less arithmetic, and least for all points."""
    c, shape = self.config, self.config.query_shapes[name]
    axes, scale = self._axes(name, shape, "left"), c.label_query_init_scale
    label = LearnedPositions(1, c.label_query_dim, init_scale=scale, name="label_query")()[0]
    dim = sum(len(columns) for _, columns in axes) or c.label_query_dim
    width = self._query_dim()
    constant = self._vector(width - dim, f"{name}_query_padding")
    if name == "label":
      axes, constant = [(np.zeros((1, 0)), np.zeros(0, int))], jnp.concatenate([label, constant])
    size = {"audio": c.samples_per_patch, "image": c.num_outputs, "label": c.num_classes}[name]
    head = existing(f"{name}_output", w=(c.decoded_dim, size), b=(size,))
    decoder = GridDecoder(c.decoder, c.decoded_dim, name="decoder")
    absorbed = decoder.absorb(latents, width, (head[0], head[1]))
    grid = grid_of(None, axes, constant, num_row_axes=len(shape) - 1)
    everything = np.arange(int(np.prod(shape)))
    if isinstance(points, np.ndarray) and np.array_equal(points, everything):
      return answer_grid(absorbed, grid)
    return answer_points(absorbed, grid, jnp.asarray(points), c.decode_chunk)

  def _query_dim(self) -> int:
    c = self.config
    widths = c.audio_positions.dim(1), c.image_positions.dim(3), c.label_query_dim
    return max(widths) + c.query_padding

  @hk.name_like("__call__")
  def _in_chunks(
    self, latents: Float[Array, "B L D"], name: str, points: Array | np.ndarray
  ) -> Float[Array, "B Q K"]:
    # Queries are created inside the chunk: those of a whole published clip would take 3.3 GB.
    decode = lambda p: self._decode_points(latents, name, p[0])  # noqa: E731
    return in_chunks(decode, points[None], self.config.decode_chunk)

  @hk.name_like("__call__")
  def _decode_points(
    self, latents: Float[Array, "B L D"], name: str, points: Array | np.ndarray
  ) -> Float[Array, "B Q K"]:
    c = self.config
    sizes = {"audio": c.samples_per_patch, "image": c.num_outputs, "label": c.num_classes}
    head = Linear(sizes[name], w_init=plain_init(c.decoded_dim), name=f"{name}_output")
    return head(self.decoded(latents, self.queries(name, points)))


def _beside(x: Float[Array, "B N C"], table: Float[np.ndarray, "N F"]) -> Float[Array, "B N K"]:
  positions = repeat_rows(jnp.asarray(table, x.dtype), x.shape[0])
  return jnp.concatenate([x, positions], axis=-1)
