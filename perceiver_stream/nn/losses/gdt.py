"""GDT: contrasts between transformed clips, either distinguished or made alike.

Features of one batch exist for up to four transformations of each clip. A hypothesis is a list of
comparisons of two transformations. In a *variant* one, a clip's sound under the other transformation
is a negative; in an *invariant* one it is the positive.

Source: Patrick et al. 2021, 2003.04298; facebookresearch/GDT, `gdt_helper.py`, `main_gdt.py`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.losses.contrastive import (
  Valid,
  cross_entropy,
  known_columns,
  known_rows,
  mean_rows,
)

NORMAL, SHIFTED, REVERSED, BOTH = "normal", "shifted", "reversed", "shifted_reversed"
BASE, VARIANT, INVARIANT = "base", "variant", "invariant"


class Pair(NamedTuple):
  """Features of one transformation of a batch of clips: of the video and of the audio."""

  video: Float[Array, "N D"]
  audio: Float[Array, "N D"]


class Comparison(NamedTuple):
  """One contrast of two transformations; `second` is None in hypothesis 1."""

  kind: str
  first: str
  second: str | None


# Kinds of the comparisons in time direction and in time shift, by number of the hypothesis.
_HYPOTHESES: dict[int, tuple[str | None, str | None]] = {
  1: (None, None),
  2: (VARIANT, None),
  3: (INVARIANT, None),
  4: (None, VARIANT),
  5: (None, INVARIANT),
  6: (VARIANT, VARIANT),
  7: (INVARIANT, VARIANT),
  8: (VARIANT, INVARIANT),
  9: (INVARIANT, INVARIANT),
}


def comparisons(hypothesis: int) -> list[Comparison]:
  """Returns the comparisons of a hypothesis, in the order of the released code.

  Args:
    hypothesis: 1 base; 2, 3 distinguish or ignore reversal; 4, 5 shifts; 6 to 9 both: vv, iv, vi, ii.

  Raises:
    ValueError: There is no such hypothesis.
  """
  if hypothesis not in _HYPOTHESES:
    raise ValueError(f"gdt.comparisons: hypothesis={hypothesis}; use 1 to 9.")
  reversal, shift = _HYPOTHESES[hypothesis]
  if not (reversal or shift):
    return [Comparison(BASE, NORMAL, None)]
  axes = [(kind, other) for kind, other in ((reversal, REVERSED), (shift, SHIFTED)) if kind]
  found = [Comparison(BASE, NORMAL, other) for kind, other in axes if kind == INVARIANT]
  for kind, other in axes:
    found.append(Comparison(kind, NORMAL, other))
    if len(axes) == 2:
      found.append(Comparison(kind, SHIFTED if other == REVERSED else REVERSED, BOTH))
  return found


def negatives(compared: Sequence[Comparison], *, as_released: bool = False) -> list[list[str]]:
  """Returns the transformations whose clips of other devices are negatives, for each comparison.

  Args:
    compared: See `comparisons`.
    as_released: If True, lists are extended in place, so that later comparisons of hypotheses 3 and
      5 to 9 have some negatives several times. That is a slip of the released code; default False.
  """
  names = {name for c in compared for name in (c.first, c.second) if name}
  lists = {name: [name] for name in names}
  found = []
  for kind, first, second in compared:
    if second is None:
      found.append(list(lists[first]))
      continue
    into, more = (second, first) if kind == INVARIANT else (first, second)
    if as_released:
      lists[into].extend(lists[more])
      found.append(list(lists[into]))
    else:
      found.append([into, more])
  return found


def gdt_loss(
  features: Mapping[str, Pair],
  hypothesis: int,
  *,
  others: Mapping[str, Pair] | None = None,
  temperature: float = 0.07,
  as_released: bool = False,
  valid: Valid = None,
) -> Float[Array, ""]:
  """Returns the mean of the losses of a hypothesis' comparisons.

  Gradients reach the queries only: both features of each transformation, in turn.

  Args:
    features: By transformation, `"normal"`, `"shifted"`, `"reversed"`, `"shifted_reversed"`; unit
      length. Those of the hypothesis are read.
    hypothesis: See `comparisons`.
    others: Features of clips on other devices, further negatives; see `of_other_replicas`.
    temperature: Divides the products.
    as_released: See `negatives`.
    valid: See the package; rows of `others` all count.
  """
  features = {name: Pair(*(known_rows(x, valid) for x in pair)) for name, pair in features.items()}
  compared = comparisons(hypothesis)
  losses = []
  for comparison, names in zip(compared, negatives(compared, as_released=as_released), strict=True):
    extra = Pair(*(_stacked(others, names, i) for i in range(2))) if others else None
    directions = [(comparison.first, comparison.second)]
    if comparison.second is not None:
      directions.append((comparison.second, comparison.first))
    losses += [
      jnp.mean(
        jnp.stack(
          [
            _loss(features, comparison.kind, query, other, extra, temperature, valid)
            for query, other in directions
          ]
        )
      )
    ]
  return jnp.mean(jnp.stack(losses))


def of_other_replicas(features: Mapping[str, Pair], axis_name: str) -> dict[str, Pair]:
  """Returns the features of all other replicas, for `others`, inside `shard_map` or `pmap`."""

  def others(x: Float[Array, "N D"]) -> Float[Array, "M D"]:
    every = jax.lax.all_gather(jax.lax.stop_gradient(x), axis_name)
    rolled = jnp.roll(every, -jax.lax.axis_index(axis_name), axis=0)
    return rolled[1:].reshape(-1, x.shape[-1])

  return {name: Pair(*map(others, pair)) for name, pair in features.items()}


def _loss(
  features: Mapping[str, Pair],
  kind: str,
  query: str,
  other: str | None,
  extra: Pair | None,
  temperature: float,
  valid: Valid,
) -> Float[Array, ""]:
  """Returns the mean loss of video against audio and audio against video."""
  own = features[query]
  keys = features[other] if kind == INVARIANT and other else own
  total = jnp.float32(0.0)
  for i in range(2):
    columns, counted = [keys[1 - i]], [valid]
    if extra is not None:
      columns, counted = [*columns, extra[1 - i]], [*counted, None]
    if kind == VARIANT and other:
      columns, counted = [*columns, features[other][1 - i]], [*counted, valid]
    product = lambda x, v: known_columns(own[i] @ jax.lax.stop_gradient(x).T / temperature, v)  # noqa: E731, B023
    logits = jnp.concatenate([product(x, v) for x, v in zip(columns, counted, strict=True)], axis=1)
    total = total + mean_rows(cross_entropy(logits, jnp.arange(own[i].shape[0])), valid=valid)
  return total / 2


def _stacked(others: Mapping[str, Pair], names: Sequence[str], index: int) -> Array:
  return jnp.concatenate([others[name][index] for name in names])
