"""Concatenation of the last few ticks with the newest, never across the start of a recording."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from perceiver_stream.nn import where_rows


def causal_taps(
  x: Float[Array, "T B *n"], past: Float[Array, "B K *n"], is_first: Bool[Array, "T B"]
) -> Float[Array, "T B k *n"]:
  """Returns the K previous ticks and the tick itself for every tick, the oldest first.

  Ticks before the start of the recording are zeros. `taps[-1, :, 1:]` is `past` for the next call.

  Args:
    x: Values of T ticks.
    past: Values of the K ticks before them.
    is_first: True at the first tick of a recording.
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
