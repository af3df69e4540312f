"""Perceiver IO for optical flow, with one query per pixel of the first frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import haiku as hk
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perceiver_stream.models.perceiver_io.factored_attention import (
  Grid,
  GridDecoder,
  GridEncoder,
  answer_grid,
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
from perceiver_stream.nn import Linear, repeat_rows
from perceiver_stream.types import Positive, Size


@dataclass(kw_only=True)
class Config:
  """Sizes of a `FlowPerceiver`; defaults are the published model.

  Attributes:
    height: Rows of a frame; larger images are computed in tiles of this size.
    width: Columns of a frame.
    channels: Channels of a frame.
    patch_dim: Width of the features of a pixel, without positions.
    positions: Position encoding of the pixels.
    encoder: Sizes of the encoder of the pixels.
    decoder: Sizes of the decoder, with one query per pixel.
    output_dim: Channels of the output: two for flow, x and y.
    rescale: Divisor of the decoder's output.
    flow_scale: Factor that converts the result to pixels.
  """

  height: Size = 368
  width: Size = 496
  channels: Size = 3
  patch_dim: Size = 64
  positions: FourierConfig = field(default_factory=FourierConfig)
  encoder: EncoderConfig = field(default_factory=EncoderConfig)
  decoder: DecoderConfig = field(default_factory=DecoderConfig)
  output_dim: Size = 2
  rescale: Positive = 100.0
  flow_scale: Positive = 20.0


class FlowPerceiver(hk.Module):
  """Optical flow between two frames.

  Source: Jaegle et al. 2021, 2107.14795, section 4.2; deepmind-research `perceiver/`, optical flow
  colab. Differs: flow can be decoded at any subset of pixels.
  """

  def __init__(self, config: Config, *, name: str = "perceiver_flow"):
    super().__init__(name=name)
    self.config = config

  def __call__(self, frames: Float[Array, "B 2 H W C"]) -> Float[Array, "B H W 2"]:
    """Returns the flow from the first frame to the second, (x, y) in pixels.

    Args:
      frames: Two RGB frames in [-1, 1], of the config's size.

    Raises:
      ValueError: The frames have another size.
    """
    flow = self.everywhere(self.encode_frames(frames), frames)
    return flow.reshape(*frames.shape[:1], *frames.shape[2:4], -1)

  @hk.name_like("__call__")
  def encode_frames(self, frames: Float[Array, "B 2 H W C"]) -> Float[Array, "B L D"]:
    """Returns `encode(tokens(frames))`, with less arithmetic if there is one head."""
    encoder = GridEncoder(self.config.encoder, name="encoder")
    if hk.running_init() or self.config.encoder.num_cross_heads > 1:
      return encoder(self.tokens(frames))
    return encoder.process(encoder.read_grids([self._grid(frames)], frames.shape[0]))

  @hk.name_like("__call__")
  def everywhere(
    self, latents: Float[Array, "B L D"], frames: Float[Array, "B 2 H W C"]
  ) -> Float[Array, "B N K"]:
    """Returns `decode(latents, tokens(frames))`, with less arithmetic if there is one head."""
    c = self.config
    if hk.running_init() or c.decoder.num_heads > 1 or c.decoder.use_query_residual:
      return self.decode(latents, self.tokens(frames))
    grid = self._grid(frames)
    absorbed = GridDecoder(c.decoder, c.output_dim, name="decoder").absorb(latents, grid.width)
    return answer_grid(absorbed, grid) * (c.flow_scale / c.rescale)

  def _grid(self, frames: Float[Array, "B 2 H W C"]) -> Grid:
    c = self.config
    shape = (c.height, c.width)
    features = self._features(frames).reshape(frames.shape[0], *shape, c.patch_dim)
    return grid_of(features, c.positions.axes(shape), jnp.zeros(0), num_row_axes=1)

  @hk.name_like("__call__")
  def tokens(self, frames: Float[Array, "B 2 H W C"]) -> Float[Array, "B N F"]:
    """Returns one token per pixel: 3×3 neighbourhoods of both frames, and its position."""
    c = self.config
    features = self._features(frames)
    table = jnp.asarray(c.positions.grid((c.height, c.width)), features.dtype)
    return jnp.concatenate([features, repeat_rows(table, frames.shape[0])], axis=-1)

  @hk.name_like("__call__")
  def _features(self, frames: Float[Array, "B 2 H W C"]) -> Float[Array, "B N F"]:
    c = self.config
    if frames.shape[1:] != (2, c.height, c.width, c.channels):
      raise ValueError(
        f"FlowPerceiver '{self.name}': frames {list(frames.shape)} are not "
        f"[B, 2, {c.height}, {c.width}, {c.channels}]; use `tiled_flow` for larger images."
      )
    patches = extract_patches(frames)
    pixels = jnp.concatenate([patches[:, 0], patches[:, 1]], axis=-1)
    pixels = pixels.reshape(frames.shape[0], c.height * c.width, -1)
    return Linear(c.patch_dim, w_init=plain_init(pixels.shape[-1]), name="patches")(pixels)

  @hk.name_like("__call__")
  def encode(self, tokens: Float[Array, "B N F"]) -> Float[Array, "B L D"]:
    """Returns the latents."""
    return Encoder(self.config.encoder, name="encoder")(tokens)

  @hk.name_like("__call__")
  def decode(
    self, latents: Float[Array, "B L D"], tokens: Float[Array, "B Q F"]
  ) -> Float[Array, "B Q K"]:
    """Returns flow in pixels at the pixels of the given tokens: all, or any subset."""
    c = self.config
    zeros = hk.initializers.Constant(0.0)  # an untrained model predicts no motion
    answers = Decoder(c.decoder, c.output_dim, w_init=zeros, name="decoder")(tokens, latents)
    return answers * (c.flow_scale / c.rescale)


def extract_patches(frames: Float[Array, "B T H W C"]) -> Float[Array, "B T H W F"]:
  """Returns every pixel's 3×3 neighbourhood, zeros outside; order (row, column, channel)."""
  height, width = frames.shape[2:4]
  padded = jnp.pad(frames, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
  shifted = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
  return jnp.concatenate(shifted, axis=-1)


def tile_starts(size: int, tile: int, overlap: int, *, fewest: bool = False) -> list[int]:
  """Returns the start of each tile along one axis: all inside the image, without duplicates.

  Tiles start every `tile - overlap` pixels, and the last one is shifted back to the border, as in
  the released colab. Differs: in the colab, tiles exceed the border of 1920×1080 images, and an
  image of exactly one tile is computed four times.

  >>> tile_starts(1080, 368, 20)
  [0, 348, 696, 712]
  >>> tile_starts(1080, 368, 20, fewest=True)
  [0, 356, 712]

  Args:
    size: Pixels of the image along this axis.
    tile: Pixels of a tile.
    overlap: Minimum overlap of neighbours.
    fewest: If True, use the fewest, evenly spaced tiles that overlap by at least half of `overlap`:
      6 for 1280×720 instead of 9, of which two rows would nearly coincide.

  Raises:
    ValueError: The image is smaller than a tile, or the overlap is not smaller than a tile.
  """
  if size < tile or not 0 <= overlap < tile:
    raise ValueError(
      f"tile_starts: {size} pixels cannot be covered by tiles of {tile} with overlap {overlap}; "
      f"pad or enlarge the image to {tile} pixels, or build the model for a smaller tile."
    )
  if fewest:
    least = overlap // 2
    count = max(1, -(-(size - least) // (tile - least)))
    return [round(i * (size - tile) / max(count - 1, 1)) for i in range(count)]
  return sorted({min(start, size - tile) for start in range(0, size, tile - overlap)})


def tile_weights(height: int, width: int) -> Float[np.ndarray, "H W"]:
  """Returns the weight of a tile's pixels: 1 at the border, rising by 1 per pixel inwards."""
  rows = np.minimum(np.arange(height) + 1, height - np.arange(height))
  columns = np.minimum(np.arange(width) + 1, width - np.arange(width))
  return np.minimum(rows[:, None], columns[None]).astype(np.float32)


def tiled_flow(
  flow: Callable[[Float[np.ndarray, "B 2 h w C"]], Float[Array, "B h w 2"]],
  frames: Float[np.ndarray, "B 2 H W C"],
  tile: Sequence[int],
  *,
  overlap: int = 20,
  fewest: bool = False,
) -> Float[np.ndarray, "B H W 2"]:
  """Returns the flow of an image of any size as the weighted mean over overlapping tiles.

  Args:
    flow: The model for one tile; compiled once for images of any size.
    frames: Two frames in [-1, 1], at least as large as a tile.
    tile: Rows and columns of a tile.
    overlap: Minimum overlap of neighbouring tiles in pixels.
    fewest: See `tile_starts`.

  Raises:
    ValueError: The image is smaller than a tile.
  """
  height, width = frames.shape[2:4]
  weights = tile_weights(tile[0], tile[1])[None, :, :, None]
  total = np.zeros((frames.shape[0], height, width, 2), np.float32)
  weight = np.zeros((1, height, width, 1), np.float32)
  for y in tile_starts(height, tile[0], overlap, fewest=fewest):
    for x in tile_starts(width, tile[1], overlap, fewest=fewest):
      rows, columns = slice(y, y + tile[0]), slice(x, x + tile[1])
      total[:, rows, columns] += weights * np.asarray(flow(frames[:, :, rows, columns]))
      weight[:, rows, columns] += weights
  return total / weight
