"""Multi-head attention: fused if the backend supports it, in blocks if logits are large."""

import math

import haiku as hk
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn.capture import record
from perceiver_stream.nn.layers import Linear, RMSNorm

# Logits of one block over all rows and heads. Blocks have to be large on CPU: 128 MB is as fast as
# no blocking, 8 MB takes twice the time (measured on the optical flow model).
LOGITS_BYTES = 128 * 2**20
# On CPU heads are computed one by one, in tiles of logits that fit into the cache: 6 to 10 times
# faster than all heads at once (2048 latents, 16 heads).
TILE_BYTES = 4 * 2**20
_MASKED = -1e30


def attend(
  queries: Float[Array, "B Q M F"],
  keys: Float[Array, "B N M F"],
  values: Float[Array, "B N M G"],
  mask: Bool[Array, "B N"] | Bool[Array, "B Q N"] | None = None,
  *,
  logits_bytes: int = LOGITS_BYTES,
) -> Float[Array, "B Q M G"]:
  """Returns softmax(queries keysᵀ / sqrt(F)) values, per head.

  Uses the backend's fused kernel if there is one (bfloat16 and float16 on GPU, heads of equal
  width, no mask). Otherwise, if the logits need more than `logits_bytes`, computes blocks of
  queries and, if a large block of queries is still too much, blocks of keys with a running softmax;
  on CPU head by head, in tiles that fit into the cache. All paths agree up to rounding.

  Args:
    queries: `[B, Q, M, F]`, M heads of width F.
    keys: `[B, N, M, F]`.
    values: `[B, N, M, G]`.
    mask: True for keys that may be attended to, per row or per query; a query without keys gives
      zeros.
    logits_bytes: Budget for one block of float32 logits.
  """
  if _has_fused_kernel(queries, values, mask):
    return jax.nn.dot_product_attention(queries, keys, values, implementation="cudnn")
  batch, num_queries, num_heads, _ = queries.shape
  num_keys = keys.shape[1]
  row_bytes = 4 * batch * num_heads * num_keys  # logits of one query
  if jax.default_backend() == "cpu" and num_queries * row_bytes > TILE_BYTES:
    if batch * num_heads > 1:
      return _attend_head_by_head(queries, keys, values, mask, logits_bytes)
    if num_keys * 512 * 4 <= TILE_BYTES:  # otherwise tiles would be small
      logits_bytes = min(logits_bytes, TILE_BYTES)
  if num_queries * row_bytes <= logits_bytes:
    return _attend_at_once(queries, keys, values, mask)
  block_q = max(logits_bytes // row_bytes, min(num_queries, 512))
  block_k = min(num_keys, max(512, logits_bytes // (4 * batch * num_heads * block_q)))
  return _attend_in_blocks(queries, keys, values, mask, block_q, block_k)


def _has_fused_kernel(queries: Array, values: Array, mask: Array | None) -> bool:
  width = queries.shape[-1]
  return (
    jax.default_backend() == "gpu"
    and queries.dtype in (jnp.bfloat16, jnp.float16)
    and width == values.shape[-1]
    and width <= 128
    and width % 8 == 0
    and mask is None  # a fully masked row must give zeros; cuDNN does not guarantee it
  )


def _attend_head_by_head(
  queries: Array, keys: Array, values: Array, mask: Array | None, logits_bytes: int
) -> Array:
  """Returns the result of `attend`, computed for one row and head after another."""
  batch, num_queries, num_heads, _ = queries.shape
  split = lambda x: rearrange(x, "b n m f -> (b m) 1 n 1 f")  # noqa: E731
  masks = None if mask is None else jnp.repeat(mask[:, None], num_heads, axis=0)

  @jax.checkpoint
  def one(head: tuple) -> Array:
    return attend(*head, logits_bytes=logits_bytes)

  heads = (split(queries), split(keys), split(values), masks)
  return rearrange(jax.lax.map(one, heads), "(b m) 1 q 1 g -> b q m g", b=batch, q=num_queries)


def _logits(queries: Array, keys: Array, mask: Array | None) -> Array:
  logits = jnp.einsum("bqmf,bnmf->bmqn", queries, keys, preferred_element_type=jnp.float32)
  logits = logits / math.sqrt(queries.shape[-1])
  if mask is None:
    return logits
  mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
  return jnp.where(mask, logits, _MASKED)


def attention_weights(queries: Array, keys: Array, mask: Array | None) -> Float[Array, "B M Q N"]:
  """Returns the weights by which `attend` averages the values, for the same arguments."""
  logits = _logits(queries, keys, mask)
  weights = jax.nn.softmax(logits, axis=-1)
  if mask is not None:  # also gives zeros to a query without keys
    weights = jnp.where(logits == _MASKED, 0.0, weights)
  return weights


def _attend_at_once(queries: Array, keys: Array, values: Array, mask: Array | None) -> Array:
  weights = attention_weights(queries, keys, mask)
  return jnp.einsum("bmqn,bnmg->bqmg", weights.astype(values.dtype), values)


def _attend_in_blocks(
  queries: Array, keys: Array, values: Array, mask: Array | None, block_q: int, block_k: int
) -> Array:
  batch, num_queries = queries.shape[:2]
  num_keys = keys.shape[1]
  if mask is None and num_keys % block_k:
    mask = jnp.ones((batch, num_keys), bool)
  if mask is not None and mask.ndim == 3 and mask.shape[1] != num_queries:
    raise ValueError(f"attend: mask {mask.shape} does not fit queries {queries.shape}.")
  pad_q, pad_k = -num_queries % block_q, -num_keys % block_k
  queries = jnp.pad(queries, ((0, 0), (0, pad_q), (0, 0), (0, 0)))
  keys = jnp.pad(keys, ((0, 0), (0, pad_k), (0, 0), (0, 0)))
  values = jnp.pad(values, ((0, 0), (0, pad_k), (0, 0), (0, 0)))
  mask_blocks = None
  if mask is not None and mask.ndim == 2:
    mask = jnp.pad(mask, ((0, 0), (0, pad_k)))
    mask_blocks = rearrange(mask, "b (j k) -> j b k", k=block_k)
  elif mask is not None:
    mask = jnp.pad(mask, ((0, 0), (0, pad_q), (0, pad_k)))
    mask_blocks = rearrange(mask, "b (i q) (j k) -> i j b q k", q=block_q, k=block_k)
  key_blocks = rearrange(keys, "b (j k) m f -> j b k m f", k=block_k)
  value_blocks = rearrange(values, "b (j k) m g -> j b k m g", k=block_k)
  query_blocks = rearrange(queries, "b (i q) m f -> i b q m f", q=block_q)

  @jax.checkpoint
  def one(block: tuple[Array, Array | None]) -> Array:
    return _running_softmax(block[0], key_blocks, value_blocks, block[1])

  if mask_blocks is None or mask_blocks.ndim == 3:
    outputs = jax.lax.map(lambda block: one((block, mask_blocks)), query_blocks)
  else:
    outputs = jax.lax.map(one, (query_blocks, mask_blocks))
  return rearrange(outputs, "i b q m g -> b (i q) m g")[:, :num_queries]


def _running_softmax(queries: Array, keys: Array, values: Array, masks: Array | None) -> Array:
  """Returns attention of one block of queries over all blocks of keys, one after another."""
  if keys.shape[0] == 1:
    return _attend_at_once(queries, keys[0], values[0], None if masks is None else masks[0])
  batch, block_q, num_heads, _ = queries.shape
  width = values.shape[-1]

  @jax.checkpoint
  def body(carry: tuple, block: tuple) -> tuple:
    top, total, weighted = carry
    key, value, mask = block
    logits = _logits(queries, key, mask)  # [B, M, Q, k]
    # The maximum cancels out, so it needs no gradient. When it is recomputed in the backward pass,
    # rounding may leave no logit equal to it, and the gradient of such a maximum is 0 / 0.
    new_top = jnp.maximum(top, jax.lax.stop_gradient(jnp.max(logits, axis=-1)))
    weights = jnp.where(logits == _MASKED, 0.0, jnp.exp(logits - new_top[..., None]))
    shrink = jnp.exp(top - new_top)
    part = jnp.einsum("bmqn,bnmg->bmqg", weights.astype(value.dtype), value)
    weighted = weighted * shrink[..., None] + part.astype(jnp.float32)
    return (new_top, total * shrink + jnp.sum(weights, axis=-1), weighted), None

  start = (
    jnp.full((batch, num_heads, block_q), _MASKED, jnp.float32),
    jnp.zeros((batch, num_heads, block_q), jnp.float32),
    jnp.zeros((batch, num_heads, block_q, width), jnp.float32),
  )
  (_, total, weighted), _ = jax.lax.scan(body, start, (keys, values, masks))
  output = weighted / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)[..., None]
  return rearrange(output, "b m q g -> b q m g").astype(values.dtype)


class Attention(hk.Module):
  """Multi-head attention between two sets of vectors, with its four projections.

  Parameters are named `query`, `key`, `value`, `output` (and `query_norm`, `key_norm` with
  `qk_norm`). Heads are contiguous groups of channels.

  Args:
    num_heads: Number of heads; must divide the widths.
    qk_dim: Width of queries and keys over all heads; None: that of the query input.
    v_dim: Width of values over all heads; None: `qk_dim`.
    output_dim: Width of the result; None: `v_dim`.
    use_qkv_bias: If True, the three input projections have a bias.
    qk_norm: If True, queries and keys pass an RMS norm per head (MooG).
    name: Haiku name.

  Raises:
    ValueError: A width is not a multiple of `num_heads`.
  """

  def __init__(
    self,
    num_heads: int,
    *,
    qk_dim: int | None = None,
    v_dim: int | None = None,
    output_dim: int | None = None,
    use_qkv_bias: bool = True,
    qk_norm: bool = False,
    name: str,
  ):
    super().__init__(name=name)
    self.num_heads = num_heads
    self.qk_dim = qk_dim
    self.v_dim = v_dim
    self.output_dim = output_dim
    self.use_qkv_bias = use_qkv_bias
    self.qk_norm = qk_norm

  def __call__(
    self,
    queries: Float[Array, "B Q E"],
    keys_values: Float[Array, "B N C"],
    mask: Bool[Array, "B N"] | Bool[Array, "B Q N"] | None = None,
  ) -> Float[Array, "B Q K"]:
    """Returns the output of each query over `keys_values`; see `attend` for `mask`."""
    qk_dim = self.qk_dim or queries.shape[-1]
    v_dim = self.v_dim or qk_dim
    q = self._heads(queries, qk_dim, "query")
    k = self._heads(keys_values, qk_dim, "key")
    v = self._heads(keys_values, v_dim, "value")
    if self.qk_norm:
      q, k = RMSNorm(name="query_norm")(q), RMSNorm(name="key_norm")(k)
    record(self.module_name, lambda: jnp.mean(attention_weights(q, k, mask), axis=1))
    gathered = rearrange(attend(q, k, v, mask), "b q m g -> b q (m g)")
    return Linear(self.output_dim or v_dim, name="output")(gathered)

  @hk.name_like("__call__")
  def _heads(self, x: Float[Array, "B N C"], width: int, name: str) -> Float[Array, "B N M F"]:
    if width % self.num_heads:
      raise ValueError(
        f"Attention '{self.module_name}': {name} width {width} is not a multiple of "
        f"num_heads={self.num_heads}; change one of them."
      )
    x = Linear(width, use_bias=self.use_qkv_bias, name=name)(x)
    return rearrange(x, "b n (m f) -> b n m f", m=self.num_heads)
