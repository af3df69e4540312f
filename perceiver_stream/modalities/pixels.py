"""Pixels: RGB video, encoded as patches, convolution features or single pixels.

Prediction blends two paths: pixels decoded from the latents, and the last frame warped by decoded
flow fields (`warp_hypotheses`). The flow head is initialised to zero and the blend to the warped frame, so
an untrained model copies the last frame exactly. Flow is learned without labels.

Source: the warp path after Pătrăucean et al. 2016 (spatio-temporal video autoencoder), where the
flow is applied by a sampler and smoothed by a Huber penalty; the blend and the motion
features are ours.
"""

from dataclasses import dataclass
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Float, Num

from perceiver_stream.modalities.base import Queries, blend, cell_index
from perceiver_stream.modalities.dense import Dense, DenseConfig
from perceiver_stream.modalities.memory import Memory
from perceiver_stream.modalities.sources import (
  latent_motion,
  mean_of_warps,
  sampled,
  warp_hypotheses,
)
from perceiver_stream.nn import (
  CellMotion,
  ConvStack,
  FramePair,
  LayerNorm,
  Linear,
  Precision,
  has_stopped,
  is_cut,
  local_motion,
  sample_bilinear,
)
from perceiver_stream.types import Layers, ModalitySpec, Positive, Size
from perceiver_stream.utils.renamed_fields import Moved, renamed_fields

TOKENIZERS = ("patch", "conv", "pixel")


@renamed_fields(looks_back=Moved("reconstruct_motion"))
@dataclass(kw_only=True)
class Config(DenseConfig):
  """Sizes of the pixel modality.

  Attributes:
    tokenizer: `"patch"` (linear map of a cell), `"conv"` (a stack of 3×3 convolutions, its stride
      equal to `patch`) or `"pixel"` (one token per pixel; `patch` is then 1).
    conv_channels: Channels of the convolutions; the first log2(patch) layers halve the size.
    motion_levels: Pyramid levels of the motion features, whose range is about 2^levels pixels per
      tick.
    max_displacement: Displacement at which a decoded change has its full scale; smaller ones scale
      proportionally.
    reconstruct_motion: At displacement 0, reconstruct frame t by warping frame t-1. Flow is then
      decoded from the latents only, one vector per cell; motion matched between frames is not used.
  """

  tokenizer: str = "patch"
  conv_channels: tuple[Size, ...] = (32, 64, 64)
  motion_levels: Layers = 3
  max_displacement: Positive = 16.0
  reconstruct_motion: bool = False

  @property
  def spec(self) -> ModalitySpec:
    """RGB bytes."""
    shape = (self.height, self.width, 3)
    return ModalitySpec(
      shape=shape,
      dtype="uint8",
      minimum=0.0,
      maximum=255.0,
      rate_hz=self.rate_hz,
      units="intensity",
    )

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.tokenizer not in TOKENIZERS:
      raise ValueError(f"pixels: tokenizer {self.tokenizer!r} is not one of {TOKENIZERS}.")
    if self.tokenizer == "pixel" and self.patch != 1:
      raise ValueError(f"pixels: tokenizer 'pixel' needs patch=1, not patch={self.patch}.")
    strides = int(np.log2(self.patch))
    if self.tokenizer == "conv" and (2**strides != self.patch or strides > len(self.conv_channels)):
      raise ValueError(
        f"pixels: tokenizer 'conv' cannot reach patch={self.patch} with "
        f"{len(self.conv_channels)} layers; use a power of two up to 2**layers."
      )


def unit_range(raw: Num[Array, "..."]) -> Float[Array, "..."]:
  """Returns float32 in [0, 1]; integers are divided by 255, other values are unchanged."""
  if jnp.issubdtype(raw.dtype, jnp.integer):
    return raw.astype(jnp.float32) / 255.0
  return raw.astype(jnp.float32)


class Pixels(Dense):
  """RGB video; predictions are float32 `[H, W, 3]` in [0, 1], not clipped."""

  metric_name = "mse"

  def preprocess(self, raw: Num[Array, "..."]) -> Float[Array, "..."]:
    """Returns float32 in [0, 1]; uint8 is divided by 255, other values are unchanged."""
    return unit_range(raw)

  def is_cut(self, memory: Memory, value: Float[Array, "B H W 3"]) -> Bool[Array, " B"]:
    """Returns the rows in which `value` follows a cut, or is still after a fade."""
    cut = is_cut(memory.last, value, levels=self.config.motion_levels)
    return cut | has_stopped(memory.last, value, memory.slow)

  def derive(self, memory: Memory) -> Float[Array, "B H W 3"]:
    """Returns motion features between the last two frames; see `nn.local_motion`."""
    return local_motion(memory.previous, memory.last, levels=self.config.motion_levels)

  def frame_pair(self, memory: Memory, extra: Any, valid: Bool[Array, " B"]) -> FramePair:
    """Returns the last two frames and the motion between them, both ways."""
    forward = local_motion(memory.last, memory.previous, levels=self.config.motion_levels)
    return FramePair(memory.previous, memory.last, forward[..., :2], extra[..., :2], valid)

  def tokens(
    self, memory: Memory, derived: Any, dim: int, precision: Precision
  ) -> Float[Array, "B N C"]:
    """Returns one token per cell."""
    if self.config.tokenizer != "conv":
      return super().tokens(memory, derived, dim, precision)
    c = self.config
    halvings = int(np.log2(c.patch))
    strides = [2 if i < halvings else 1 for i in range(len(c.conv_channels))]
    features = ConvStack(c.conv_channels, strides, name=f"{self.name}_conv")(
      precision.cast(self.channels(memory, derived))
    )
    features = LayerNorm(use_offset=False, name=f"{self.name}_conv_norm")(features)
    cells = rearrange(features, "b h w c -> b (h w) c")
    return self._embed(cells, self.query_grid(), dim, "tokens")

  def head(
    self,
    decoded: Float[Array, "B Q E"],
    memory: Memory,
    derived: Any,
    queries: Queries,
    motion: CellMotion | None = None,
  ) -> dict[str, Float[Array, "B Q p p C"]]:
    """Returns RGB of every pixel of the queried cells, and the flow to its source.

    The flow (x, y) in pixels points to the source of each pixel in the last frame; at displacement
    0 with `reconstruct_motion`, in the frame before it. It is the most likely hypothesis of
    `warp_hypotheses`, of `latent_motion` with `reconstruct_motion`, or of `motion` if that is
    given. The image is the mean over hypotheses.
    """
    index, ticks = self._pixel_index(queries.positions), queries.displacement
    if motion is not None:
      past = ticks == 0 if self.config.reconstruct_motion else None
      steps = ticks if past is None else jnp.where(past, 1.0, ticks)
      flows, weights = self._carried(motion, index, steps)
    elif self.config.reconstruct_motion:
      past = ticks == 0
      flows, weights = latent_motion(decoded, index, jnp.where(past, 1.0, ticks), name=self.name)
    else:
      past = None
      motion_scale = jnp.minimum(1.0, 20 * self._activity(memory, queries))
      flows, weights = warp_hypotheses(
        decoded, derived[..., :2], index, ticks, motion_scale, name=self.name
      )
    candidates = self._moved(memory, index, flows, past)
    if motion is None:
      moved = jnp.sum(weights[..., None] * candidates, axis=-2)
    else:
      moved = mean_of_warps(candidates, weights)
    best = jnp.argmax(weights, axis=-1)[..., None, None]
    flow = jnp.take_along_axis(flows, best, axis=-2)[..., 0, :]
    image = self._blend(moved, decoded, memory, queries, carried=motion is not None)
    return {self.name: image, f"{self.name}_flow": flow}

  def _moved(
    self,
    memory: Memory,
    index: Float[Array, "Q p p 2"],
    flows: Float[Array, "B Q p p K 2"],
    past: Bool[Array, " Q"] | None,
  ) -> Float[Array, "B Q p p K 3"]:
    """Returns the pixels at the end of flows, in the last frame or, if `past`, the one before."""
    if past is None:
      return sampled(memory.last, index, flows)
    both = sampled(jnp.concatenate([memory.last, memory.previous], axis=-1), index, flows)
    last, previous = both[..., :3], both[..., 3:]
    return jnp.where(
      jnp.broadcast_to(past[None, :, None, None, None, None], last.shape), previous, last
    )

  def _blend(
    self,
    moved: Float[Array, "B Q p p C"],
    decoded: Float[Array, "B Q E"],
    memory: Memory,
    queries: Queries,
    *,
    carried: bool,
  ) -> Float[Array, "B Q p p C"]:
    """Returns the warped pixels blended with pixels decoded from the latents.

    Decoded pixels are scaled by the recent change of the cell. If the pixels are `carried` by
    latents, no change between the last frames may reach them otherwise: the scale is the difference
    of the warped pixels from the slow average.
    """
    zero = hk.initializers.Constant(0.0)
    residual = Linear(moved.shape[-3] ** 2 * 3, w_init=zero, name=f"{self.name}_residual")(decoded)
    residual = residual.astype(jnp.float32).reshape(moved.shape)
    change = (
      self._activity(memory, queries) if not carried else self._deviation(memory, moved, queries)
    )
    residual = residual * change
    gate = Linear(moved.shape[-3] ** 2, w_init=zero, name=f"{self.name}_gate")(decoded)
    gate = gate.astype(jnp.float32).reshape(*moved.shape[:-1], 1) * self._share(queries)
    index = jnp.broadcast_to(self._pixel_index(queries.positions)[None], (*gate.shape[:-1], 2))
    slow = sample_bilinear(memory.slow, index[..., 0], index[..., 1])
    return blend(moved, slow + residual, jnp.broadcast_to(gate, moved.shape))

  def newest(self, memory: Memory, displacement: int) -> Float[Array, "B H W 3"]:
    """Returns the last frame, or the one before it if that is warped."""
    return memory.previous if self.config.reconstruct_motion and not displacement else memory.last

  def picture(self, prediction: np.ndarray) -> np.ndarray:
    """Returns the frame as uint8."""
    if prediction.dtype == np.uint8:
      return prediction
    return (np.clip(prediction, 0, 1) * 255 + 0.5).astype(np.uint8)

  def random_observation(self, rng: np.random.Generator, batch: tuple[int, ...]) -> np.ndarray:
    """Returns random frames of one scene, uint8 `[*batch, H, W, 3]`: one image with noise."""
    return (
      0.8 * super().random_observation(rng, ()) + 0.2 * super().random_observation(rng, batch)
    ).astype(np.uint8)

  def channels(self, memory: Memory, derived: Any) -> Float[Array, "B H W 12"]:
    """Returns the newest frame, its change, its deviation from the average, and the motion."""
    last = memory.last
    change, slow = last - memory.previous, memory.slow - last
    return jnp.concatenate([2 * last - 1, 4 * change, 4 * slow, derived], axis=-1)

  def _activity(self, memory: Memory, queries: Queries) -> Float[Array, "B Q 1 1 1"]:
    """Returns the recent temporal change of each queried cell, root mean square in [0, 1]."""
    change = jnp.square(memory.last - memory.previous) + jnp.square(memory.slow - memory.last)
    cells = jnp.sqrt(jnp.mean(self.split(change), axis=(2, 3, 4), keepdims=True))
    return jnp.take(cells, cell_index(queries.positions, self.grid_shape()), axis=1)

  def _deviation(
    self, memory: Memory, moved: Float[Array, "B Q p p C"], queries: Queries
  ) -> Float[Array, "B Q 1 1 1"]:
    """Returns the root mean square difference of each cell from the slow average."""
    slow = jnp.take(
      self.split(memory.slow), cell_index(queries.positions, self.grid_shape()), axis=1
    )
    squared = jnp.mean(jnp.square(moved - slow), axis=(2, 3, 4), keepdims=True)
    return jax.lax.stop_gradient(jnp.sqrt(squared))

  def _share(self, queries: Queries) -> Float[Array, "1 Q 1 1 1"]:
    share = queries.displacement / self.config.max_displacement
    return share[None, :, None, None, None]


MODALITY = (Config, Pixels)
