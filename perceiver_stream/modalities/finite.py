"""Handling of non-finite observations: they are marked as invalid and counted."""

from collections import Counter
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Shaped

from perceiver_stream.modalities.base import Modality
from perceiver_stream.types import valid_key
from perceiver_stream.utils.warn import warn


class NonFiniteWarning(UserWarning):
  """Warning about NaN or infinity in an observation."""


class NonFinite:
  """Marks non-finite observations as invalid, on the host, and counts them.

  Attributes:
    counts: Number of valid but non-finite observations so far, by modality; one is one tick of one
      row.
  """

  def __init__(self, modalities: Mapping[str, Modality], counts: Mapping[str, int] | None = None):
    """Restores the counts of an earlier session, if any."""
    self._modalities = dict(modalities)
    self._has_warned = False
    self.counts = Counter(counts or {})

  def __call__(
    self, observations: Mapping[str, np.ndarray], new: int | None = None
  ) -> dict[str, np.ndarray]:
    """Returns the observations, with non-finite ones replaced by invalid zeros.

    Values are checked after `Modality.preprocess`: values that depth and flow use for "unknown" are
    kept.

    Args:
      observations: Arrays `[T, B, ...]` by name, with or without `<name>_valid` `[T, B]` bool; or
        those of one tick, `[B, ...]`.
      new: Number of the last ticks that have not been counted before; None: all.
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
        f"an observation of '{name}' is not finite (NaN or infinity): it counts as invalid, as do "
        f"all later ones, which are counted. Fix the stream if there should be none.",
        NonFiniteWarning,
      )


def _usable(modality: Modality, value: Shaped[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
  """Returns True for observations that are finite after the modality's `preprocess`."""
  computed = np.asarray(modality.preprocess(jnp.asarray(value)))
  return np.all(np.isfinite(computed), axis=tuple(range(-len(modality.spec.shape), 0)))
