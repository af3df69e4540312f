"""The contract of all models: pure functions over one parameter tree.

A model is implemented as a `Network` of ordinary Haiku modules; `as_model` converts it to a
`Model`. Users only need the functions of `Model`: no Haiku transform and no hidden state.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from perceiver_stream.modalities import Modality, Queries
from perceiver_stream.types import IS_FIRST, VALID_SUFFIX, Observation, valid_key
from perceiver_stream.utils.suggest import did_you_mean


class Outputs(NamedTuple):
  """Outputs of one tick; in `unroll` every array has a leading T.

  Attributes:
    predictions: By modality, `[B, num_displacements, ...]`, each in its modality's prediction
      space (pixels RGB in [0, 1]; audio log-mel; depth log metres; segmentation logits).
    latents: The latent array after the tick, `[B, L, D]`.
  """

  predictions: dict[str, Array]
  latents: Array


@runtime_checkable
class Network(Protocol):
  """Interface of networks that `as_model` converts. States are pytrees of fixed shapes."""

  def initial_state(self, batch_size: int) -> PyTree:
    """Returns the state before the first tick."""
    ...

  def observe(self, state: PyTree, observations: Observation) -> tuple[PyTree, PyTree]:
    """Returns the state after each of T ticks, `[T, B, ...]`, and after the last."""
    ...

  def latents(self, state: PyTree) -> Array:
    """Returns the latent array inside a state."""
    ...

  def decode(self, state: PyTree, queries: Mapping[str, Queries]) -> dict[str, Array]:
    """Returns the predictions for the queries, `[B, Q, ...]`."""
    ...

  def predict(self, state: PyTree, displacements: tuple[int, ...]) -> dict[str, Array]:
    """Returns whole predictions of every output modality, `[B, num_displacements, ...]`."""
    ...


class Model(NamedTuple):
  """A model as pure, jitted functions of (params, …). Batch rows are independent streams.

  Attributes:
    init: `(rng, observation) -> params`; observation arrays `[B, ...]`.
    initial_state: `(params, batch_size=1, rng=None) -> state`.
    step: `(params, state, observation) -> (Outputs, state)`; one tick, arrays `[B, ...]`.
    unroll: `(params, state, observations, displacements=None) -> (Outputs, state)`; arrays
      `[T, B, ...]`; `displacements=()` leaves predictions out. Each T is compiled once; use
      `unroll_any` for varying lengths.
    observe: `(params, state, observations) -> (states, state)`; the state after every tick.
    decode: `(params, state, queries) -> {modality: [B, Q, ...]}`; see `queries`.
    predict: `(params, state, displacements) -> {modality: [B, num_displacements, ...]}`.
    latents: `(params, state) -> [B, L, D]`; of the states of T ticks, `[T, B, L, D]`.
    modalities: Inputs and outputs by name, with losses, metrics and images.
    displacements: Displacements that `step` and `unroll` predict by default.
    config: Config from which it was built.
    network: Creates the `Network` inside a Haiku transform, for capabilities beyond this contract
      such as `evaluation.attention.attention_maps`.
  """

  init: Callable[..., hk.MutableParams]
  initial_state: Callable[..., PyTree]
  step: Callable[..., tuple[Outputs, PyTree]]
  unroll: Callable[..., tuple[Outputs, PyTree]]
  observe: Callable[..., tuple[PyTree, PyTree]]
  decode: Callable[..., dict[str, Array]]
  predict: Callable[..., dict[str, Array]]
  latents: Callable[..., Array]
  modalities: dict[str, Modality]
  displacements: tuple[int, ...]
  config: Any
  network: Callable[[], Network]

  def unroll_any(
    self,
    params: PyTree,
    state: PyTree,
    observations: Observation,
    displacements: Sequence[int] | None = None,
  ) -> tuple[Outputs, PyTree]:
    """Returns the result of `unroll`, compiled only for lengths that are powers of two.

    T ticks are split into pieces of 2^k ticks, longest first, so all lengths up to T need at most
    log2(T) + 1 programs.

    Args:
      params: Parameters of the model.
      state: State from `initial_state` or the last call.
      observations: Arrays `[T, B, ...]`, any T of at least 1.
      displacements: As in `unroll`.

    Raises:
      ValueError: There is no tick.
    """
    ahead = self.displacements if displacements is None else tuple(displacements)
    length = len(next(iter(observations.values())))
    if not length:
      raise ValueError("Model.unroll_any: observations have 0 ticks; give at least one.")
    pieces, start = [], 0
    while start < length:
      stop = start + 2 ** ((length - start).bit_length() - 1)
      stateless_layer = {name: value[start:stop] for name, value in observations.items()}
      outputs, state = self.unroll(params, state, stateless_layer, ahead)
      pieces.append(outputs)
      start = stop
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *pieces), state

  def queries(
    self,
    modality: str,
    displacement: float = 1.0,
    cells: Sequence[int] | np.ndarray | Array | None = None,
  ) -> dict[str, Queries]:
    """Returns queries for the whole grid of a modality, or for some of its cells.

    Args:
      modality: One of `modalities`.
      displacement: Ticks from the newest observation to the queried time.
      cells: Flat row-major indices of the requested cells; None: all cells.

    Raises:
      ValueError: The modality is not one of the model's.
    """
    if modality not in self.modalities:
      raise ValueError(
        f"Model.queries: modality '{modality}' is not one of {sorted(self.modalities)}."
      )
    grid = self.modalities[modality].query_grid()
    grid = grid if cells is None else grid[np.asarray(cells)]
    positions = jnp.asarray(grid, jnp.float32)
    return {modality: Queries(positions, jnp.full(len(grid), displacement, jnp.float32))}


class Functions(NamedTuple):
  """The functions of `Model` inside a Haiku transform, without parameters."""

  initial_state: Callable[..., PyTree]
  step: Callable[..., tuple[Outputs, PyTree]]
  unroll: Callable[..., tuple[Outputs, PyTree]]
  observe: Callable[..., tuple[PyTree, PyTree]]
  decode: Callable[..., dict[str, Array]]
  predict: Callable[..., dict[str, Array]]
  latents: Callable[..., Array]


def functions_of(network: Network, displacements: tuple[int, ...]) -> Functions:
  """Returns the functions of a network; `step` predicts the displacements."""

  def step(state: PyTree, observation: Observation) -> tuple[Outputs, PyTree]:
    once = jax.tree.map(lambda x: x[None], dict(observation))
    _, after = network.observe(state, once)
    return Outputs(network.predict(after, displacements), network.latents(after)), after

  def unroll(
    state: PyTree, observations: Observation, displacements: tuple[int, ...]
  ) -> tuple[Outputs, PyTree]:
    states, after = network.observe(state, observations)
    predictions = {}
    if displacements:
      predictions = hk.map(lambda s: network.predict(s, displacements), states)
    return Outputs(predictions, jax.vmap(network.latents)(states)), after

  return Functions(
    network.initial_state,
    step,
    unroll,
    network.observe,
    network.decode,
    network.predict,
    network.latents,
  )


def as_model(
  make_network: Callable[[], Network],
  modalities: dict[str, Modality],
  displacements: tuple[int, ...],
  config: Any,
) -> Model:
  """Returns the `Model` of a network.

  Args:
    make_network: Called inside a Haiku transform; must return the same modules every time.
    modalities: Inputs and outputs of the network by name.
    displacements: Ticks ahead that `step` and `unroll` predict.
    config: Stored for reference.
  """

  def transformed() -> tuple[Callable, Functions]:
    functions = functions_of(make_network(), displacements)

    def init(observation: Observation) -> None:
      rows = jax.tree.leaves(dict(observation))[0].shape[0]
      functions.step(functions.initial_state(rows), observation)

    return init, functions

  def jitted(f: Callable, *static: int) -> Callable:
    return jax.jit(lambda params, *args: f(params, None, *args), static_argnums=static)

  init, f = hk.multi_transform(transformed)
  init, initial_state = jax.jit(init), jax.jit(f.initial_state, static_argnums=2)
  step, observe, unroll, predict = (
    jitted(f.step),
    jitted(f.observe),
    jitted(f.unroll, 3),
    jitted(f.predict, 2),
  )
  check = ObservationCheck(modalities)
  return Model(
    init=lambda rng, observation: init(rng, check(observation, 1)),
    initial_state=lambda params, batch_size=1, rng=None: initial_state(params, rng, batch_size),
    step=lambda params, state, observation: step(params, state, check(observation, 1)),
    unroll=lambda params, state, observations, displacements=displacements: unroll(
      params, state, check(observations, 2), tuple(displacements)
    ),
    observe=lambda params, state, observations: observe(params, state, check(observations, 2)),
    decode=jitted(f.decode),
    predict=lambda params, state, displacements=displacements: predict(
      params, state, tuple(displacements)
    ),
    latents=jitted(f.latents),
    modalities=modalities,
    displacements=displacements,
    config=config,
    network=make_network,
  )


class ObservationCheck:
  """Selects the inputs of the model from an observation and checks their shapes."""

  def __init__(self, modalities: dict[str, Modality]):
    self.modalities = modalities

  def __call__(self, observation: Observation, leading: int) -> dict[str, Any]:
    """Returns the known arrays; names that are not modalities of the model are left out.

    Raises:
      ValueError: A shape does not match its modality, a name is misspelt, or no name is known.
    """
    known = {IS_FIRST} | set(self.modalities) | {valid_key(name) for name in self.modalities}
    for name in sorted(set(observation) - known):
      hint = did_you_mean(name, known, cutoff=0.8)
      if hint and not name.endswith(VALID_SUFFIX):
        raise ValueError(f"observation has '{name}', which is not an input of this model.{hint}")
    kept = {name: observation[name] for name in sorted(known & set(observation))}
    if not set(kept) & set(self.modalities):
      raise ValueError(
        f"observation has {sorted(observation)}, but the model reads {sorted(self.modalities)}; "
        f"give at least one of them."
      )
    batch = next(kept[name].shape[:leading] for name in self.modalities if name in kept)
    for name, value in kept.items():
      self._check_shape(name, tuple(value.shape), tuple(batch), leading)
    return kept

  def _check_shape(
    self, name: str, shape: tuple[int, ...], batch: tuple[int, ...], leading: int
  ) -> None:
    axes = "[B]" if leading == 1 else "[T, B]"
    inner = self.modalities[name].spec.shape if name in self.modalities else ()
    if len(shape) == leading - 1 + len(inner) and shape[leading - 1 :] == inner:
      raise ValueError(
        f"observation '{name}' has shape {list(shape)} without its batch axis; add the leading "
        f"axes {axes}, e.g. array[None]."
      )
    if shape != (*batch, *inner):
      raise ValueError(
        f"observation '{name}' has shape {list(shape)}, expected {[*batch, *inner]} "
        f"(leading axes {axes}); resize or pad it, or build the model for this size."
      )
