"""The one program that every device of a pipeline runs; each device selects its own branch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream.execution.device_tick import Device
from perceiver_stream.execution.packing import Buffers, Packing
from perceiver_stream.execution.partition import rows_of
from perceiver_stream.execution.pipeline import check_frame
from perceiver_stream.execution.teaching import Loss
from perceiver_stream.models.stages import Values

AXIS = "stage"


class Carried(NamedTuple):
  """The state of the devices from tick to tick, packed.

  Attributes:
    own: `Own` of every device.
    inbox: Registers received from the left, for it or for later devices.
    back: Gradients of its stages' outputs that have arrived; nothing in inference.
  """

  own: Buffers
  inbox: Buffers
  back: Buffers


class WindowOutput(NamedTuple):
  """The outputs of a window; only the last device has losses and answers.

  Attributes:
    gradients: Of each device's parameters, the sum over ticks; nothing in inference.
    losses: Of every tick.
    answers: Of every tick.
  """

  gradients: Buffers
  losses: Float[Array, "..."]
  answers: Values


class Packings(NamedTuple):
  """The layout of everything in buffers; messages by link, all else by device.

  Attributes:
    own: State that a device carries for its own stages.
    right: Registers that cross a link forwards.
    left: The gradients that cross it back.
    given: Gradients of the inputs of a device's stages.
    back: Gradients of the outputs of a device's stages.
  """

  own: Packing
  right: Packing
  left: Packing
  given: Packing
  back: Packing

  @classmethod
  def of(cls, devices: Sequence[Device], rows: int) -> "Packings":
    """Returns the packings for a row of devices and a number of rows of the batch."""
    return cls(
      Packing([device.blank_own(rows) for device in devices]),
      Packing([device.blank_right(rows) for device in devices[:-1]]),
      Packing([device.blank_left(rows) for device in devices[:-1]]),
      Packing([device.blank_given(rows) for device in devices]),
      Packing([device.blank_back(rows) for device in devices]),
    )


def run_window(
  devices: Sequence[Device],
  params_packing: Packing,
  loss: Loss | None,
  params: Buffers,
  carried: Carried,
  frames: Values,
  targets: PyTree,
) -> tuple[WindowOutput, Carried]:
  """Runs T ticks on a device; inside `shard_map` over the devices.

  Args:
    devices: All of them, in order.
    params_packing: The layout of parameters.
    loss: Of an answer and a target.
    params: Of this device; like all arrays, with a leading axis of length one.
    carried: Before the first tick.
    frames: Of T ticks; those of the first device are used.
    targets: Of T ticks, those of the last device are used; None is inference.
  """
  params, carried, frames, targets = jax.tree.map(
    lambda x: x[0], (params, carried, frames, targets)
  )
  first = jax.tree.map(lambda x: x[0], frames)
  check_frame(devices[0].partition, first)
  rows = rows_of(first)
  program = Program(devices, params_packing, Packings.of(devices, rows), loss)
  learns = targets is not None
  nothing = params_packing.zeros() if learns else {}

  def tick(carry: tuple, now: tuple) -> tuple[tuple, tuple[Array, Values]]:
    carried, sums = carry
    if learns:
      output, carried = program.learn(params, carried, *now)
      sums = jax.tree.map(jnp.add, sums, output.gradients)
    else:
      output, carried = program.fire(params, carried, now[0])
    return (carried, sums), (output.losses, output.answers)

  (carried, sums), output = jax.lax.scan(tick, (carried, nothing), (frames, targets))
  return jax.tree.map(lambda x: x[None], (WindowOutput(sums, *output), carried))


class Program:
  """A tick on all devices at once."""

  def __init__(
    self, devices: Sequence[Device], params: Packing, packs: Packings, loss: Loss | None
  ):
    """Takes the devices, the packings, and the loss for training."""
    self.devices, self.params, self.packs, self.loss = devices, params, packs, loss
    self.num = len(devices)
    self.hops = max(device.reach for device in devices)

  def fire(self, params: Buffers, carried: Carried, frame: Values) -> tuple[WindowOutput, Carried]:
    """Returns the answer of a tick, and the state after it."""

    def branch(d: int) -> Callable[..., Any]:
      def fire(params: Buffers, carried: Carried, frame: Values) -> tuple[Buffers, Values]:
        own, answer = self.devices[d].fire(
          self.params.unpack(d, params),
          self.packs.own.unpack(d, carried.own),
          self._inbox(d, carried.inbox),
          frame,
        )
        return self.packs.own.pack(d, own), answer

      return fire

    own, answer = self._choose(branch, params, carried, frame)
    after = Carried(own, self._rightward(own, carried.inbox), carried.back)
    return WindowOutput({}, jnp.float32(0), answer), after

  def learn(
    self, params: Buffers, carried: Carried, frame: Values, target: PyTree
  ) -> tuple[WindowOutput, Carried]:
    """Returns the outputs of a tick of Sideways, and the state after it."""
    loss = self.loss
    assert loss is not None

    def branch(d: int) -> Callable[..., Any]:
      def learn(params: Buffers, carried: Carried, frame: Values, target: PyTree) -> tuple:
        done = self.devices[d].learn(
          self.params.unpack(d, params),
          self.packs.own.unpack(d, carried.own),
          self._inbox(d, carried.inbox),
          self.packs.back.unpack(d, carried.back),
          frame,
          target,
          loss,
        )
        output = WindowOutput(self.params.pack(d, done.found), done.loss, done.answer)
        return output, self.packs.own.pack(d, done.own), self.packs.given.pack(d, done.given)

      return learn

    output, own, given = self._choose(branch, params, carried, frame, target)
    back = self._leftward(given, own, carried.back)
    return output, Carried(own, self._rightward(own, carried.inbox), back)

  def _inbox(self, d: int, inbox: Buffers) -> PyTree:
    return self.packs.right.unpack(d - 1, inbox) if d else {}

  def _rightward(self, own: Buffers, inbox: Buffers) -> Buffers:
    """Returns every device's inbox after all have forwarded their outputs and inboxes."""

    def branch(d: int) -> Callable[..., Any]:
      def send(own: Buffers, inbox: Buffers) -> Buffers:
        if d == self.num - 1:
          return self.packs.right.zeros()
        mine, received = self.packs.own.unpack(d, own), self._inbox(d, inbox)
        return self.packs.right.pack(d, self.devices[d].rightward(mine, received))

      return send

    for _ in range(self.hops):
      inbox = self._moved(self._choose(branch, own, inbox), 1)
    return inbox

  def _leftward(self, given: Buffers, own: Buffers, back: Buffers) -> Buffers:
    """Returns the gradients that wait on every device, after all have forwarded theirs."""

    def received_by(d: int, received: Buffers) -> PyTree:
      return self.packs.left.unpack(d, received) if d < self.num - 1 else {}

    def branch(d: int) -> Callable[..., Any]:
      def send(given: Buffers, received: Buffers) -> Buffers:
        if d == 0:
          return self.packs.left.zeros()
        mine = self.packs.given.unpack(d, given)
        return self.packs.left.pack(d - 1, self.devices[d].leftward(mine, received_by(d, received)))

      return send

    def last(d: int) -> Callable[..., Any]:
      def arrive(given: Buffers, received: Buffers, own: Buffers, back: Buffers) -> Buffers:
        mine, before = self.packs.given.unpack(d, given), self.packs.back.unpack(d, back)
        fired = self.packs.own.unpack(d, own).tick - 1
        found = self.devices[d].arrived(mine, received_by(d, received), before, fired)
        return self.packs.back.pack(d, found)

      return arrive

    received = self.packs.left.zeros()
    for _ in range(self.hops):
      received = self._moved(self._choose(branch, given, received), -1)
    return self._choose(last, given, received, own, back)

  def _choose(self, branch: Callable[[int], Callable[..., Any]], *args: Any) -> Any:
    """Returns each device's result on its part, by its own branch."""
    return jax.lax.switch(jax.lax.axis_index(AXIS), [branch(d) for d in range(self.num)], *args)

  def _moved(self, message: Buffers, step: int) -> Buffers:
    """Returns the neighbour's message; zeros for the device at the end."""
    pairs = [(d, d + step) for d in range(self.num) if 0 <= d + step < self.num]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, AXIS, pairs), message)
