"""Base class of modalities; all code that is specific to a modality is in this package.

A model has one `Modality` per name and calls, in this order,

  preprocess → remember → derive → tokens          to encode,
  query_grid → query_features → head → assemble    to decode (`head_without_input` if not read),
  target, copy, loss, metric, picture              to train and evaluate.

`Modality` has defaults in four roles, `Space`, `Tokenizer`, `Decoder` and `Criterion`; each file of this
package overrides some of them. Only `tokens`, `query_features` and the heads have parameters and must
be called inside a Haiku transform.
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
  """Fields common to all modalities.

  Attributes:
    use_input: If True, the model reads it. If False, it is predicted from the other modalities
      only; its memory is used for the copying baseline and not by the network.
    use_output: If True, the model predicts it.
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
    """Shape, dtype and rate that a stream must deliver."""
    raise TypeError(f"{type(self).__name__} has no spec; every modality's Config defines one.")

  def fitted(self, spec: ModalitySpec) -> "ModalityConfig":
    """Returns this config with the sizes of a stream's observations."""
    raise TypeError(f"{type(self).__name__} cannot be fitted to {spec}; define `fitted`.")

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.slow_ticks < 1:
      raise ValueError(
        f"{type(self).__name__}: slow_ticks={self.slow_ticks} is below one tick; use 1 or more."
      )


class Queries(NamedTuple):
  """Queries for cells of one modality.

  Attributes:
    positions: Centres of the queried cells, `[Q, d]` in [-1, 1].
    displacement: Ticks from the newest observation to the queried time, `[Q]` float32; 0 is
      reconstruction.
  """

  positions: Float[Array, "Q d"]
  displacement: Float[Array, " Q"]


class Space:
  """Shapes: what an observation is to the model, what a prediction is, and its cells.

  A prediction is cut into the cells of a grid; a token and a query belong to each.
  """

  name: str
  config: Any
  spec: ModalitySpec

  def preprocess(self, raw: Num[Array, "..."]) -> Num[Array, "..."]:
    """Returns the observation in the model's representation; by default, as float32."""
    return jnp.asarray(raw, jnp.float32)

  def copy(self, value: Num[Array, "..."]) -> Float[Array, "..."]:
    """Returns this observation in the prediction space, as the copying baseline."""
    return value

  def grid_shape(self) -> tuple[int, ...]:
    """Shape of the grid of cells; each has one token and one query."""
    return (1,)

  def query_grid(self) -> np.ndarray:
    """Returns the centres of all cells, row-major, `[Q, d]` float64 in [-1, 1]."""
    return coordinates(self.grid_shape())

  def split(self, prediction: Float[Array, "B ..."]) -> Float[Array, "B Q ..."]:
    """Returns a whole prediction divided into its cells."""
    return prediction[:, None]

  def assemble(self, cells: Float[Array, "B Q ..."]) -> Float[Array, "B ..."]:
    """Returns the whole prediction from all its cells; the inverse of `split`."""
    return cells[:, 0]


class Tokenizer(Space):
  """Encoding: memory of the last observations, features derived from it, and tokens."""

  def initial_memory(self, batch_size: int) -> Memory:
    """Returns an empty memory."""
    last = self.preprocess(jnp.zeros((batch_size, *self.spec.shape), self.spec.dtype))
    return initial_memory(last, self.copy(last))

  def remember(
    self,
    memory: Memory,
    value: Num[Array, "B ..."],
    valid: Bool[Array, " B"],
    is_first: Bool[Array, " B"],
  ) -> Memory:
    """Returns the memory after one tick; `value` is preprocessed."""
    return remember(memory, value, self.copy(value), valid, is_first, self.config.slow_ticks)

  def is_cut(self, memory: Memory, value: Num[Array, "B ..."]) -> Bool[Array, " B"]:
    """Returns the rows in which the preprocessed `value` starts another shot; none by default."""
    return jnp.zeros(value.shape[0], bool)

  def derive(self, memory: Memory) -> Any:
    """Returns features of the memory that need no parameters; by default, none."""
    del memory
    return ()

  def frame_pair(self, memory: Memory, extra: Any, valid: Bool[Array, " B"]) -> FramePair | None:
    """Returns the last two images and the motion between them for cores that use it, or None."""
    del memory, extra, valid
    return None

  def tokens(
    self, memory: Memory, derived: Any, dim: int, precision: Precision
  ) -> Float[Array, "B N C"]:
    """Returns tokens of width `dim` of the newest observation, with positions."""
    cells = precision.cast(self._cells(memory, derived))  # [B, N, F]
    return self._embed(cells, self.query_grid(), dim, "tokens")

  def _cells(self, memory: Memory, derived: Any) -> Float[Array, "B N F"]:
    """Returns the input channels of every cell: newest value and change in prediction space."""
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


class Decoder(Tokenizer):
  """Decoding: query features, of the same cells as tokens, and heads from decoded queries."""

  def query_features(
    self,
    memory: Memory,
    derived: Any,
    positions: Float[Array, "Q d"],
    dim: int,
    precision: Precision,
    for_modality: str = "",
  ) -> Float[Array, "B Q E"]:
    """Returns `dim` features of the last observation at each queried position.

    Args:
      memory: Memory of this modality.
      derived: Output of `derive`.
      positions: Queried positions, on axes that this modality's grid has too.
      dim: Number of features.
      precision: Dtype of the computation.
      for_modality: Name of the queried modality, if it is another one.
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
    """Returns the prediction for each queried cell; with untrained parameters, a copy.

    A modality may return further outputs under names with its own as prefix (`pixels_flow`); all
    are cells that `assemble` combines.
    """
    del derived
    cell = cell_index(queries.positions, self.grid_shape())
    last = jnp.take(self.split(self.copy(memory.last)), cell, axis=1)
    return {self.name: self._changed(last, decoded, memory, cell)}

  def _changed(
    self, last: Float[Array, "B Q ..."], decoded: Array, memory: Memory, cell: Array
  ) -> Float[Array, "B Q ..."]:
    """Returns cells that are blended with decoded ones; `last` itself with untrained parameters."""
    slow = jnp.take(self.split(memory.slow), cell, axis=1)
    size = int(np.prod(last.shape[2:]))
    residual = Linear(size, w_init=hk.initializers.Constant(0.0), name=f"{self.name}_residual")
    gate = Linear(size, w_init=hk.initializers.Constant(0.0), name=f"{self.name}_gate")
    direct = slow + residual(decoded).astype(jnp.float32).reshape(last.shape)
    gate = gate(decoded).astype(jnp.float32).reshape(last.shape)
    return blend(last, direct, gate)

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
    """Returns the prediction without any observation; by default, the middle of the range."""
    middle = (self.spec.minimum + self.spec.maximum) / 2
    raw = jnp.full((batch_size, *self.spec.shape), middle, self.spec.dtype)
    return self.copy(self.preprocess(raw))


class Criterion(Space):
  """Training and evaluation: targets, loss and metric, and predictions as users see them."""

  metric_name = "mse"

  def target(self, value: Num[Array, "..."]) -> Num[Array, "..."]:
    """Returns the target that a prediction is compared with."""
    return value

  def newest(self, memory: Memory, displacement: int) -> Num[Array, "B ..."]:
    """Returns the observation that is copied as baseline of `displacement` ticks: the last."""
    del displacement
    return memory.last

  def loss(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the training loss per element of the batch, `[N]`."""
    return mean_over_element(jnp.square(prediction - target))

  def metric(self, prediction: Float[Array, "N ..."], target: Num[Array, "N ..."]) -> Array:
    """Returns the reported error per element of the batch, `[N]`, named `metric_name`."""
    return self.loss(prediction, target)

  def postprocess(self, prediction: np.ndarray) -> np.ndarray:
    """Returns one or more predictions in the units of the stream; by default, unchanged."""
    return prediction

  def picture(self, prediction: np.ndarray) -> np.ndarray:
    """Returns an RGB image, uint8 `[h, w, 3]`, of one prediction or target."""
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


# New names of methods, keyed by those of earlier versions.
RENAMED = {
  "canonical": "preprocess",
  "enrich": "derive",
  "fake": "random_observation",
  "head_unseen": "head_without_input",
  "local": "query_features",
  "natural": "postprocess",
}


class Modality(Decoder, Criterion):
  """One kind of observation under one name: all roles together; see the module's docstring."""

  def __init_subclass__(cls) -> None:
    """Raises TypeError if a modality defines a method under the name of an earlier version."""
    for old in sorted(RENAMED.keys() & vars(cls).keys()):
      raise TypeError(f"{cls.__name__}.{old} is now called {RENAMED[old]}; rename the method.")

  def __init__(self, name: str, config: Any):
    config.validate()
    self.name = name
    self.config = config
    self.spec: ModalitySpec = config.spec


def blend(last: Array, direct: Array, gate: Array) -> Array:
  """Returns `last` interpolated to `direct` by tanh(gate); a zero gate gives `last` exactly."""
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
