"""Sizes of a `stream_perceiver`."""

import math
from dataclasses import dataclass, field

from perceiver_stream.core import CoreConfig, PredictCorrectConfig
from perceiver_stream.modalities import ModalityConfig
from perceiver_stream.nn import Precision
from perceiver_stream.types import Layers, Size, Ticks


@dataclass(kw_only=True)
class Config:
  """Sizes of a `stream_perceiver`.

  Attributes:
    modalities: By name; the order is the order of the tokens.
    core: Config of the recurrent latent array; its type chooses the core.
    token_dim: Width of a token, C.
    query_dim: Width of a query, E.
    num_decoder_layers: Cross-attention blocks between queries and latents.
    num_decoder_heads: Attention heads of these blocks.
    decoder_mlp_factor: MLP width over `query_dim`.
    displacements: Ticks ahead that are predicted.
    precision: Dtype of the computation.
    remat: Whether the recurrence is recomputed in the backward pass instead of stored.
    decode_chunk: Most queries (rows × queries) decoded at once.
    latent_grid: Rows and columns of cells to which the latents are bound: each reads only the
      tokens of its own cell, and those that have no place in the picture. None: all read all.
    queries_see: Whether a query is given what was last seen where it asks, and the modality's head
      what was derived from it, such as motion. Without it, all that is foretold of a change passes
      through the latents; what is moved or changed is still the last frame.
    norm_tokens: Whether tokens pass a LayerNorm. It takes their size away, and so how far what
      is in them has moved; without it they are as large as what was seen.
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
  latent_grid: tuple[Size, Size] | None = None
  queries_see: bool = True
  norm_tokens: bool = True

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
    if self.latent_grid and math.prod(self.latent_grid) != self.core.num_latents:
      raise ValueError(
        f"stream_perceiver: latent_grid={self.latent_grid} needs {math.prod(self.latent_grid)} "
        f"latents, one per cell, but core.num_latents={self.core.num_latents}; change one of them."
      )
