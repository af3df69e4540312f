"""Observations that are not finite: they count as not valid, and are counted."""

from collections import Counter
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Shaped

from perceiver_stream.modalities.base import Modality
from perceiver_stream.types import valid_key
from perceiver_stream.utils.warn import warn


class NonFiniteWarning(UserWarning):
  """A stream gave NaN or infinity where a modality needs numbers."""


class NonFinite:
  """Makes observations that are not finite not valid, on the host, and counts them.

  Attributes:
    counts: Valid observations found so far that were not finite, by modality; one is one tick of
      one row.
  """

  def __init__(self, modalities: Mapping[str, Modality], counts: Mapping[str, int] | None = None):
    """Restores the counts of an earlier session, if any."""
    self._modalities = dict(modalities)
    self._has_warned = False
    self.counts = Counter(counts or {})

  def __call__(
    self, observations: Mapping[str, np.ndarray], new: int | None = None
  ) -> dict[str, np.ndarray]:
    """Returns the observations, those that are not finite as zeros that are not valid.

    A value counts as its modality computes with it: what depth and flow take for "not known" stays.

    Args:
      observations: Arrays `[T, B, ...]` by name, with or without `<name>_valid` `[T, B]` bool; or
        those of one tick, `[B, ...]`.
      new: How many of the last ticks have not been counted before; None is all.
    """
    result = dict(observations)
    for name, modality in self._modalities.items():
      value = result.get(name)
      if value is None or not np.issubdtype(value.dtype, np.floating) or np.isfinite(value).all():
        continue
      usable = _usable(modality, value)
      if usable.all():
        continue
      valid = np.asarray(result.get(valid_key(name), np.ones(usable.shape)), bool)
      where = usable.reshape(*usable.shape, *[1] * (value.ndim - usable.ndim))
      result[name] = np.where(where, value, 0).astype(value.dtype)
      result[valid_key(name)] = valid & usable
      first = 0 if new is None else len(value) - new
      self._count(name, int((valid & ~usable)[max(0, first) :].sum()))
    return result

  def _count(self, name: str, found: int) -> None:
    if not found:
      return
    self.counts[name] += found
    if not self._has_warned:
      self._has_warned = True
      warn(
        f"an observation of '{name}' is not finite (NaN or infinity): it counts as not valid, as do "
        f"all others like it, which are counted. Mend the stream if there should be none.",
        NonFiniteWarning,
      )


def _usable(modality: Modality, value: Shaped[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
  """Returns which observations are finite as the modality computes with them."""
  computed = np.asarray(modality.preprocess(jnp.asarray(value)))
  return np.all(np.isfinite(computed), axis=tuple(range(-len(modality.spec.shape), 0)))
