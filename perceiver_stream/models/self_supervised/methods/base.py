"""`Method`: the part that one method adds to the objective."""

import abc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.models.self_supervised.views import Moments

Views = dict[str, Array]
Outputs = Mapping[str, Array]


class Outcome(NamedTuple):
  """Results of a method's loss.

  Attributes:
    loss: Of the rows that count.
    uniform: Loss of a network that knows nothing: equal similarities, equal probabilities.
    shown: Embeddings whose collapse is watched, one a row.
    memory: For the next window.
  """

  loss: Float[Array, ""]
  uniform: Float[Array, ""]
  shown: Float[Array, "B D"]
  memory: PyTree = ()


class Method(abc.ABC):
  """A method: views of a moment, a network of towers and heads, and a loss with a memory.

  Attributes:
    name: Of the method; `--config=self_supervised:NAME`.
    config_type: Type of its config, a dataclass with `validate`; it chooses the method.
    needs: Names that the stream must have.
    optional: Names that some rows may lack; `Moments.has` tells which.
    stream: Fields of `streams.pulses.Config` for the miniature, where the defaults do not do.
    config: A `config_type`.
  """

  name: ClassVar[str]
  config_type: ClassVar[type]
  needs: ClassVar[tuple[str, ...]] = ("pixels",)
  optional: ClassVar[tuple[str, ...]] = ()
  stream: ClassVar[Mapping[str, Any]] = MappingProxyType({})

  def __init__(self, config: Any):
    """Checks the config; raises ValueError."""
    config.validate()
    self.config = config

  @classmethod
  def nano(cls) -> Any:
    """Returns the smallest config, for tests."""
    return cls.config_type()

  @property
  def momentum(self) -> float | None:
    """Momentum of a slow copy of the network, whose outputs `loss` receives; None: there is none."""
    return None

  @abc.abstractmethod
  def views(self, moments: Moments) -> Views:
    """Returns the views that the network reads."""

  @abc.abstractmethod
  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns the outputs of the network, inside a Haiku transform."""

  def slow_views(self, views: Views) -> Views:
    """Returns the views that the slow network reads, under the names that `embed` reads."""
    return views

  def first_memory(self, outputs: PyTree, rng: Array) -> PyTree:
    """Returns the memory before the first window.

    Args:
      outputs: As `embed` returns them: arrays, or their shapes.
      rng: Key.
    """
    del outputs, rng
    return ()

  @abc.abstractmethod
  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the loss of the rows that count, of which there are at least two, and the next memory.

    Args:
      outputs: Of the network.
      slow: Of its slow copy, without gradient; empty if there is none.
      memory: From the window before.
      valid: False for rows that do not count.
    """

  def clip_features(self, towers: Towers, clips: Float[Array, "B T H W 3"]) -> Float[Array, "B D"]:
    """Returns features of clips for downstream use, inside a Haiku transform."""
    return towers.video(clips).features


class ClipAndSound(Method):
  """A method that reads a clip and its sound, once each."""

  needs = ("pixels", "audio")

  def views(self, moments: Moments) -> Views:
    """Returns a clip and its sound."""
    return {"clip": moments.clip(), "sound": moments.sound()}


def logarithm(count: Array, factor: float = 1.0) -> Float[Array, ""]:
  """Returns log(factor · count), the loss of equal similarities with so many columns."""
  return jnp.log(jnp.maximum(factor * count, 1.0))


def num_rows(valid: Bool[Array, " B"]) -> Float[Array, ""]:
  """Returns the number of rows that count."""
  return jnp.sum(valid.astype(jnp.float32))


def halves(x: Float[Array, "N ..."]) -> tuple[Float[Array, "B ..."], Float[Array, "B ..."]]:
  """Returns the first and the second half of a batch, which passed a tower together."""
  one, other = jnp.split(x, 2)
  return one, other


def check_positive(method: str, config: Any, *names: str) -> None:
  """Raises ValueError unless the named fields are above 0."""
  for name in names:
    if not getattr(config, name) > 0:
      raise ValueError(f"{method}: {name}={getattr(config, name)}; use more than 0.")


def check_share(method: str, config: Any, *names: str) -> None:
  """Raises ValueError unless the named fields are from 0 to 1."""
  for name in names:
    if not 0 <= getattr(config, name) <= 1:
      raise ValueError(f"{method}: {name}={getattr(config, name)}; use 0 to 1.")


def without_gradient(x: PyTree) -> PyTree:
  """Returns the same values; no gradient flows into them."""
  return jax.lax.stop_gradient(x)
