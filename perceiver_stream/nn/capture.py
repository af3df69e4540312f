"""Capture of attention weights, without changes to the modules that compute them.

  with capture_attention() as found:
    y = block(x, tokens)
  found["…/cross_attention"]  # [B, Q, N]

Outside of such a block nothing is computed and no program changes. Captured arrays belong to the
trace in which the block is open. For a scan, map, remat or gradient, open the block inside its body
and return the arrays from there: tracers captured inside cannot be used outside.
"""

import contextlib
import contextvars
import re
from collections.abc import Callable, Iterator, Mapping

from jaxtyping import Array, Float

_found: contextvars.ContextVar[dict[str, Array] | None] = contextvars.ContextVar(
  "captured attention", default=None
)


@contextlib.contextmanager
def capture_attention() -> Iterator[dict[str, Array]]:
  """Collects the weights of every `Attention` called inside, by module name.

  They are `[B, Q, N]` float32, the mean over heads of the weight of key n for query q. They sum to
  1 over the keys, or to 0 for a query whose keys are all masked.
  """
  found: dict[str, Array] = {}
  token = _found.set(found)
  try:
    yield found
  finally:
    _found.reset(token)


def record(name: str, weights: Callable[[], Array]) -> None:
  """Stores the weights of one attention in the open `capture_attention`; called by `Attention`."""
  found = _found.get()
  if found is not None:
    found[name] = weights()


def mean_weights(found: Mapping[str, Array], pattern: str) -> Float[Array, "B Q N"]:
  """Returns the mean over the layers whose module names match a regular expression.

  Raises:
    ValueError: No name matches.
  """
  layers = [weights for name, weights in found.items() if re.search(pattern, name)]
  if not layers:
    raise ValueError(
      f"capture_attention: no attention matches '{pattern}'; there are {sorted(found)}."
    )
  return sum(layers[1:], layers[0]) / len(layers)
