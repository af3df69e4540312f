"""Sizes of a `stream_perceiver`."""

import math
from dataclasses import dataclass, field

from perceiver_stream.core import CoreConfig, PositionedConfig, PredictCorrectConfig
from perceiver_stream.modalities import ModalityConfig
from perceiver_stream.nn import Precision
from perceiver_stream.types import Layers, Size, Ticks
from perceiver_stream.utils.renamed_fields import Moved, renamed_fields


@dataclass(kw_only=True)
class BottleneckConfig:
  """Constraints on the information that has to pass through the latents; none by default.

  Related: `core.latent_embedding` keeps latents distinct, and `reconstruct_motion` of pixels
  requires them to encode motion.

  Attributes:
    condition_queries_on_input: Give each query the last observation at its position, and the head
      what was derived from it, such as motion. If False, every predicted change has to be decoded
      from the latents; the image that is warped is still the last frame. A core of latents with
      positions needs False.
    latent_grid: Rows and columns of cells to which the latents are bound: each latent attends only
      to the tokens of its own cell, and to those without a position in the image. None: to all
      tokens.
    norm_tokens: Apply a LayerNorm to tokens. It removes their magnitude, and with it the magnitude
      of motion.
  """

  condition_queries_on_input: bool = True
  latent_grid: tuple[Size, Size] | None = None
  norm_tokens: bool = True

  def validate(self, num_latents: int) -> None:
    """Checks the fields against the size of the core; raises ValueError."""
    cells = math.prod(self.latent_grid or (num_latents,))
    if cells != num_latents:
      raise ValueError(
        f"stream_perceiver: bottleneck.latent_grid={self.latent_grid} needs {cells} latents, one per "
        f"cell, but core.num_latents={num_latents}; change one of them."
      )


@renamed_fields(
  queries_see=Moved("bottleneck.condition_queries_on_input"),
  latent_grid=Moved("bottleneck.latent_grid"),
  norm_tokens=Moved("bottleneck.norm_tokens"),
)
@dataclass(kw_only=True)
class Config:
  """Sizes of a `stream_perceiver`.

  Attributes:
    modalities: Modalities by name; their order is that of the tokens.
    core: Config of the recurrent latent array; its type chooses the core.
    token_dim: Width of a token, C.
    query_dim: Width of a query, E.
    num_decoder_layers: Cross-attention blocks between queries and latents.
    num_decoder_heads: Attention heads of these blocks.
    decoder_mlp_factor: MLP width over `query_dim`.
    displacements: Ticks ahead that are predicted.
    precision: Dtype of the computation.
    remat: Recompute the recurrence in the backward pass instead of storing it.
    decode_chunk: Maximum number of queries (rows × queries) decoded at once.
    bottleneck: Constraints on the information that has to pass through the latents.
  """

  modalities: dict[str, ModalityConfig] = field(default_factory=dict)
  core: CoreConfig = field(default_factory=PredictCorrectConfig)
  token_dim: Size = 128
  query_dim: Size = 128
  num_decoder_layers: Layers = 1
  num_decoder_heads: Size = 4
  decoder_mlp_factor: Size = 2
  displacements: tuple[Ticks, ...] = (1, 4, 16)
  precision: Precision = field(default_factory=Precision)
  remat: bool = False
  decode_chunk: Size = 2**15
  bottleneck: BottleneckConfig = field(default_factory=BottleneckConfig)

  def __post_init__(self):
    self.validate()

  def validate(self) -> None:
    """Checks the fields and those of the parts; raises ValueError."""
    for part in (self.core, self.precision, *self.modalities.values()):
      part.validate()
    if not any(m.use_input for m in self.modalities.values()):
      raise ValueError("stream_perceiver: no modality has use_input=True; give it one to read.")
    if any(d < 0 for d in self.displacements):
      raise ValueError(
        f"stream_perceiver: displacements {self.displacements} must be 0 (reconstruction) or more."
      )
    if self.query_dim % self.num_decoder_heads:
      raise ValueError(
        f"stream_perceiver: query_dim={self.query_dim} is not a multiple of "
        f"num_decoder_heads={self.num_decoder_heads}."
      )
    self.bottleneck.validate(self.core.num_latents)
    reconstructs = [
      n for n, m in self.modalities.items() if getattr(m, "reconstruct_motion", False)
    ]
    if self.bottleneck.condition_queries_on_input and isinstance(self.core, PositionedConfig):
      raise ValueError(
        "stream_perceiver: predictions by latents with positions (core=PositionedConfig) get motion "
        "from the latents only; set bottleneck.condition_queries_on_input=False."
      )
    if reconstructs and self.bottleneck.condition_queries_on_input:
      raise ValueError(
        f"stream_perceiver: {reconstructs} have reconstruct_motion=True, and queries that are given "
        f"the frame to reconstruct; set bottleneck.condition_queries_on_input=False."
      )
