"""Models that see frames and paint a picture for each: what they share, and their contract.

A `Painter` is a Haiku module; `PainterNetwork` gives it the contract of every model, in which it
predicts frames, and the lab (`perceiver_stream.lab`) lets it paint whatever a task shows.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream import modalities as modality_room
from perceiver_stream.modalities import Memory, Modality, pixels
from perceiver_stream.modalities.base import cell_index
from perceiver_stream.models.base import Attended, Model, as_model
from perceiver_stream.models.input_memory import nearest, remember_ticks
from perceiver_stream.nn import Linear, coordinates, fourier_linear, patchify, unpatchify
from perceiver_stream.types import ModalitySpec, Observation, Size, Ticks


@dataclass(kw_only=True)
class Config:
  """Sizes that all painters have.

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
class Painter(Protocol):
  """A Haiku module that watches frames and paints."""

  def initial_state(self, batch_size: int) -> PyTree:
    """Returns what is remembered before the first tick; a pytree, `()` for no memory."""
    ...

  def watch(
    self, frames: Float[Array, "T B H W C"], is_first: Bool[Array, "T B"], state: PyTree
  ) -> tuple[Float[Array, "T B N D"], PyTree]:
    """Returns tokens and state after each of T ticks; frames in [0, 1], three channels or more."""
    ...

  def paint(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 3"]:
    """Returns the pictures that tokens say, one per displacement."""
    ...


@runtime_checkable
class Mover(Painter, Protocol):
  """A painter that says where what it paints comes from."""

  def flow(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 2"]:
    """Returns the place of each painted pixel in the last frame, from its own, (x, y) pixels."""
    ...


class State(NamedTuple):
  """All that is carried from tick to tick.

  Attributes:
    latents: Tokens after the tick.
    inner: What the painter remembers.
    memory: The newest frame, under "pixels".
  """

  latents: Float[Array, "*T B N D"]
  inner: Any
  memory: dict[str, Memory]


class PainterNetwork:
  """A painter as a `models.base.Network` that predicts frames. `config` has `displacements`."""

  def __init__(self, config: Any, painter: Painter, frames: Modality):
    self.config = config
    self.painter = painter
    self.frames = frames

  def initial_state(self, batch_size: int) -> State:
    """Returns the state before the first tick."""
    c = self.config
    blank = jnp.zeros((1, batch_size, c.height, c.width, 3))
    inner = self.painter.initial_state(batch_size)
    tokens, _ = self.painter.watch(blank, jnp.ones((1, batch_size), bool), inner)
    return State(
      jnp.zeros_like(tokens[0]), inner, {"pixels": self.frames.initial_memory(batch_size)}
    )

  def observe(self, state: State, observations: Observation) -> tuple[State, State]:
    """Returns the state after each of T ticks, and after the last.

    A tick without a frame is as if the last frame had come again.
    """
    kept = remember_ticks({"pixels": self.frames}, state.memory, observations)
    frames = kept.memory["pixels"].last
    tokens, inner = self.painter.watch(frames, kept.is_first, state.inner)
    states = State(tokens, inner, kept.memory)
    return states, jax.tree.map(lambda x: x[-1], states)

  def latents(self, state: State) -> Float[Array, "*T B N D"]:
    """Returns the tokens."""
    return state.latents

  def predict(self, state: State, displacements: tuple[int, ...]) -> dict[str, Array]:
    """Returns whole frames, `[B, num_displacements, H, W, 3]`; of a `Mover`, `pixels_flow` too.

    Raises:
      ValueError: It does not paint one of the displacements.
    """
    for d in displacements:
      if d not in self.config.displacements:
        raise ValueError(
          f"{type(self.painter).__name__}: it paints {self.config.displacements} ticks ahead, not "
          f"{d}; build it with config.displacements that have it."
        )
    chosen = jnp.asarray([self.config.displacements.index(d) for d in displacements])
    return {name: value[:, chosen] for name, value in self._all(state).items()}

  def decode(self, state: State, queries: Any) -> dict[str, Array]:
    """Returns pixels, `[B, Q, 1, 1, C]`, each at the displacement of ours nearest to its own."""
    c, answers = self.config, {}
    for asked in queries.values():  # pixels alone can be asked for
      cells = cell_index(asked.positions, (c.height, c.width))
      for name, value in self._all(state).items():
        flat = jnp.moveaxis(value, 1, 0).reshape(
          value.shape[1], value.shape[0], -1, value.shape[-1]
        )
        answers[name] = nearest(flat[:, :, cells], c.displacements, asked.displacement)
        answers[name] = answers[name][:, :, None, None]
    return answers

  def _all(self, state: State) -> dict[str, Float[Array, "B K H W C"]]:
    """Returns what is painted at all displacements and, of a `Mover`, `pixels_flow`."""
    said = {"pixels": self.painter.paint(state.latents)}
    if isinstance(self.painter, Mover):
      said["pixels_flow"] = self.painter.flow(state.latents)
    return said

  def attention(
    self, state: State, observations: Observation, grid: tuple[int, int]
  ) -> tuple[Attended, State]:
    """Raises ValueError: a token stays at its place, so there is nothing to see."""
    raise ValueError(
      f"attention: every token of {type(self.painter).__name__} stays at its own place; use a model "
      f"whose latents may follow things (stream_perceiver, moog)."
    )


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


class Canvas(hk.Module):
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


class PatchPainter(hk.Module):
  """A `Painter` whose tokens are patches, each painted by a linear map; subclasses watch."""

  def __init__(self, config: Any, *, name: str):
    super().__init__(name=name)
    check_patches(name, config)
    self.config = config

  @hk.name_like("__call__")
  def paint(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B K H W 3"]:
    """Returns a picture per displacement."""
    c = self.config
    return Canvas(c.height, c.width, c.patch, len(c.displacements), name="canvas")(tokens)


def check_patches(what: str, config: Config) -> None:
  """Raises ValueError unless the frame is a whole number of patches."""
  if config.height % config.patch or config.width % config.patch:
    raise ValueError(
      f"{what}: frames {config.height}×{config.width} are not a whole number of {config.patch}×"
      f"{config.patch} patches; crop or resize them."
    )


def fitted(config: Any, specs: Mapping[str, ModalitySpec]) -> Any:
  """Returns the config of a painter for the frames of a stream.

  Raises:
    ValueError: The stream has no pixels.
  """
  if "pixels" not in specs:
    family = type(config).__module__.rsplit(".", 1)[-1]
    raise ValueError(f"{family}: the stream has {sorted(specs)}, but the model reads pixels.")
  height, width = specs["pixels"].shape[:2]
  return dataclasses.replace(config, height=height, width=width)


def build(config: Any, make: Callable[[Any], Painter]) -> Model:
  """Returns a painter as a model; `make(config)` makes the painter inside a Haiku transform."""
  sizes = pixels.Config(height=config.height, width=config.width, patch=1, tokenizer="pixel")
  frames = modality_room.build("pixels", sizes)
  network = lambda: PainterNetwork(config, make(config), frames)  # noqa: E731
  return as_model(network, {"pixels": frames}, config.displacements, config)
