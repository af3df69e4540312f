"""InfoNCE, CLIP and MoCo: one positive per sample, all other samples are negatives."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

_MIN_LENGTH = 1e-12  # of norms that divide
_MASKED = -1e30  # logit of a column that does not count

Valid = Bool[Array, " B"] | None


def unit_length(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
  """Returns vectors divided by their length; zeros stay zeros, with a finite gradient."""
  squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(squared, _MIN_LENGTH**2))


def all_rows(x: Array, axis_name: str | None) -> Array:
  """Returns the rows of all replicas in order; `x` itself without an axis. Gradients flow back."""
  return x if axis_name is None else jax.lax.all_gather(x, axis_name, axis=0, tiled=True)


def own_rows(num_rows: int, axis_name: str | None) -> Int[Array, " B"]:
  """Returns the indices of this replica's rows among those of `all_rows`."""
  first = 0 if axis_name is None else num_rows * jax.lax.axis_index(axis_name)
  return first + jnp.arange(num_rows)


def mean_rows(
  values: Float[Array, " B"], axis_name: str | None = None, valid: Valid = None
) -> Float[Array, ""]:
  """Returns the mean over the rows of all replicas, which have equally many, or over the valid ones."""
  if valid is None:
    mean = jnp.mean(values)
    return mean if axis_name is None else jax.lax.pmean(mean, axis_name)
  total, count = jnp.sum(jnp.where(valid, values, 0.0)), jnp.sum(valid.astype(values.dtype))
  if axis_name is not None:
    total, count = jax.lax.psum((total, count), axis_name)
  return total / jnp.maximum(count, 1.0)


def known_rows(x: Num[Array, "B ..."], valid: Valid) -> Num[Array, "B ..."]:
  """Returns rows with zeros in place of those that do not count, which may be NaN."""
  if valid is None:
    return x
  return jnp.where(valid.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros_like(x))


def known_columns(
  logits: Float[Array, "N B"], valid: Valid, axis_name: str | None = None
) -> Float[Array, "N B"]:
  """Returns logits in which the columns of rows that do not count have no weight."""
  return logits if valid is None else jnp.where(all_rows(valid, axis_name)[None], logits, _MASKED)


def cross_entropy(logits: Float[Array, "*B K"], labels: Int[Array, "*B"]) -> Float[Array, "*B"]:
  """Returns -log softmax(logits)[label] of each row."""
  chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - chosen


def info_nce(
  queries: Float[Array, "B D"],
  keys: Float[Array, "B D"],
  *,
  temperature: float | Float[Array, ""] = 0.07,
  axis_name: str | None = None,
  valid: Valid = None,
) -> Float[Array, ""]:
  """Returns the mean of -log softmax over keys of (query · key / temperature) at the own key.

  Args:
    queries: One per sample.
    keys: One per sample; the others of the batch are negatives. Gradients reach them.
    temperature: Divides the products.
    axis_name: See the package; keys of all replicas are negatives.
    valid: See the package.

  Source: van den Oord et al. 2018, 1807.03748.
  """
  rows = own_rows(queries.shape[0], axis_name)
  queries, keys = known_rows(queries, valid), known_rows(keys, valid)
  logits = queries @ all_rows(keys, axis_name).T / temperature
  logits = known_columns(logits, valid, axis_name)
  return mean_rows(cross_entropy(logits, rows), axis_name, valid)


def clip_loss(
  first: Float[Array, "B D"],
  second: Float[Array, "B D"],
  scale: float | Float[Array, ""],
  *,
  axis_name: str | None = None,
  valid: Valid = None,
) -> Float[Array, ""]:
  """Returns the mean of InfoNCE in both directions, of `scale` times the products.

  `scale` is the exponential of a learned parameter, which starts at log(1/0.07) and is clipped at
  log(100). Features have unit length.

  Source: Radford et al. 2021, 2103.00020; open_clip, `loss.py`.
  """
  first, second = (x * jnp.sqrt(jnp.asarray(scale, x.dtype)) for x in (first, second))
  return 0.5 * (
    info_nce(first, second, temperature=1.0, axis_name=axis_name, valid=valid)
    + info_nce(second, first, temperature=1.0, axis_name=axis_name, valid=valid)
  )


def queue_logits(
  queries: Float[Array, "B D"],
  keys: Float[Array, "B D"],
  queue: Float[Array, "K D"],
  *,
  temperature: float = 0.07,
) -> Float[Array, "B J"]:
  """Returns the logits of the own key, column 0, and of the queue; no gradient reaches keys."""
  keys, queue = jax.lax.stop_gradient((keys, queue))
  own = jnp.sum(queries * keys, axis=-1, keepdims=True)
  return jnp.concatenate([own, queries @ queue.T], axis=1) / temperature


def moco_loss(
  queries: Float[Array, "B D"],
  keys: Float[Array, "B D"],
  queue: Float[Array, "K D"],
  *,
  temperature: float = 0.07,
  valid: Valid = None,
) -> Float[Array, ""]:
  """Returns the mean cross-entropy of the own key against a queue of older keys.

  Keys come from an encoder that is a running mean of the queries' (`coclr.momentum_update`).

  Source: He et al. 2020, 1911.05722.
  """
  queries, keys = known_rows(queries, valid), known_rows(keys, valid)
  logits = queue_logits(queries, keys, queue, temperature=temperature)
  return mean_rows(jax.nn.logsumexp(logits, axis=1) - logits[:, 0], valid=valid)
