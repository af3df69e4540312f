"""Pre-norm transformer blocks: self, cross, and self with cross in parallel."""

import haiku as hk
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn.attention import Attention
from perceiver_stream.nn.layers import MLP, LayerNorm

Mask = Bool[Array, "B N"] | Bool[Array, "B Q N"] | None


class SelfBlock(hk.Module):
  """x += attention(norm(x)); x += MLP(norm(x)).

  Args:
    num_heads: Attention heads.
    mlp_dim: Width of the MLP's hidden layer.
    qk_dim: Width of queries and keys; None: that of the input.
    v_dim: Width of values; None: `qk_dim`.
    qk_norm: See `Attention`.
    eps: Added to the variance in the norms.
    exact: Whether the MLP has the exact GELU; see `MLP`.
    name: Haiku name.
  """

  def __init__(
    self,
    num_heads: int,
    *,
    mlp_dim: int,
    qk_dim: int | None = None,
    v_dim: int | None = None,
    qk_norm: bool = False,
    eps: float = 1e-6,
    exact: bool = False,
    name: str,
  ):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.mlp_dim = mlp_dim
    self.qk_dim = qk_dim
    self.v_dim = v_dim
    self.qk_norm = qk_norm
    self.eps = eps
    self.exact = exact

  def __call__(self, x: Float[Array, "B N C"], mask: Mask = None) -> Float[Array, "B N C"]:
    """Returns the updated tokens."""
    normed = LayerNorm(eps=self.eps, name="attention_norm")(x)
    attention = Attention(
      self.num_heads,
      qk_dim=self.qk_dim,
      v_dim=self.v_dim,
      output_dim=x.shape[-1],
      qk_norm=self.qk_norm,
      name="attention",
    )
    x = x + attention(normed, normed, mask)
    normed = LayerNorm(eps=self.eps, name="mlp_norm")(x)
    return x + MLP(self.mlp_dim, exact=self.exact, name="mlp")(normed)


class CrossBlock(hk.Module):
  """x += attention(norm(x), norm(y)); x += MLP(norm(x)).

  Args:
    num_heads: Attention heads.
    mlp_dim: Width of the MLP's hidden layer.
    qk_dim: Width of queries and keys; None: that of `x`.
    v_dim: Width of values; None: `qk_dim`.
    qk_norm: See `Attention`.
    use_residual: If True, `x` is added to the attention output; the MLP's residual stays.
    eps: Added to the variance in the norms.
    name: Haiku name.
  """

  def __init__(
    self,
    num_heads: int,
    *,
    mlp_dim: int,
    qk_dim: int | None = None,
    v_dim: int | None = None,
    qk_norm: bool = False,
    use_residual: bool = True,
    eps: float = 1e-6,
    name: str,
  ):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.mlp_dim = mlp_dim
    self.qk_dim = qk_dim
    self.v_dim = v_dim
    self.qk_norm = qk_norm
    self.use_residual = use_residual
    self.eps = eps

  def __call__(
    self, x: Float[Array, "B Q E"], y: Float[Array, "B N C"], mask: Mask = None
  ) -> Float[Array, "B Q E"]:
    """Returns the updated queries; keys and values come from `y`."""
    attention = Attention(
      self.num_heads,
      qk_dim=self.qk_dim,
      v_dim=self.v_dim,
      output_dim=x.shape[-1],
      qk_norm=self.qk_norm,
      name="attention",
    )
    gathered = attention(self._norm("query_norm")(x), self._norm("input_norm")(y), mask)
    x = x + gathered if self.use_residual else gathered
    return x + MLP(self.mlp_dim, name="mlp")(self._norm("mlp_norm")(x))

  @hk.name_like("__call__")
  def _norm(self, name: str) -> LayerNorm:
    return LayerNorm(eps=self.eps, name=name)


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

  @hk.name_like("__call__")
  def _attention(self, output_dim: int, name: str) -> Attention:
    return Attention(
      self.num_heads,
      qk_dim=self.qkv_dim,
      output_dim=output_dim,
      use_qkv_bias=False,
      qk_norm=True,
      name=name,
    )
