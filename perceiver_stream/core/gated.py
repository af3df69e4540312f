"""The gated recurrence of RVM: a transformer proposes a state, gates mix it with the last one."""

from collections.abc import Callable
from dataclasses import dataclass

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_stream.core.base import Core, CoreConfig, CoreInputs
from perceiver_stream.nn import (
  CrossBlock,
  LayerNorm,
  LearnedPositions,
  Linear,
  Precision,
  SelfBlock,
  shard_axis,
  where_rows,
)
from perceiver_stream.types import Layers


@dataclass(kw_only=True)
class GatedConfig(CoreConfig):
  """Sizes of a `Gated` core.

  Attributes:
    num_layers: Depth of the proposing transformer; a layer is cross-attention, then self.
  """

  num_layers: Layers = 2


class Gated(Core):
  """s ← (1 - u) s + u h, with h a transformer of the input vectors and of r ⊙ norm(s).

  u and r are gates, see `gate`; the state starts at zero. The submodules own the parameters,
  so parameter names are those of the module that creates them.

  Source: Recurrent Video Masked Autoencoders 2025, 2512.13684; representations4d, RVM notebooks.

  Args:
    shape: Number and width of the latents, (L, D).
    update: Computes u from the input vectors and the state.
    reset: Computes r from the same.
    norm: Normalises the state before it is used.
    propose: Computes h from the input vectors and the gated state r ⊙ norm(s).
    read: Maps the inputs of a tick to one vector per latent; None: these are the tokens.
    precision: Dtype of the computation.
    name: Haiku name.
  """

  def __init__(
    self,
    shape: tuple[int, int],
    *,
    update: Callable[[Array, Array], Array],
    reset: Callable[[Array, Array], Array],
    norm: Callable[[Array], Array],
    propose: Callable[[Array, Array], Array],
    read: Callable[[CoreInputs], Array] | None = None,
    precision: Precision | None = None,
    name: str,
  ):
    super().__init__(name=name)
    self.shape = shape
    self.update = update
    self.reset = reset
    self.norm = norm
    self.propose = propose
    self.read = read
    self.precision = precision or Precision()

  def initial_state(self, batch_size: int) -> Float[Array, "B L D"]:
    """Returns zeros."""
    return jnp.zeros((batch_size, *self.shape), jnp.float32)

  def __call__(
    self, inputs: CoreInputs, prev_state: Float[Array, "B L D"]
  ) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
    """Returns the next state twice: as output and as state."""
    s = prev_state if inputs.is_first is None else where_rows(inputs.is_first, 0.0, prev_state)
    e = shard_axis(self.read(inputs) if self.read else inputs.tokens)
    state = shard_axis(self.precision.cast(s))
    update, reset = self.update(e, state), self.reset(e, state)
    proposed = self.propose(e, reset * self.norm(state)).astype(jnp.float32)
    update = update.astype(jnp.float32)
    next_state = shard_axis((1 - update) * s + update * proposed)
    if inputs.valid is not None:
      next_state = where_rows(inputs.valid, next_state, s)
    return next_state, next_state


def gate(kind: str, dim: int) -> Callable[[Array, Array], Array]:
  """Returns the function σ(W e + V s) without biases; its two maps are named after `kind`."""
  of_input = Linear(dim, use_bias=False, name=f"{kind}_input")
  of_state = Linear(dim, use_bias=False, name=f"{kind}_state")
  return lambda e, state: jax.nn.sigmoid(of_input(e) + of_state(state))


def gated(config: GatedConfig, precision: Precision, *, name: str) -> Gated:
  """Returns a core in which L learned queries attend to the tokens of all modalities."""
  c = config
  c.validate()
  mlp_dim = c.mlp_factor * c.latent_dim
  with hk.name_scope(name):
    queries = LearnedPositions(c.num_latents, c.latent_dim, name="queries")
    cross = lambda name: CrossBlock(  # noqa: E731
      c.num_heads, qk_dim=c.latent_dim, mlp_dim=mlp_dim, name=name
    )
    reader = cross("read")
    gates = {kind: gate(kind, c.latent_dim) for kind in ("update", "reset")}
    norm = LayerNorm(use_offset=False, eps=1e-4, name="state_norm")
    layers = [
      (cross(f"cross_{i}"), SelfBlock(c.num_heads, mlp_dim=mlp_dim, name=f"self_{i}"))
      for i in range(c.num_layers)
    ]
    output_norm = LayerNorm(name="output_norm")

  def read(inputs: CoreInputs) -> Array:
    e = precision.cast(queries(inputs.tokens.shape[0]))
    return reader(e, inputs.tokens, inputs.visible)

  def propose(h: Array, memory: Array) -> Array:
    for cross, within in layers:
      h = within(cross(h, memory))
    return output_norm(h)

  return Gated(
    (c.num_latents, c.latent_dim),
    **gates,
    norm=norm,
    propose=propose,
    read=read,
    precision=precision,
    name=f"{name}_recurrence",
  )
