"""Layers over time on whole clips and frame by frame: one network serves both.

A network of clips calls its layers with a `Timeline`. On a whole clip the timeline pads; on a stream,
where every array has one time step, it supplies the earlier inputs of each layer from a memory of
fixed size. Both give the same numbers, because the memory starts with zeros, which are also the
padding. Layers with a stride over time have a new output only at some ticks (`every`); layers after
them are computed only then (`compute`), and their memories change only then.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Shaped

Flag = bool | Bool[Array, ""]


@dataclass
class Memory:
  """The memories of a network's layers during one step, by name; absent ones are zeros.

  Attributes:
    before: Memories before the step.
    after: Memories after the step, filled in by the layers.
  """

  before: Mapping[str, Array]
  after: dict[str, Array] = field(default_factory=dict)

  def update(self, name: str, old: Array, new: Array, is_new: Flag) -> None:
    """Stores `new` if the layer's input is new, else `old`.

    Raises:
      ValueError: Another layer has the same name.
    """
    if name in self.after:
      raise ValueError(f"Memory: two layers are called '{name}'; give each its own name.")
    self.after[name] = new if is_new is True else jnp.where(is_new, new, old)


@dataclass(frozen=True)
class Timeline:
  """Position of a layer's inputs in time.

  Attributes:
    causal: If True, layers read the past only; always True on a stream.
    memory: Memory of the step; None on a whole clip.
    is_new: On a stream, whether the layer's input differs from that of the previous tick, a scalar;
      True on a whole clip.
  """

  causal: bool = False
  memory: Memory | None = None
  is_new: Flag = True

  def window(self, name: str, x: Shaped[Array, "B T ..."], size: int) -> Shaped[Array, "B U ..."]:
    """Returns `x` after its `size - 1` predecessors in time, which are zeros before the start.

    Args:
      name: Name of the layer's memory, unique in the network.
      x: Inputs of a whole clip, or of one tick (T = 1).
      size: Inputs that one output depends on.
    """
    if size == 1:
      return x
    past = jnp.zeros((x.shape[0], size - 1, *x.shape[2:]), x.dtype)
    if self.memory is None:
      return jnp.concatenate([past, x], axis=1)
    past = self.memory.before.get(name, past)
    joined = jnp.concatenate([past, x], axis=1)
    self.memory.update(name, past, joined[:, x.shape[1] :], self.is_new)
    return joined

  def count(self, name: str) -> Shaped[Array, ""]:
    """Returns the number of earlier inputs of a layer on a stream, int32."""
    assert self.memory is not None, "Timeline.count: a whole clip has no count; use arange."
    old = self.memory.before.get(name, jnp.zeros((), jnp.int32))
    self.memory.update(name, old, old + 1, self.is_new)
    return old

  def every(self, name: str, stride: int, offset: int = 0) -> "Timeline":
    """Returns the timeline of every `stride`-th input, those with index ≡ `offset`."""
    if stride == 1 or self.memory is None:
      return self
    fires = self.count(f"{name}/count") % stride == offset
    return replace(self, is_new=fires if self.is_new is True else fires & self.is_new)

  def compute(self, layer: Callable[[Array], Array], x: Array) -> Array:
    """Returns `layer(x)`; on a stream zeros, and no computation, if `x` is not new."""
    if self.is_new is True:
      return layer(x)
    shape = jax.eval_shape(layer, x)
    return jax.lax.cond(self.is_new, layer, lambda x: jnp.zeros(shape.shape, shape.dtype), x)

  def hold(self, name: str, x: Array) -> Array:
    """Returns `x` if it is new, else the newest value before it; zeros before the first."""
    if self.memory is None or self.is_new is True:
      return x
    held = jnp.where(self.is_new, x, self.memory.before.get(name, jnp.zeros_like(x)))
    self.memory.update(name, held, held, True)
    return held
