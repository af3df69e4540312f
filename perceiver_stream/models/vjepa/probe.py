"""Attentive probe: learned queries attend to frozen features, then a linear classifier.

Source: as `network`. In version 1 further blocks act on the query, in version 2 on the tokens before.
"""

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.models.vjepa.blocks import Block, CrossBlock, linear, normal


class AttentiveProbe(hk.Module):
  """Class logits of a set of tokens.

  Args:
    num_classes: Width of the logits.
    num_heads: Attention heads.
    num_blocks: Blocks besides the cross-attention; 0 in version 1, 3 in the published probes of
      version 2.
    mlp_dim: Width of the MLPs' hidden layer; 0: four times that of a token.
    blocks_first: If True, the blocks act on the tokens before the cross-attention, version 2; if
      False on the query after it, version 1.
    name: Haiku name.
  """

  def __init__(
    self,
    num_classes: int,
    num_heads: int,
    *,
    num_blocks: int = 0,
    mlp_dim: int = 0,
    blocks_first: bool = False,
    name: str = "probe",
  ):
    super().__init__(name=name)
    self.num_classes, self.num_heads = num_classes, num_heads
    self.num_blocks, self.mlp_dim, self.blocks_first = num_blocks, mlp_dim, blocks_first

  def __call__(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K"]:
    """Returns the logits."""
    dim = tokens.shape[-1]
    query = hk.get_parameter("query", (1, 1, dim), jnp.float32, normal)
    query = jnp.broadcast_to(query, (tokens.shape[0], 1, dim))
    if self.blocks_first:
      tokens = self._blocks(tokens)
    query = CrossBlock(self.num_heads, self.mlp_dim or 4 * dim, name="cross")(query, tokens)
    if not self.blocks_first:
      query = self._blocks(query)
    return linear(self.num_classes, "classifier")(query[:, 0])

  @hk.name_like("__call__")
  def _blocks(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
    hidden = self.mlp_dim or 4 * x.shape[-1]
    for i in range(self.num_blocks):
      x = Block(self.num_heads, hidden, eps=1e-5, name=f"block_{i}")(x)
    return x
