"""Models that see frames and paint a picture for each: what they share, and their contract.

A `FramePredictor` is a Haiku module; `FramePredictorNetwork` gives it the contract of every model, in which it
predicts frames, and the lab (`perceiver_stream.lab`) lets it paint whatever a task shows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.modalities import Memory, Modality
from perceiver_stream.models.base import Model, as_model
from perceiver_stream.models.input_memory import Remembered
from perceiver_stream.models.recurrent import QueriedNetwork, State, pixel_modality
from perceiver_stream.nn import Linear, coordinates, fourier_linear, patchify, unpatchify
from perceiver_stream.types import Size, Ticks


@dataclass(kw_only=True)
class Config:
  """Sizes that all frame predictors have.

  Attributes:
    height: Rows of a frame.
    width: Columns of a frame.
    patch: Rows and columns of a patch, of which each becomes a token.
    dim: Width of a token.
    displacements: Ticks ahead that are painted.
  """

  height: Size = 64
  width: Size = 64
  patch: Size = 8
  dim: Size = 64
  displacements: tuple[Ticks, ...] = (1, 4, 16)

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of patches."""
    return self.height // self.patch, self.width // self.patch


@runtime_checkable
class FramePredictor(Protocol):
  """A Haiku module that watches frames and paints."""

  def initial_state(self, batch_size: int) -> PyTree:
    """Returns what is remembered before the first tick; a pytree, `()` for no memory."""
    ...

  def watch(
    self, frames: Float[Array, "T B H W C"], is_first: Bool[Array, "T B"], state: PyTree
  ) -> tuple[Float[Array, "T B N D"], PyTree]:
    """Returns tokens and state after each of T ticks; frames in [0, 1], three channels or more."""
    ...

  def predict_frames(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 3"]:
    """Returns the pictures that tokens say, one per displacement."""
    ...


@runtime_checkable
class FlowPredictor(FramePredictor, Protocol):
  """A predictor that says where what it paints comes from."""

  def flow(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 2"]:
    """Returns the place of each painted pixel in the last frame, from its own, (x, y) pixels."""
    ...


class FramePredictorNetwork(QueriedNetwork):
  """A predictor as a `models.base.Network` that predicts frames. `config` has `displacements`.

  A tick without a frame is as if the last frame had come again. A state's latents are the tokens
  after the tick, its `extra` is what the predictor remembers.
  """

  def __init__(self, config: Any, predictor: FramePredictor, modalities: dict[str, Modality]):
    self.config = config
    self.predictor = predictor
    self.modalities = modalities

  def initial_latents(self, batch_size: int) -> Float[Array, "B N D"]:
    """Returns zeros in the shape of the tokens."""
    blank = jnp.zeros((1, batch_size, self.config.height, self.config.width, 3))
    inner = self.predictor.initial_state(batch_size)
    tokens, _ = self.predictor.watch(blank, jnp.ones((1, batch_size), bool), inner)
    return jnp.zeros_like(tokens[0])

  def initial_extra(self, latents: Array, memory: Mapping[str, Memory]) -> PyTree:
    """Returns what the predictor remembers before the first tick."""
    del memory
    return self.predictor.initial_state(latents.shape[0])

  def unroll(self, state: State, kept: Remembered) -> State:
    """Returns the state after each of T ticks; the predictor holds its own recurrence."""
    frames = kept.memory["pixels"].last
    tokens, inner = self.predictor.watch(frames, kept.is_first, state.extra)
    return State(tokens, kept.memory, inner)

  def decode_at(
    self,
    name: str,
    state: State,
    cells: Int[Array, " Q"] | None,
    displacements: tuple[int, ...],
  ) -> dict[str, Float[Array, "B K Q 1 1 C"]]:
    """Returns pixels, and of a `FlowPredictor` `pixels_flow` too.

    Raises:
      ValueError: The predictor does not predict one of the displacements.
    """
    known = self.config.displacements
    for d in displacements:
      if d not in known:
        raise ValueError(
          f"{type(self.predictor).__name__}: it paints {known} ticks ahead, not {d}; build it with "
          f"config.displacements that have it."
        )
    found = {name: self.predictor.predict_frames(state.latents)}
    if isinstance(self.predictor, FlowPredictor):
      found[f"{name}_flow"] = self.predictor.flow(state.latents)
    chosen = jnp.asarray([known.index(d) for d in displacements])

    def picked(frames: Float[Array, "B A H W C"]) -> Float[Array, "B K Q 1 1 C"]:
      frames = frames[:, chosen]
      flat = frames.reshape(*frames.shape[:2], -1, 1, 1, frames.shape[-1])
      return flat if cells is None else flat[:, :, cells]

    return {key: picked(frames) for key, frames in found.items()}


class Patches(hk.Module):
  """Frames as tokens: a linear map of every patch, plus a linear map of where it is."""

  def __init__(self, patch: int, dim: int, *, name: str):
    super().__init__(name=name)
    self.patch = patch
    self.dim = dim

  def __call__(self, frames: Float[Array, "T B H W C"]) -> Float[Array, "T B N D"]:
    """Returns the tokens, row by row."""
    p, (rows, columns) = self.patch, frames.shape[2:4]
    cut = patchify(frames, p).reshape(*frames.shape[:2], -1, p * p * frames.shape[-1])
    grid = (rows // p, columns // p)
    places = jnp.asarray(fourier_linear(coordinates(grid), 4, grid), jnp.float32)
    tokens, where = Linear(self.dim, name="patch")(cut), Linear(self.dim, name="place")(places)
    return tokens + jnp.broadcast_to(where, tokens.shape)


class PatchDecoder(hk.Module):
  """Tokens as pictures: a linear map to every patch, around grey."""

  def __init__(self, height: int, width: int, patch: int, num: int, *, name: str):
    super().__init__(name=name)
    self.height, self.width, self.patch, self.num = height, width, patch, num

  def __call__(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 3"]:
    """Returns `num` pictures."""
    p = self.patch
    init = hk.initializers.TruncatedNormal(0.02)
    painted = Linear(self.num * p * p * 3, w_init=init, name="patch")(tokens)
    cells = painted.reshape(tokens.shape[0], self.height // p, self.width // p, self.num, -1)
    return 0.5 + unpatchify(jnp.moveaxis(cells, 3, 1), p)


class PatchFramePredictor(hk.Module):
  """A `FramePredictor` whose tokens are patches, each painted by a linear map; subclasses watch."""

  def __init__(self, config: Any, *, name: str):
    super().__init__(name=name)
    check_patches(name, config)
    self.config = config

  @hk.name_like("__call__")
  def predict_frames(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 3"]:
    """Returns a picture per displacement."""
    c = self.config
    return PatchDecoder(c.height, c.width, c.patch, len(c.displacements), name="canvas")(tokens)


def check_patches(what: str, config: Config) -> None:
  """Raises ValueError unless the frame is a whole number of patches."""
  if config.height % config.patch or config.width % config.patch:
    raise ValueError(
      f"{what}: frames {config.height}×{config.width} are not a whole number of {config.patch}×"
      f"{config.patch} patches; crop or resize them."
    )


def build(config: Any, make: Callable[[Any], FramePredictor]) -> Model:
  """Returns a predictor as a model; `make(config)` makes the predictor inside a Haiku transform."""
  modalities = pixel_modality(config)
  network = lambda: FramePredictorNetwork(config, make(config), modalities)  # noqa: E731
  return as_model(network, modalities, config.displacements, config)
