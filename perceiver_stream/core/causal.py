"""The last few ticks beside the newest, and none from before the recording."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn import where_rows


def causal_taps(
  x: Float[Array, "T B *n"], past: Float[Array, "B K *n"], is_first: Bool[Array, "T B"]
) -> Float[Array, "T B k *n"]:
  """Returns for every tick the K ticks before it and itself, the oldest first.

  Ticks from before the recording are zeros, so `taps[-1, :, 1:]` is the past of what follows.

  Args:
    x: Of T ticks.
    past: Of the K ticks before them.
    is_first: Where a recording starts.
  """
  ticks, width = x.shape[0], past.shape[1]
  line = jnp.concatenate([jnp.moveaxis(past, 1, 0), x])  # [K + T, B, *n]
  recording = jnp.cumsum(is_first, axis=0, dtype=jnp.int32)
  recording = jnp.pad(recording, ((width, 0), (0, 0)))
  taps = []
  for k in range(width + 1):
    same = recording[k : k + ticks] == recording[width:]
    taps.append(where_rows(~same, 0.0, line[k : k + ticks]))
  return jnp.stack(taps, axis=2)
