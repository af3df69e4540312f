"""SAVi as pure functions with the streaming contract: any split of a video gives the same slots."""

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from perceiver_stream.models.savi.network import Config, Decoded, Savi, Unrolled


class SlotModel(NamedTuple):
  """SAVi as pure, jitted functions.

  Attributes:
    init: `rng -> params`.
    initial_state: `(params, batch_size, boxes=None) -> slots [B, S, D]`; boxes `[B, S - 1, 4]`, (y0,
      x0, y1, x1) in [0, 1], for a conditional model. ValueError if they are missing or not wanted.
    step: `(params, slots, frames) -> (Unrolled, Decoded, slots)`; frames `[B, H, W, 3]`.
    unroll: As `step` for T ticks, `[T, B, ...]`.
    decode: `(params, slots) -> Decoded`, of any slots.
    config: Config from which it was built.
  """

  init: Callable[..., hk.MutableParams]
  initial_state: Callable[..., Array]
  step: Callable[..., tuple[Unrolled, Decoded, Array]]
  unroll: Callable[..., tuple[Unrolled, Decoded, Array]]
  decode: Callable[..., Decoded]
  config: Config


def build(config: Config) -> SlotModel:
  """Returns the model that `config` describes; raises ValueError if it contradicts itself."""
  config.validate()

  def functions() -> tuple[Callable, tuple[Callable, ...]]:
    net = Savi(config)

    def first(batch_size: int, boxes: Array | None) -> Array:
      if boxes is None:
        return net.core.initial_state(batch_size).predicted
      return net.cued(boxes)

    def unroll(slots: Array, frames: Array) -> tuple[Unrolled, Decoded, Array]:
      found = net(frames, slots)
      return found, net.decode(found.states.corrected), found.states.predicted[-1]

    def init() -> None:
      boxes = jnp.zeros((1, config.slots.num_slots - 1, 4)) if config.conditional else None
      unroll(first(1, boxes), jnp.zeros((1, 1, config.height, config.width, 3)))

    return init, (first, unroll, net.decode)

  init, apply = hk.multi_transform(functions)
  first, unroll, decode = (
    jax.jit(lambda params, *args, f=f: f(params, None, *args), static_argnums=static)
    for f, static in zip(apply, ((1,), (), ()), strict=True)
  )

  def initial_state(params: PyTree, batch_size: int, boxes: Array | None = None) -> Array:
    if (boxes is None) == config.conditional:
      wanted = "boxes [B, S - 1, 4]" if config.conditional else "no boxes"
      raise ValueError(
        f"savi: conditional={config.conditional} needs {wanted}, got {boxes is None=}."
      )
    return first(params, batch_size, boxes)

  def step(params: PyTree, slots: Array, frames: Array) -> Any:
    found, decoded, after = unroll(params, slots, frames[None])
    return *jax.tree.map(lambda x: x[0], (found, decoded)), after

  return SlotModel(lambda rng: init(rng), initial_state, step, unroll, decode, config)
