"""Pre-norm transformer blocks: self, cross, and self with cross in parallel."""

import haiku as hk
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn.attention import Attention
from perceiver_stream.nn.layers import MLP, LayerNorm

Mask = Bool[Array, "B N"] | Bool[Array, "B Q N"] | None


class SelfBlock(hk.Module):
  """x += attention(norm(x)); x += MLP(norm(x))."""

  def __init__(self, num_heads: int, *, mlp_dim: int, qk_norm: bool = False, name: str):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.mlp_dim = mlp_dim
    self.qk_norm = qk_norm

  def __call__(self, x: Float[Array, "B N C"], mask: Mask = None) -> Float[Array, "B N C"]:
    """Returns the updated tokens."""
    normed = LayerNorm(name="attention_norm")(x)
    x = x + Attention(
      self.num_heads, output_dim=x.shape[-1], qk_norm=self.qk_norm, name="attention"
    )(normed, normed, mask)
    return x + MLP(self.mlp_dim, name="mlp")(LayerNorm(name="mlp_norm")(x))


class CrossBlock(hk.Module):
  """x += attention(norm(x), norm(y)); x += MLP(norm(x))."""

  def __init__(
    self,
    num_heads: int,
    *,
    mlp_dim: int,
    qk_dim: int | None = None,
    qk_norm: bool = False,
    name: str,
  ):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.mlp_dim = mlp_dim
    self.qk_dim = qk_dim
    self.qk_norm = qk_norm

  def __call__(
    self, x: Float[Array, "B Q E"], y: Float[Array, "B N C"], mask: Mask = None
  ) -> Float[Array, "B Q E"]:
    """Returns the updated queries; `y` is what they read."""
    attention = Attention(
      self.num_heads,
      qk_dim=self.qk_dim,
      output_dim=x.shape[-1],
      qk_norm=self.qk_norm,
      name="attention",
    )
    x = x + attention(LayerNorm(name="query_norm")(x), LayerNorm(name="input_norm")(y), mask)
    return x + MLP(self.mlp_dim, name="mlp")(LayerNorm(name="mlp_norm")(x))


class ParallelBlock(hk.Module):
  """x += self(norm(x)) + cross(norm(x), y); x += MLP(norm(x)), as in MooG.

  `y` is not normalised here; norms have no offset and the qkv projections no bias. Without `y`
  only the self path runs, without `use_self` only the cross path.

  Source: van Steenkiste et al. 2024 (MooG); representations4d, `moog/modules.py`.
  """

  def __init__(
    self, num_heads: int, *, qkv_dim: int, mlp_dim: int, use_self: bool = True, name: str
  ):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.qkv_dim = qkv_dim
    self.mlp_dim = mlp_dim
    self.use_self = use_self

  def __call__(
    self, x: Float[Array, "B Q E"], y: Float[Array, "B N C"] | None = None, mask: Mask = None
  ) -> Float[Array, "B Q E"]:
    """Returns the updated queries."""
    normed = LayerNorm(use_offset=False, name="attention_norm")(x)
    update = x
    if self.use_self:
      update = update + self._attention(x.shape[-1], "self_attention")(normed, normed)
    if y is not None:
      update = update + self._attention(x.shape[-1], "cross_attention")(normed, y, mask)
    hidden = LayerNorm(use_offset=False, name="mlp_norm")(update)
    return update + MLP(self.mlp_dim, name="mlp")(hidden)

  def _attention(self, output_dim: int, name: str) -> Attention:
    return Attention(
      self.num_heads,
      qk_dim=self.qkv_dim,
      output_dim=output_dim,
      use_qkv_bias=False,
      qk_norm=True,
      name=name,
    )
