"""What a modality is: the only place in the house that knows one.

A model holds one `Modality` per name and calls, in this order,

  canonical → remember → enrich → tokens          on the way in,
  query_grid → local → head → assemble            on the way out (`head_without_input` where
  `use_input`
                                                  is off),
  target, copy, loss, metric, picture             to learn and to judge.

`Modality` carries the defaults; a file of this room overrides what is special. Only `tokens`,
`query_features` and `head` have parameters and must be called inside a Haiku transform.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from perceiver_stream.modalities.memory import Memory, initial_memory, remember
from perceiver_stream.nn import FramePair, Linear, Precision, coordinates, fourier_linear
from perceiver_stream.types import Bands, ModalitySpec, NonNegative, Positive


@dataclass(kw_only=True)
class ModalityConfig:
  """Fields every modality has.

  Attributes:
    use_input: Whether the model reads it. If not, it is predicted from the other modalities alone:
      its memory serves the copying baseline and is hidden from the network.
    use_output: Whether the model predicts it.
    loss_weight: Weight of its prediction loss.
    num_bands: Fourier bands per axis of its positions.
    slow_ticks: Time constant of the slow average in the memory, ticks.
  """

  use_input: bool = True
  use_output: bool = True
  loss_weight: NonNegative = 1.0
  num_bands: Bands = 8
  slow_ticks: Positive = 16.0

  @property
  def spec(self) -> ModalitySpec:
    """What a stream must deliver."""
    raise TypeError(f"{type(self).__name__} has no spec; every modality's Config defines one.")

  def fitted(self, spec: ModalitySpec) -> "ModalityConfig":
    """Returns this config with the sizes of what a stream delivers."""
    raise TypeError(f"{type(self).__name__} cannot be fitted to {spec}; define `fitted`.")

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.slow_ticks < 1:
      raise ValueError(
        f"{type(self).__name__}: slow_ticks={self.slow_ticks} is below one tick; use 1 or more."
      )


class Queries(NamedTuple):
  """What to ask the latents about one modality.

  Attributes:
    positions: Centres of the cells asked for, `[Q, d]` in [-1, 1].
    displacement: Ticks from the newest observation to the moment asked for, `[Q]` float32;
      0 is reconstruction.
  """

  positions: Float[Array, "Q d"]
  displacement: Float[Array, " Q"]


# Methods that earlier versions called otherwise.
RENAMED = {
  "canonical": "preprocess",
  "enrich": "derive",
  "fake": "random_observation",
  "head_unseen": "head_without_input",
  "local": "query_features",
  "natural": "postprocess",
}


class Modality:
  """One kind of observation under one name; see the module's docstring."""

  metric_name = "mse"
  config: Any

  def __init_subclass__(cls) -> None:
    """Raises TypeError where a modality defines a method under the name of an earlier version."""
    for old in sorted(RENAMED.keys() & vars(cls).keys()):
      raise TypeError(f"{cls.__name__}.{old} is now called {RENAMED[old]}; rename the method.")

  def __init__(self, name: str, config: Any):
    config.validate()
    self.name = name
    self.config = config
    self.spec: ModalitySpec = config.spec

  # --- the way in -------------------------------------------------------------------------------

  def preprocess(self, raw: Num[Array, "..."]) -> Num[Array, "..."]:
    """Returns the observation as the model computes with it; default float32, unchanged."""
    return jnp.asarray(raw, jnp.float32)

  def initial_memory(self, batch_size: int) -> Memory:
    """Returns a memory that has seen nothing."""
    last = self.preprocess(jnp.zeros((batch_size, *self.spec.shape), self.spec.dtype))
    return initial_memory(last, self.copy(last))

  def remember(
    self,
    memory: Memory,
    value: Num[Array, "B ..."],
    valid: Bool[Array, " B"],
    is_first: Bool[Array, " B"],
  ) -> Memory:
    """Returns the memory after one tick; `value` is canonical."""
    return remember(memory, value, self.copy(value), valid, is_first, self.config.slow_ticks)

  def is_cut(self, memory: Memory, value: Num[Array, "B ..."]) -> Bool[Array, " B"]:
    """Returns the rows in which `value`, canonical, starts another shot; none by default."""
    return jnp.zeros(value.shape[0], bool)

  def derive(self, memory: Memory) -> Any:
    """Returns what can be computed from the memory without parameters, or nothing."""
    del memory
    return ()

  def frame_pair(self, memory: Memory, extra: Any, valid: Bool[Array, " B"]) -> FramePair | None:
    """Returns the last two images and the motion between them, for cores that follow it; or None."""
    del memory, extra, valid
    return None

  def tokens(
    self, memory: Memory, derived: Any, dim: int, precision: Precision
  ) -> Float[Array, "B N C"]:
    """Returns `dim`-wide tokens of the newest observation, positions included."""
    cells = precision.cast(self._cells(memory, derived))  # [B, N, F]
    return self._embed(cells, self.query_grid(), dim, "tokens")

  # --- the way out ------------------------------------------------------------------------------

  def grid_shape(self) -> tuple[int, ...]:
    """Shape of the grid of cells: one token and one query each."""
    return (1,)

  def query_grid(self) -> np.ndarray:
    """Returns the centres of all cells, row-major, `[Q, d]` float64 in [-1, 1]."""
    return coordinates(self.grid_shape())

  def query_features(
    self,
    memory: Memory,
    derived: Any,
    positions: Float[Array, "Q d"],
    dim: int,
    precision: Precision,
    for_modality: str = "",
  ) -> Float[Array, "B Q E"]:
    """Returns `dim` features of what was last seen at each queried place.

    Args:
      memory: Of this modality.
      extra: From `derive`.
      positions: Asked for, on axes that this modality's grid has too.
      dim: Features returned.
      precision: Dtype of the computation.
      asker: Name of the modality that is asked about, where it is another one.
    """
    cells = precision.cast(self._cells(memory, derived))
    picked = jnp.take(cells, cell_index(positions, self.grid_shape()), axis=1)
    return Linear(
      dim, name=f"{for_modality}_at_{self.name}" if for_modality else f"{self.name}_local"
    )(picked)

  def head(
    self,
    decoded: Float[Array, "B Q E"],
    memory: Memory,
    derived: Any,
    queries: Queries,
  ) -> dict[str, Float[Array, "B Q ..."]]:
    """Returns the prediction for each queried cell: copying, until something better is learnt.

    A modality may return more than its prediction, under names that start with its own
    (`pixels_flow`); all are cells that `assemble` puts together.
    """
    del derived
    cell = cell_index(queries.positions, self.grid_shape())
    last = jnp.take(self.split(self.copy(memory.last)), cell, axis=1)
    slow = jnp.take(self.split(memory.slow), cell, axis=1)
    size = int(np.prod(last.shape[2:]))
    residual = Linear(size, w_init=hk.initializers.Constant(0.0), name=f"{self.name}_residual")
    gate = Linear(size, w_init=hk.initializers.Constant(0.0), name=f"{self.name}_gate")
    direct = slow + residual(decoded).astype(jnp.float32).reshape(last.shape)
    gate = gate(decoded).astype(jnp.float32).reshape(last.shape)
    return {self.name: blend(last, direct, gate)}

  def head_without_input(
    self, decoded: Float[Array, "B Q E"]
  ) -> dict[str, Float[Array, "B Q ..."]]:
    """Returns the prediction for each queried cell of a modality that the model does not read."""
    prior = self.split(self.prior(1))[:, :1]  # the same in every cell
    size = int(np.prod(prior.shape[2:]))
    residual = Linear(size, w_init=hk.initializers.Constant(0.0), name=f"{self.name}_residual")
    residual = residual(decoded).astype(jnp.float32).reshape(*decoded.shape[:2], *prior.shape[2:])
    return {self.name: jnp.broadcast_to(prior, residual.shape) + residual}

  def prior(self, batch_size: int) -> Float[Array, "B ..."]:
    """Returns the prediction of one who has seen nothing: the middle of the range, by default."""
    middle = (self.spec.minimum + self.spec.maximum) / 2
    raw = jnp.full((batch_size, *self.spec.shape), middle, self.spec.dtype)
    return self.copy(self.preprocess(raw))

  def split(self, prediction: Float[Array, "B ..."]) -> Float[Array, "B Q ..."]:
    """Returns a whole prediction cut into its cells."""
    return prediction[:, None]

  def assemble(self, cells: Float[Array, "B Q ..."]) -> Float[Array, "B ..."]:
    """Returns the whole prediction from all its cells; the inverse of `split`."""
    return cells[:, 0]

  # --- learning and judging ---------------------------------------------------------------------

  def target(self, value: Num[Array, "..."]) -> Num[Array, "..."]:
    """Returns what a prediction is compared with."""
    return value

  def copy(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
    """Returns the prediction that copying this observation amounts to."""
    return value

  def newest(self, memory: Memory, displacement: int) -> Num[Array, "B ..."]:
    """Returns the observation that is copied to foretell `displacement` ticks: the last."""
    del displacement
    return memory.last

  def postprocess(self, prediction: np.ndarray) -> np.ndarray:
    """Returns a prediction, or several, in the units that the stream has; by default, as it is."""
    return prediction

  def loss(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the training loss per element of the batch, `[N]`."""
    return mean_over_element(jnp.square(prediction - target))

  def metric(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the reported error per element of the batch, `[N]`, named `metric_name`."""
    return self.loss(prediction, target)

  def picture(self, prediction: np.ndarray) -> np.ndarray:
    """Returns an RGB picture, uint8 `[h, w, 3]`, of one prediction or target."""
    low, high = self.spec.minimum, self.spec.maximum
    if high <= low:
      low, high = float(np.min(prediction)), float(np.max(prediction)) + 1e-6
    grey = np.clip((np.atleast_2d(prediction) - low) / (high - low), 0, 1)
    return np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=-1)

  def random_observation(self, rng: np.random.Generator, batch: tuple[int, ...]) -> np.ndarray:
    """Returns random observations as a stream would deliver them, `[*batch, *spec.shape]`."""
    shape = (*batch, *self.spec.shape)
    low, high = self.spec.minimum, self.spec.maximum
    if np.issubdtype(np.dtype(self.spec.dtype), np.integer):
      return rng.integers(int(low), int(high) + 1, shape).astype(self.spec.dtype)
    low, high = (low, high) if high > low else (-1.0, 1.0)
    return rng.uniform(low, high, shape).astype(self.spec.dtype)

  # --- parts --------------------------------------------------------------------------------------

  def _cells(self, memory: Memory, derived: Any) -> Float[Array, "B N F"]:
    """Returns the raw channels of every cell; default newest and change, in prediction space."""
    del derived
    last, previous = self.copy(memory.last), self.copy(memory.previous)
    cells = [self.split(x) for x in (last, last - previous, memory.slow - last)]
    return jnp.concatenate([c.reshape(*c.shape[:2], -1) for c in cells], axis=-1)

  def _embed(self, cells: Array, positions: np.ndarray, dim: int, name: str) -> Array:
    shape = self.grid_shape()
    table = fourier_linear(positions, self.config.num_bands, [max(n, 2) for n in shape])
    table = jnp.asarray(table, cells.dtype)
    table = jax.lax.broadcast_in_dim(table, (cells.shape[0], *table.shape), (1, 2))
    return Linear(dim, name=f"{self.name}_{name}")(jnp.concatenate([cells, table], axis=-1))


def blend(last: Array, direct: Array, gate: Array) -> Array:
  """Returns `last` moved towards `direct` by tanh(gate); a gate of zero is exactly `last`."""
  return last + jnp.tanh(gate) * (direct - last)


def mean_over_element(x: Float[Array, "N ..."]) -> Float[Array, " N"]:
  """Returns the mean over all axes but the first."""
  return jnp.mean(x.reshape(x.shape[0], -1), axis=1)


def cell_index(positions: Float[Array, "Q d"], shape: tuple[int, ...]) -> Array:
  """Returns the flat row-major index of the cell that holds each position, `[Q]` int32."""
  flat = jnp.zeros(positions.shape[0], jnp.int32)
  for axis, size in enumerate(shape):
    cell = jnp.floor((positions[:, axis] + 1) * (size / 2))
    flat = flat * size + jnp.clip(cell.astype(jnp.int32), 0, size - 1)
  return flat
