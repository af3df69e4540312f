"""NCE with several positives per sample: MIL-NCE, and the losses of VATT and MMV.

A clip has C candidates of the other modality (narrations near it in time), any of which may match.
Similarities are products; a candidate counts by its exponential.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from perceiver_stream.nn.losses.contrastive import all_rows, known_rows, own_rows

Valid = Bool[Array, " B"] | Num[Array, " B"] | None
_MASKED = -1e30


def asymmetric_nce(
  clips: Float[Array, "B D"],
  candidates: Float[Array, "B C D"],
  *,
  temperature: float = 0.07,
  valid: Valid = None,
  count_twice: bool = True,
  axis_name: str | None = None,
  rows: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
  """Returns NCE with one denominator: all candidates of the clip and all clips of its candidates.

  -log (sum over own candidates) / (sum over the clip's row and its candidates' columns).

  Args:
    clips: One per sample, unit length in VATT and MMV.
    candidates: C per sample; one modality without alternatives has C = 1.
    temperature: Divides the products.
    valid: False for samples without candidates. They are no positives, and their candidates are in
      no denominator; their clips are negatives of others' candidates.
    count_twice: If True, as all released codes (MIL-NCE, VATT's AsymmetricNCE), the positives stand
      in the row and in the columns, so that the loss is at least log 2. If False, only in the row.
    axis_name: See the package.
    rows: False for samples that are no negatives either, the package's `valid`.

  Source: Miech et al. 2020, 1912.06430; Akbari et al. 2021, 2104.11178, `objectives.py`.
  """
  if rows is not None:
    clips, valid = (
      known_rows(clips, rows),
      rows if valid is None else rows & (jnp.asarray(valid, jnp.float32) > 0),
    )
  row, column, own, weight = _scores(clips, candidates, temperature, valid, axis_name)
  if not count_twice:
    mine = jax.nn.one_hot(own_rows(clips.shape[0], axis_name), column.shape[1], dtype=bool)
    column = jnp.where(mine[:, :, None], _MASKED, column)
  if rows is not None:
    column = jnp.where(all_rows(rows, axis_name)[None, :, None], column, _MASKED)
  both = jnp.concatenate([_flat(row), _flat(column)], axis=1)
  loss = jax.nn.logsumexp(both, axis=1) - jax.nn.logsumexp(own, axis=1)
  return _weighted_mean(loss, weight, axis_name)


def symmetric_nce(
  clips: Float[Array, "B D"],
  candidates: Float[Array, "B C D"],
  *,
  temperature: float = 0.07,
  valid: Valid = None,
  axis_name: str | None = None,
) -> Float[Array, ""]:
  """Returns the sum of NCE over candidates and NCE over clips, with a denominator each.

  See `asymmetric_nce`. Samples without candidates are masked, where the released code subtracts 10⁹
  before it divides by the temperature.

  Source: Akbari et al. 2021, 2104.11178, `objectives.py`.
  """
  row, column, own, weight = _scores(clips, candidates, temperature, valid, axis_name)
  denominators = (jax.nn.logsumexp(_flat(x), axis=1) for x in (row, column))
  loss = sum(denominators) - 2 * jax.nn.logsumexp(own, axis=1)
  return _weighted_mean(loss, weight, axis_name)


def mil_nce(
  clips: Float[Array, "B D"],
  candidates: Float[Array, "B C D"],
  *,
  axis_name: str | None = None,
  rows: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
  """Returns MIL-NCE: `asymmetric_nce` of raw products, without temperature.

  Source: Miech et al. 2020, 1912.06430; MIL-NCE_HowTo100M, `loss.py`.
  """
  return asymmetric_nce(clips, candidates, temperature=1.0, axis_name=axis_name, rows=rows)


def mmv_loss(
  clips_for_sound: Float[Array, "B D"],
  sounds: Float[Array, "B D"],
  clips_for_text: Float[Array, "B E"],
  texts: Float[Array, "B C E"],
  *,
  temperature: float = 0.07,
  text_valid: Valid = None,
  text_weight: float = 1.0,
  axis_name: str | None = None,
) -> Float[Array, ""]:
  """Returns NCE of clips and sounds plus MIL-NCE of clips and texts, unit-length features.

  A batch without texts has the loss of its sounds only.

  Source: Alayrac et al. 2020, 2006.16228; the training code is not released.
  """
  sound = asymmetric_nce(
    clips_for_sound, sounds[:, None], temperature=temperature, axis_name=axis_name
  )
  text = asymmetric_nce(
    clips_for_text, texts, temperature=temperature, valid=text_valid, axis_name=axis_name
  )
  return sound + text_weight * text


def _scores(
  clips: Array, candidates: Array, temperature: float, valid: Valid, axis_name: str | None
) -> tuple[Array, Array, Array, Array]:
  """Returns scores of clips with all candidates, of all clips with the own candidates, and own."""
  batch = clips.shape[0]
  weight = jnp.ones(batch) if valid is None else jnp.asarray(valid, jnp.float32)
  if valid is not None:  # what is missing may be NaN, which must not reach a gradient
    candidates = jnp.where(weight[:, None, None] > 0, candidates, 0.0)
  others, every = all_rows(candidates, axis_name), all_rows(clips, axis_name)
  row = jnp.einsum("bd,kcd->bkc", clips, others) / temperature
  column = jnp.einsum("kd,bcd->bkc", every, candidates) / temperature
  own = jnp.sum(clips[:, None] * candidates, axis=-1) / temperature
  if valid is not None:
    usable = all_rows(weight, axis_name)[None, :, None] > 0
    row = jnp.where(usable, row, _MASKED)
  return row, column, own, weight


def _flat(scores: Float[Array, "B K C"]) -> Float[Array, "B KC"]:
  return scores.reshape(scores.shape[0], -1)


def _weighted_mean(loss: Array, weight: Array, axis_name: str | None) -> Float[Array, ""]:
  total, count = jnp.sum(jnp.where(weight > 0, loss * weight, 0.0)), jnp.sum(weight)
  if axis_name is not None:
    total, count = jax.lax.psum((total, count), axis_name)
  return total / jnp.maximum(count, 1.0)
