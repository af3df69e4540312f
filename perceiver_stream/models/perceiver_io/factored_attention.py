"""Attention between latents and a grid without materialising the grid's tokens.

A token is [features, row position, column position, constant], so its logit is a sum of dot
products. The position terms are computed once per row and once per column, the feature term per
token. With a single head, the projections of keys, values, queries and outputs are absorbed into
the side with fewer rows, and a linear layer after the decoder is absorbed into its output layer.
Results equal those of `Encoder` and `Decoder` up to rounding, with the same parameters.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from perceiver_stream.models.perceiver_io.halves import EPS, Decoder, Encoder
from perceiver_stream.nn import MLP, LayerNorm, LearnedPositions, Linear, in_chunks, repeat_rows
from perceiver_stream.nn.precision import broadcast

BLOCK_BYTES = 4 * 2**20  # logits of one block of rows; larger blocks exceed the cache


class Grid(NamedTuple):
  """Tokens of R rows by S cells in factored form.

  Attributes:
    features: `[B, R, S, C]`; None if tokens have none.
    rows: Part of a token that depends on its row, `[R, P]`.
    cells: Part of a token that depends on its position in the row, `[S, K]`.
    columns: Columns of features, rows and cells in a token; together they contain each column once.
  """

  features: Float[Array, "B R S C"] | None
  rows: Float[Array, "R P"]
  cells: Float[Array, "S K"]
  columns: tuple[np.ndarray, np.ndarray, np.ndarray]

  @property
  def width(self) -> int:
    """Channels of a token."""
    return sum(map(len, self.columns))

  def split(self, x: Float[Array, "... F"]) -> list[Float[Array, "... C"]]:
    """Returns the columns of features, rows and cells."""
    return [x[..., columns] for columns in self.columns]

  def inverse_deviation(self) -> Float[Array, "B R S"]:
    """Returns the inverse standard deviation of every token as in `LayerNorm`; B may be 1."""

    def moment(power: int) -> Array:
      row, cell = (jnp.sum(table**power, axis=-1) for table in (self.rows, self.cells))
      total = row[None, :, None] + cell[None, None]
      if self.features is not None:
        total = total + jnp.sum(self.features**power, axis=-1)
      return total / self.width

    return jax.lax.rsqrt(jnp.maximum(moment(2) - jnp.square(moment(1)), 0.0) + EPS)


def grid_of(
  features: Float[Array, "B *shape C"] | None,
  axes: Sequence[tuple[np.ndarray, np.ndarray]],
  constant: Float[Array, " K"],
  num_row_axes: int,
) -> Grid:
  """Returns the grid of tokens that concatenate features, positions and a constant.

  Args:
    features: First part of a token; None if there are no features.
    axes: Positions and their columns by axis, from `FourierConfig.axes`; second part of a token.
    constant: Last part of a token.
    num_row_axes: Number of leading axes that form the rows.
  """
  num_features = 0 if features is None else features.shape[-1]
  rows, row_columns = _product(axes[:num_row_axes])
  cells, cell_columns = _product(axes[num_row_axes:])
  if features is not None:
    features = features.reshape(features.shape[0], len(rows), len(cells), num_features)
  shared = jnp.broadcast_to(constant[None], (len(cells), len(constant)))
  last = num_features + len(row_columns) + len(cell_columns) + np.arange(len(constant))
  columns = (
    np.arange(num_features),
    num_features + row_columns,
    np.concatenate([num_features + cell_columns, last]),
  )
  return Grid(features, jnp.asarray(rows), jnp.concatenate([cells, shared], axis=-1), columns)


def _product(axes: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the positions of all combinations, the last axis fastest, and their columns."""
  shape = tuple(len(table) for table, _ in axes)
  wide = [np.zeros((*shape, 0))]
  for i, (table, _) in enumerate(axes):
    alone = (1,) * i + (len(table),) + (1,) * (len(axes) - 1 - i)
    wide.append(np.broadcast_to(table.reshape(*alone, table.shape[1]), (*shape, table.shape[1])))
  columns = np.concatenate([np.zeros(0, int), *(columns for _, columns in axes)])
  table = np.concatenate(wide, axis=-1).reshape(int(np.prod(shape)), len(columns))
  return table.astype(np.float32), columns


# --- encoder
# ----------------------------------------------------------------------------------------


class GridEncoder(Encoder):
  """An `Encoder` with one cross-attention head that reads grids in factored form."""

  @hk.name_like("__call__")
  def read_grids(self, grids: Sequence[Grid], batch_size: int) -> Float[Array, "B L D"]:
    """Returns the result of `read` for all tokens of all grids."""
    c, width = self.config, grids[0].width
    qk_dim = c.qk_dim or (width if c.qk_from_tokens else c.latent_dim)
    table = LearnedPositions(c.num_latents, c.latent_dim, init_scale=c.init_scale, name="latents")()
    with hk.experimental.name_scope("cross"):
      scale, offset = existing("input_norm", scale=(width,), offset=(width,))
      normed = LayerNorm(eps=EPS, name="query_norm")(table)
      with hk.experimental.name_scope("attention"):
        queries = Linear(qk_dim, name="query")(normed) / math.sqrt(qk_dim)
        (key,) = existing("key", w=(width, qk_dim))  # its bias is the same for all tokens
        token_keys = jnp.dot(queries, key.T)
        attended = _gather(_centred(token_keys * broadcast(scale, token_keys)), grids, batch_size)
        attended = attended * broadcast(scale, attended) + broadcast(offset, attended)
        x = Linear(c.latent_dim, name="output")(Linear(c.v_dim or qk_dim, name="value")(attended))
      x = repeat_rows(table, batch_size) + x if c.use_query_residual else x
      normed = LayerNorm(eps=EPS, name="mlp_norm")(x)
      return x + MLP(c.cross_mlp_factor * c.latent_dim, name="mlp")(normed)


class _PartialSoftmax(NamedTuple):
  """Partial softmax over some tokens: highest logit, sum of weights, weighted sum of tokens."""

  top: Float[Array, "B L"]
  total: Float[Array, "B L"]
  tokens: Float[Array, "B L F"]


def _gather(token_keys: Array, grids: Sequence[Grid], batch_size: int) -> Float[Array, "B L F"]:
  """Returns the attention-weighted mean of the normalised tokens."""
  parts = [_gather_grid(token_keys, grid, batch_size) for grid in grids]
  top = jnp.max(jnp.stack([part.top for part in parts]), axis=0)
  shares = jnp.stack([jnp.exp(part.top - top) for part in parts])
  total = jnp.sum(shares * jnp.stack([part.total for part in parts]), axis=0)
  tokens = jnp.stack([part.tokens for part in parts]) * shares[..., None]
  return _centred(jnp.sum(tokens, axis=0) / total[..., None])


def _gather_grid(token_keys: Array, grid: Grid, batch_size: int) -> _PartialSoftmax:
  num_latents, shape = token_keys.shape[0], (batch_size, len(grid.rows), len(grid.cells))
  features = jnp.zeros((*shape, 0)) if grid.features is None else grid.features
  key_features, key_row, key_cell = grid.split(token_keys)
  by_cell = jnp.dot(key_cell, grid.cells.T)[None]

  @jax.checkpoint
  def row(attended: tuple, now: tuple) -> tuple[tuple, None]:
    (top, sums, by_cell_sum), (features, scale, row) = attended, now
    logits = by_cell + jnp.dot(key_row, row)[None, :, None]
    if features.shape[-1]:
      logits = logits + jnp.einsum("lc,bsc->bls", key_features, features)
    logits = logits * scale[:, None]
    new_top = jnp.maximum(top, _highest(logits))
    weights = jnp.exp(logits - new_top)
    one, scale = jnp.ones((*scale.shape, 1)), scale[..., None]
    columns = jnp.concatenate([one, scale, scale * features], axis=-1)
    found = jnp.einsum("bls,bsv->blv", weights, columns)
    of_row = found[..., 1:2] * row[None, None]
    found = jnp.concatenate([found[..., :1], found[..., 2:], of_row], axis=-1)
    shrink = jnp.exp(top - new_top)
    by_cell_sum = by_cell_sum * shrink + weights * jnp.swapaxes(scale, 1, 2)
    return (new_top, sums * shrink + found, by_cell_sum), None

  lead = (batch_size, num_latents)
  width = 1 + features.shape[-1] + grid.rows.shape[-1]
  start = (jnp.full((*lead, 1), -1e30), jnp.zeros((*lead, width)), jnp.zeros((*lead, shape[2])))
  scale = jnp.broadcast_to(grid.inverse_deviation(), shape)
  by_row = (jnp.swapaxes(features, 0, 1), jnp.swapaxes(scale, 0, 1), grid.rows)
  (top, sums, by_cell_sum), _ = jax.lax.scan(row, start, by_row)
  of_cells = jnp.einsum("bls,sk->blk", by_cell_sum, grid.cells)
  tokens = jnp.concatenate([sums[..., 1:], of_cells], axis=-1)
  tokens = tokens[..., np.argsort(np.concatenate(grid.columns))]
  return _PartialSoftmax(top[..., 0], sums[..., 0], tokens)


# --- decoder --------------------------------------------------------------------------------------


class AbsorbedDecoder(NamedTuple):
  """A decoder with the projections of given latents absorbed, which needs the fewest products.

  Attributes:
    token_keys: Keys in the space of tokens, `[B, L, F]`; a logit is their product with a token.
    bias: Bias of the logits, `[B, L]`.
    values: Values of the latents, and a one, `[B, L, V + 1]`.
    variance: Quadratic form of the variance that the layer norm divides by: `[V, V]`, `[V]`, and
      `[]`; None if values are as wide as the norm.
    hidden: Map from values to the hidden layer, before the norm's division: `[V, H]`, `[H]`.
    hidden_bias: Bias of the hidden layer, `[H]`.
    outputs: Maps to the outputs from values `[V, K]` and from the hidden layer `[H, K]`, and a bias
      `[K]`.
  """

  token_keys: Array
  bias: Array
  values: Array
  variance: tuple[Array, Array, Array] | None
  hidden: tuple[Array, Array]
  hidden_bias: Array
  outputs: tuple[Array, Array, Array]


class GridDecoder(Decoder):
  """A `Decoder` with one head and no query residual for queries that are tokens of a grid."""

  @hk.name_like("__call__")
  def absorb(
    self, latents: Float[Array, "B L D"], width: int, head: tuple[Array, Array] | None = None
  ) -> AbsorbedDecoder:
    """Returns the decoder for these latents and for tokens of that width.

    Args:
      latents: Latents to decode.
      width: Width of the tokens.
      head: Weight and bias of a linear layer after the decoder; None if there is none.
    """
    c = self.config
    qk_dim = c.qk_dim or latents.shape[-1]
    v_dim = c.v_dim or qk_dim
    with hk.experimental.name_scope("cross"):
      token_scale, token_offset = existing("query_norm", scale=(width,), offset=(width,))
      normed = LayerNorm(eps=EPS, name="input_norm")(latents)
      with hk.experimental.name_scope("attention"):
        keys = Linear(qk_dim, name="key")(normed) / math.sqrt(qk_dim)
        values = Linear(v_dim, name="value")(normed)
        query, query_bias = existing("query", w=(width, qk_dim), b=(qk_dim,))
        project, project_bias = existing("output", w=(v_dim, width), b=(width,))
      scale, offset = existing("mlp_norm", scale=(width,), offset=(width,))
      with hk.experimental.name_scope("mlp"):
        first, first_bias = existing("hidden", w=(width, width), b=(width,))
        second, second_bias = existing("output", w=(width, width), b=(width,))
    last, last_bias = existing("output", w=(width, self.output_dim), b=(self.output_dim,))
    if head is not None:
      last, last_bias = jnp.dot(last, head[0]), jnp.dot(last_bias, head[0]) + head[1]
    fit = jnp.dot(keys, query.T)
    bias = jnp.dot(fit, token_offset) + jnp.dot(keys, query_bias)
    variance, identity = None, jnp.eye(width)
    if v_dim < width:
      wide, wide_bias = _centred(project), _centred(project_bias)
      variance = (
        jnp.dot(wide, wide.T),
        2 * jnp.dot(wide, wide_bias),
        jnp.dot(wide_bias, wide_bias),
      )
    else:
      values = jnp.dot(values, project) + broadcast(project_bias, jnp.dot(values, project))
      project, project_bias = identity, jnp.zeros(width)
    into = _centred(identity) * broadcast(scale, identity) @ first  # without the norm's division
    ones = jnp.ones((*values.shape[:2], 1))
    return AbsorbedDecoder(
      token_keys=_centred(fit * broadcast(token_scale, fit)),
      bias=bias,
      values=jnp.concatenate([values, ones], axis=-1),
      variance=variance,
      hidden=(jnp.dot(project, into), jnp.dot(project_bias, into)),
      hidden_bias=jnp.dot(offset, first) + first_bias,
      outputs=(
        jnp.dot(project, last),
        jnp.dot(second, last),
        jnp.dot(project_bias + second_bias, last) + last_bias,
      ),
    )


def answer_grid(absorbed: AbsorbedDecoder, grid: Grid) -> Float[Array, "B N K"]:
  """Returns the outputs for all tokens of a grid, computed one block of rows after another."""
  batch_size, num_latents = absorbed.token_keys.shape[:2]
  shape = (batch_size, len(grid.rows), len(grid.cells))
  features = jnp.zeros((*shape, 0)) if grid.features is None else grid.features
  key_features, key_row, key_cell = grid.split(absorbed.token_keys)
  by_cell = jnp.einsum("sk,blk->bsl", grid.cells, key_cell)

  def block(now: tuple) -> Array:
    features, scale, rows = now
    logits = jnp.einsum("rp,blp->brl", rows, key_row)[:, :, None] + by_cell[:, None]
    if features.shape[-1]:
      logits = logits + jnp.einsum("brsc,blc->brsl", features, key_features)
    logits = logits * scale[..., None] + absorbed.bias[:, None, None]
    return _outputs(absorbed, logits.reshape(batch_size, -1, num_latents))

  size = _rows_at_once(shape[1], 4 * batch_size * num_latents * shape[2])
  scale = jnp.broadcast_to(grid.inverse_deviation(), shape)
  blocks = (_cut(features, 1, size), _cut(scale, 1, size), _cut(grid.rows, 0, size))
  outputs = jnp.moveaxis(jax.lax.map(jax.checkpoint(block), blocks), 0, 1)
  return outputs.reshape(batch_size, shape[1] * shape[2], -1)


def answer_points(
  absorbed: AbsorbedDecoder, grid: Grid, points: Int[Array, " Q"], size: int
) -> Float[Array, "B Q K"]:
  """Returns the outputs for some tokens of a grid without features, `size` at a time.

  Args:
    absorbed: Output of `GridDecoder.absorb`.
    grid: Only its tables are used.
    points: Flat row-major indices.
    size: Maximum number of points at once.
  """
  _, key_row, key_cell = grid.split(absorbed.token_keys)
  by_row = jnp.einsum("rp,blp->brl", grid.rows, key_row)
  by_cell = jnp.einsum("sk,blk->bsl", grid.cells, key_cell)
  scale = grid.inverse_deviation()[0]

  def block(points: Array) -> Array:
    row, cell = jnp.divmod(points[0], len(grid.cells))
    logits = (by_row[:, row] + by_cell[:, cell]) * scale[row, cell][None, :, None]
    return _outputs(absorbed, logits + absorbed.bias[:, None])

  return in_chunks(block, jnp.asarray(points)[None], size)


def _outputs(absorbed: AbsorbedDecoder, logits: Float[Array, "B Q L"]) -> Float[Array, "B Q K"]:
  weights = jnp.exp(logits - _highest(logits))
  attended = jnp.einsum("bql,blv->bqv", weights, absorbed.values)
  x = attended[..., :-1] / attended[..., -1:]
  if absorbed.variance is None:
    square = jnp.mean(jnp.square(_centred(x)), axis=-1, keepdims=True)
  else:
    product, linear, rest = absorbed.variance
    square = jnp.sum(jnp.dot(x, product) * x, axis=-1, keepdims=True)
    square = (square + jnp.dot(x, linear[:, None]) + rest) / absorbed.hidden[0].shape[-1]
  hidden = jnp.dot(x, absorbed.hidden[0])
  hidden = (hidden + broadcast(absorbed.hidden[1], hidden)) * jax.lax.rsqrt(
    jnp.maximum(square, 0.0) + EPS
  )
  hidden = jax.nn.gelu(hidden + broadcast(absorbed.hidden_bias, hidden), approximate=True)
  from_x, from_hidden, bias = absorbed.outputs
  outputs = jnp.dot(x, from_x) + jnp.dot(hidden, from_hidden)
  return outputs + broadcast(bias, outputs)


# --- parts
# ------------------------------------------------------------------------------------------


def _highest(logits: Float[Array, "... L"]) -> Float[Array, "... 1"]:
  """Returns the maximum logit, without a gradient: it cancels out in a softmax.

  If the backward pass recomputes logits, rounding may leave none equal to the maximum, and its
  gradient would be 0 / 0.
  """
  return jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))


def _centred(x: Float[Array, "... F"]) -> Float[Array, "... F"]:
  return x - jnp.mean(x, axis=-1, keepdims=True)


def _cut(x: Array, axis: int, size: int) -> Array:
  """Returns the blocks of `size` along an axis, stacked on a new leading axis."""
  return jnp.moveaxis(
    x.reshape(*x.shape[:axis], x.shape[axis] // size, size, *x.shape[axis + 1 :]), axis, 0
  )


def _rows_at_once(num_rows: int, row_bytes: int) -> int:
  """Returns the number of rows of a block: the largest divisor of `num_rows` within the budget."""
  fits = max(1, BLOCK_BYTES // row_bytes)
  return max(n for n in range(1, num_rows + 1) if num_rows % n == 0 and n <= fits)


def existing(name: str, **shapes: tuple[int, ...]) -> list[Array]:
  """Returns existing parameters of the module of that name in this scope."""
  with hk.experimental.name_scope(name):
    return [hk.get_parameter(leaf, s, jnp.float32, jnp.zeros) for leaf, s in shapes.items()]
