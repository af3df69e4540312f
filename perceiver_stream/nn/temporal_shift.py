"""Temporal shifts: a share of the channels comes from the next frame, another from the previous one.

`rotating_shift` is the one of DeepMind's TSM-ResNet (BraVe, MMV): the order of the channels changes.
`order_preserving_shift` is the one of the paper (1811.08383) and of its released code.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.nn.timeline import Timeline


def num_shifted(channels: int, share: float) -> int:
  """Returns the number of channels that move in each direction.

  Raises:
    ValueError: None would move, or more than there are; the released code loses all channels then.
  """
  num = int(channels * share)
  if not 0 < 2 * num <= channels:
    raise ValueError(
      f"temporal shift: {channels} channels with share={share} shift {num} each way; use a share that "
      f"moves at least one and at most half of the channels, or 0 where the shift is optional."
    )
  return num


def rotating_shift(
  x: Float[Array, "B T H W C"], share: float = 0.125, *, as_released_tpu: bool = False
) -> Float[Array, "B T H W C"]:
  """Returns [last n channels of t + 1, middle channels of t, first n channels of t - 1], zeros outside.

  Both groups exchange their places, so this is not the shift of the TSM paper, which keeps the order.

  Args:
    x: Features of clips.
    share: n as a share of C, rounded down.
    as_released_tpu: If True, values are rounded to bfloat16, as in the released program for TPUs.

  Raises:
    ValueError: No channel, or more than half of them, would move.

  Source: google-deepmind/brave, brave/models/brave/tsm_resnet.py.
  """
  num = num_shifted(x.shape[-1], share)
  y = x.astype(jnp.bfloat16).astype(x.dtype) if as_released_tpu else x
  edge = ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0))
  later = jnp.pad(y[..., -num:], edge)[:, 2:]
  earlier = jnp.pad(y[..., :num], edge)[:, :-2]
  return jnp.concatenate([later, y[..., num:-num], earlier], axis=-1)


def deflated_shift(
  x: Float[Array, "B H W C"], share: float = 0.125, alpha: float = 0.3
) -> Float[Array, "B H W C"]:
  """Returns the stand-in for `rotating_shift` on single images: both groups are scaled by `alpha`.

  On a static clip shifted groups equal the image's except at the clip's ends, where they are zero;
  `alpha` stands for their mean. The groups exchange their places too.

  Raises:
    ValueError: No channel, or more than half of them, would move.
  """
  num = num_shifted(x.shape[-1], share)
  return jnp.concatenate([alpha * x[..., -num:], x[..., num:-num], alpha * x[..., :num]], axis=-1)


def order_preserving_shift(
  x: Float[Array, "B T H W C"], timeline: Timeline, fold_div: int = 8, *, name: str
) -> Float[Array, "B T H W C"]:
  """Returns [first n channels of t + 1, next n of t - 1, the rest of t], zeros outside the clip.

  On a causal timeline, the online form of the paper: [first n channels of t - 1, the rest of t].

  Args:
    x: Features of clips, of a single tick on a stream.
    timeline: Timeline of the features.
    fold_div: n is C // fold_div.
    name: Name of the layer's memory on a stream.

  Raises:
    ValueError: No channel, or more than half of them, would move.

  Source: mit-han-lab/temporal-shift-module, ops/temporal_shift.py and online_demo.
  """
  num = x.shape[-1] // fold_div
  if not 0 < 2 * num <= x.shape[-1]:
    raise ValueError(
      f"temporal shift: {x.shape[-1]} channels with fold_div={fold_div} shift {num} each way; at "
      f"least one and at most half of the channels must move."
    )
  if timeline.causal:
    earlier = timeline.window(name, x[..., :num], 2)[:, :-1]
    return jnp.concatenate([earlier, x[..., num:]], axis=-1)
  edge = ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0))
  later = jnp.pad(x[..., :num], edge)[:, 2:]
  earlier = jnp.pad(x[..., num : 2 * num], edge)[:, :-2]
  return jnp.concatenate([later, earlier, x[..., 2 * num :]], axis=-1)


def max_over_segments(x: Float[Array, "B T H W C"]) -> Float[Array, "B t H W C"]:
  """Returns the maximum of three neighbouring times, every second time: t = ceil(T / 2) (TSM)."""
  edges = [(0, 0), (1, 1), (0, 0), (0, 0), (0, 0)]
  window, strides = (1, 3, 1, 1, 1), (1, 2, 1, 1, 1)
  return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, edges)
