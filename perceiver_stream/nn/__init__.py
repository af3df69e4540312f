"""Parts without memory: attention, blocks, norms, positions, convolutions."""

from perceiver_stream.nn.attention import Attention as Attention
from perceiver_stream.nn.attention import attend as attend
from perceiver_stream.nn.blocks import CrossBlock as CrossBlock
from perceiver_stream.nn.blocks import ParallelBlock as ParallelBlock
from perceiver_stream.nn.blocks import SelfBlock as SelfBlock
from perceiver_stream.nn.capture import captured as captured
from perceiver_stream.nn.capture import mean_weights as mean_weights
from perceiver_stream.nn.conv import ConvStack as ConvStack
from perceiver_stream.nn.layers import MLP as MLP
from perceiver_stream.nn.layers import LayerNorm as LayerNorm
from perceiver_stream.nn.layers import Linear as Linear
from perceiver_stream.nn.layers import RMSNorm as RMSNorm
from perceiver_stream.nn.layers import gelu as gelu
from perceiver_stream.nn.motion import local_motion as local_motion
from perceiver_stream.nn.motion import roughness as roughness
from perceiver_stream.nn.positions import LearnedPositions as LearnedPositions
from perceiver_stream.nn.positions import coordinates as coordinates
from perceiver_stream.nn.positions import fourier_linear as fourier_linear
from perceiver_stream.nn.positions import fourier_octaves as fourier_octaves
from perceiver_stream.nn.positions import sincos_1d as sincos_1d
from perceiver_stream.nn.precision import Precision as Precision
from perceiver_stream.nn.rows import select as select
from perceiver_stream.nn.sampling import sample_bilinear as sample_bilinear
from perceiver_stream.nn.sharding import spread as spread
