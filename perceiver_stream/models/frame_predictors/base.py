"""Contract and shared parts of models that predict whole frames.

A `FramePredictor` is a Haiku module. `FramePredictorNetwork` adapts it to the common model
contract, in which it predicts frames; the lab (`perceiver_stream.lab`) trains it on other target
images too.
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
from perceiver_stream.utils import moved


@dataclass(kw_only=True)
class Config:
  """Sizes common to all frame predictors.

  Attributes:
    height: Rows of a frame.
    width: Columns of a frame.
    patch: Rows and columns of a patch; each patch is a token.
    dim: Width of a token.
    displacements: Ticks ahead that are predicted.
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
  """A Haiku module that reads frames and predicts images."""

  def initial_state(self, batch_size: int) -> PyTree:
    """Returns the state before the first tick: a pytree, `()` for none."""
    ...

  def observe(
    self, frames: Float[Array, "T B H W C"], is_first: Bool[Array, "T B"], state: PyTree
  ) -> tuple[Float[Array, "T B N D"], PyTree]:
    """Returns tokens and state after each of T ticks; frames in [0, 1], at least 3 channels."""
    ...

  def predict_frames(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 3"]:
    """Returns the images decoded from tokens, one per displacement."""
    ...


@runtime_checkable
class FlowPredictor(FramePredictor, Protocol):
  """A predictor that also returns the flow with which it warps the last frame."""

  def flow(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 2"]:
    """Returns the offset (x, y) in pixels of each predicted pixel's source in the last frame."""
    ...


class FramePredictorNetwork(QueriedNetwork):
  """A predictor as a `models.base.Network` that predicts frames. `config` has `displacements`.

  At a tick without a frame, the last frame is repeated. The latents of a state are the tokens after
  the tick; its `extra` is the state of the predictor.
  """

  def __init__(self, config: Any, predictor: FramePredictor, modalities: dict[str, Modality]):
    self.config = config
    self.predictor = predictor
    self.modalities = modalities

  def initial_latents(self, batch_size: int) -> Float[Array, "B N D"]:
    """Returns zeros with the shape of the tokens."""
    blank = jnp.zeros((1, batch_size, self.config.height, self.config.width, 3))
    inner = self.predictor.initial_state(batch_size)
    tokens, _ = self.predictor.observe(blank, jnp.ones((1, batch_size), bool), inner)
    return jnp.zeros_like(tokens[0])

  def initial_extra(self, latents: Array, memory: Mapping[str, Memory]) -> PyTree:
    """Returns the predictor's state before the first tick."""
    del memory
    return self.predictor.initial_state(latents.shape[0])

  def unroll(self, state: State, kept: Remembered) -> State:
    """Returns the state after each of T ticks; the predictor has its own recurrence."""
    frames = kept.memory["pixels"].last
    tokens, inner = self.predictor.observe(frames, kept.is_first, state.extra)
    return State(tokens, kept.memory, inner)

  def decode_at(
    self,
    name: str,
    state: State,
    cells: Int[Array, " Q"] | None,
    displacements: tuple[int, ...],
  ) -> dict[str, Float[Array, "B K Q 1 1 C"]]:
    """Returns pixels; for a `FlowPredictor`, also `pixels_flow`.

    Raises:
      ValueError: The predictor does not predict one of the displacements.
    """
    known = self.config.displacements
    for d in displacements:
      if d not in known:
        raise ValueError(
          f"{type(self.predictor).__name__}: it predicts {known} ticks ahead, not {d}; build it "
          f"with config.displacements that include it."
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
  """Tokens of frames: a linear map of every patch plus a linear map of its position."""

  def __init__(self, patch: int, dim: int, *, name: str):
    super().__init__(name=name)
    self.patch = patch
    self.dim = dim

  def __call__(self, frames: Float[Array, "T B H W C"]) -> Float[Array, "T B N D"]:
    """Returns the tokens, row-major."""
    p, (rows, columns) = self.patch, frames.shape[2:4]
    cut = patchify(frames, p).reshape(*frames.shape[:2], -1, p * p * frames.shape[-1])
    grid = (rows // p, columns // p)
    places = jnp.asarray(fourier_linear(coordinates(grid), 4, grid), jnp.float32)
    tokens, where = Linear(self.dim, name="patch")(cut), Linear(self.dim, name="place")(places)
    return tokens + jnp.broadcast_to(where, tokens.shape)


class PatchDecoder(hk.Module):
  """Decoder of tokens to images: a linear map to every patch, with grey as the zero point."""

  def __init__(self, height: int, width: int, patch: int, num: int, *, name: str):
    super().__init__(name=name)
    self.height, self.width, self.patch, self.num = height, width, patch, num

  def __call__(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 3"]:
    """Returns `num` images."""
    p = self.patch
    init = hk.initializers.TruncatedNormal(0.02)
    patches = Linear(self.num * p * p * 3, w_init=init, name="patch")(tokens)
    cells = patches.reshape(tokens.shape[0], self.height // p, self.width // p, self.num, -1)
    return 0.5 + unpatchify(jnp.moveaxis(cells, 3, 1), p)


class PatchFramePredictor(hk.Module):
  """A `FramePredictor` with one token per patch and a linear decoder; subclasses add `observe`."""

  def __init__(self, config: Any, *, name: str):
    super().__init__(name=name)
    check_patches(name, config)
    self.config = config

  @hk.name_like("__call__")
  def predict_frames(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 3"]:
    """Returns one image per displacement."""
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
  """Returns a predictor as a model; `make(config)` is called inside a Haiku transform."""
  modalities = pixel_modality(config)
  network = lambda: FramePredictorNetwork(config, make(config), modalities)  # noqa: E731
  return as_model(network, modalities, config.displacements, config)


__getattr__ = moved.renamed_names(
  __name__,
  {
    "Canvas": "models.frame_predictors.base.PatchDecoder",
    "Mover": "models.frame_predictors.base.FlowPredictor",
    "Painter": "models.frame_predictors.base.FramePredictor",
    "PainterNetwork": "models.frame_predictors.base.FramePredictorNetwork",
    "PatchPainter": "models.frame_predictors.base.PatchFramePredictor",
  },
)
