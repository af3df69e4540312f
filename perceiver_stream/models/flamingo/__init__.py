"""Parts of Flamingo (Alayrac et al. 2022, 2204.14198), which connect video to a language model.

`Resampler` turns any number of tokens into a fixed number of latents; `GatedCrossAttention` lets the
tokens of a trained text model read them, and starts as the identity. Both equal the layers of
OpenFlamingo (mlfoundations/open_flamingo@655f693, MIT); `weights.load_resampler` and
`weights.load_gated_attention` read their arrays. The language model itself is not part of this package.
"""

from perceiver_stream.models.flamingo.gated_attention import (
  GatedCrossAttention as GatedCrossAttention,
)
from perceiver_stream.models.flamingo.resampler import Resampler as Resampler
from perceiver_stream.models.flamingo.weights import load_gated_attention as load_gated_attention
from perceiver_stream.models.flamingo.weights import load_resampler as load_resampler
