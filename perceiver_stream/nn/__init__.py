"""Stateless network modules: attention, blocks, norms, positions, convolutions."""

from perceiver_stream.nn.attention import Attention as Attention
from perceiver_stream.nn.attention import attend as attend
from perceiver_stream.nn.blocks import CrossBlock as CrossBlock
from perceiver_stream.nn.blocks import ParallelBlock as ParallelBlock
from perceiver_stream.nn.blocks import SelfBlock as SelfBlock
from perceiver_stream.nn.capture import capture_attention as capture_attention
from perceiver_stream.nn.capture import mean_weights as mean_weights
from perceiver_stream.nn.carrying import Carrying as Carrying
from perceiver_stream.nn.carrying import CellMotion as CellMotion
from perceiver_stream.nn.chunks import in_chunks as in_chunks
from perceiver_stream.nn.conv import ConvStack as ConvStack
from perceiver_stream.nn.layers import MLP as MLP
from perceiver_stream.nn.layers import BlockLinear as BlockLinear
from perceiver_stream.nn.layers import LayerNorm as LayerNorm
from perceiver_stream.nn.layers import Linear as Linear
from perceiver_stream.nn.layers import RMSNorm as RMSNorm
from perceiver_stream.nn.layers import exact_gelu as exact_gelu
from perceiver_stream.nn.layers import gelu as gelu
from perceiver_stream.nn.matching import PatchMatch as PatchMatch
from perceiver_stream.nn.matching import match_patches as match_patches
from perceiver_stream.nn.matching import patches_at as patches_at
from perceiver_stream.nn.matching import unit_length as unit_length
from perceiver_stream.nn.motion import FramePair as FramePair
from perceiver_stream.nn.motion import has_stopped as has_stopped
from perceiver_stream.nn.motion import is_cut as is_cut
from perceiver_stream.nn.motion import is_unexplained as is_unexplained
from perceiver_stream.nn.motion import local_motion as local_motion
from perceiver_stream.nn.motion import roughness as roughness
from perceiver_stream.nn.moving import MovingCrossBlock as MovingCrossBlock
from perceiver_stream.nn.moving import MovingPoints as MovingPoints
from perceiver_stream.nn.patches import patchify as patchify
from perceiver_stream.nn.patches import unpatchify as unpatchify
from perceiver_stream.nn.positions import LearnedPositions as LearnedPositions
from perceiver_stream.nn.positions import coordinates as coordinates
from perceiver_stream.nn.positions import fourier_linear as fourier_linear
from perceiver_stream.nn.positions import fourier_octaves as fourier_octaves
from perceiver_stream.nn.positions import sincos_1d as sincos_1d
from perceiver_stream.nn.precision import Precision as Precision
from perceiver_stream.nn.relative import RelativeCrossBlock as RelativeCrossBlock
from perceiver_stream.nn.rows import repeat_rows as repeat_rows
from perceiver_stream.nn.rows import where_rows as where_rows
from perceiver_stream.nn.sampling import repeat_2d as repeat_2d
from perceiver_stream.nn.sampling import sample_bilinear as sample_bilinear
from perceiver_stream.nn.sharding import shard_axis as shard_axis
from perceiver_stream.utils import moved

__getattr__ = moved.renamed_names(
  __name__,
  {
    "captured": "nn.capture.capture_attention",
    "select": "nn.rows.where_rows",
    "spread": "nn.sharding.shard_axis",
  },
)
