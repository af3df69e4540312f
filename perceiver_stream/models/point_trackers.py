"""The contract of models that track points: pure functions with slots of fixed shapes.

They predict no frames and have queries as input, so they are no `Model`s. A slot starts a query at
any tick and place, tracks it, stops, and can be used again; nothing is compiled twice. In contrast
to `point_readout`, which reads the states of another model, they read frames.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models.family import Record
from perceiver_stream.models.mapping import Flat
from perceiver_stream.models.point_readout import TrackCommands


class PointTracks(NamedTuple):
  """Output of each slot after a tick.

  Attributes:
    position: (x, y) in [0, 1] of the image's width and height; NaN in free slots.
    visible: True where the point counts as visible by the rule of the released code.
    certainty: Probability in [0, 1] that the position is accurate.
  """

  position: Float[Array, "*T B Q 2"]
  visible: Bool[Array, "*T B Q"]
  certainty: Float[Array, "*T B Q"]


class TrackerNetwork(Protocol):
  """Interface of networks that `as_point_tracker` converts. States are pytrees of fixed shapes."""

  def initial_state(self, batch_size: int, num_slots: int) -> PyTree:
    """Returns the state before the first frame, all slots free."""
    ...

  def track(
    self, state: PyTree, frames: Float[Array, "T B H W 3"], commands: TrackCommands
  ) -> tuple[PointTracks, PyTree]:
    """Returns the tracks after each of T ticks, and the state after the last."""
    ...


class PointTracker(NamedTuple):
  """A tracker as pure, jitted functions.

  Attributes:
    init: `rng -> params`.
    initial_state: `(batch_size, num_slots) -> state`, all slots free.
    step: `(params, state, frames, commands) -> (PointTracks, state)`; frames `[B, H, W, 3]`, RGB
      float32 in [0, 1]; commands `[B, Q, ...]`.
    unroll: As `step` for T ticks, `[T, B, ...]`; any split gives the same tracks.
    height: Rows of a frame.
    width: Columns of a frame.
    config: Config from which it was built.
    network: Creates the network inside a Haiku transform.
  """

  init: Callable[..., hk.MutableParams]
  initial_state: Callable[..., PyTree]
  step: Callable[..., tuple[PointTracks, PyTree]]
  unroll: Callable[..., tuple[PointTracks, PyTree]]
  height: int
  width: int
  config: Any
  network: Callable[[], TrackerNetwork]


@dataclass(frozen=True, kw_only=True)
class TrackerFamily(Record[PointTracker]):
  """Record of a family of trackers; one line in `zoo.point_trackers.PACKAGES` registers it.

  Attributes:
    prepare: `(flat arrays of a published file) -> flat arrays` in one naming, for `detect` and
      `rules`.
  """

  prepare: Callable[[Flat], Flat] = lambda flat: flat


def as_point_tracker(
  make_network: Callable[[], TrackerNetwork], size: tuple[int, int], config: Any
) -> PointTracker:
  """Returns the `PointTracker` of a network.

  Args:
    make_network: Called inside a Haiku transform; must return the same modules every time.
    size: Rows and columns of a frame.
    config: Stored for reference.
  """
  track = hk.without_apply_rng(hk.transform(lambda *args: make_network().track(*args)))
  states = hk.without_apply_rng(hk.transform(lambda *rows: make_network().initial_state(*rows)))

  def init(rng: Array) -> hk.MutableParams:
    start = jnp.ones((1, 1, 1), bool)
    commands = TrackCommands(start, jnp.full((1, 1, 1, 2), 0.5), ~start)
    return track.init(rng, initial_state(1, 1), jnp.zeros((1, 1, *size, 3)), commands)

  def initial_state(batch_size: int, num_slots: int) -> PyTree:
    return states.apply({}, batch_size, num_slots)

  def step(params: PyTree, state: PyTree, frames: Array, commands: TrackCommands) -> Any:
    once = jax.tree.map(lambda x: x[None], (frames, commands))
    tracks, state = track.apply(params, state, *once)
    return jax.tree.map(lambda x: x[0], tracks), state

  checked = lambda f, axes: _checked(jax.jit(f), size, axes)  # noqa: E731
  return PointTracker(
    jax.jit(init),
    initial_state,
    checked(step, "[B]"),
    checked(track.apply, "[T, B]"),
    *size,
    config,
    make_network,
  )


def active_slots(active: Bool[Array, "B Q"], commands: TrackCommands) -> Bool[Array, "T B Q"]:
  """Returns the slots that track a query at each tick."""

  def tick(active: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
    start, stop = now
    active = (active | start) & ~stop
    return active, active

  return jax.lax.scan(tick, active, (commands.start, commands.stop))[1]


def _checked(function: Callable, size: tuple[int, int], axes: str) -> Callable:
  leading = 1 if axes == "[B]" else 2

  def call(params: PyTree, state: PyTree, frames: Array, commands: TrackCommands) -> Any:
    if frames.ndim != leading + 3 or tuple(frames.shape[-3:]) != (*size, 3):
      raise ValueError(
        f"tracker: frames {list(frames.shape)}, expected {axes} and {[*size, 3]}; resize them, or "
        f"build the tracker for this size."
      )
    return function(params, state, frames, commands)

  return call
