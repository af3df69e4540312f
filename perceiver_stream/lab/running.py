"""A whole run as one program: learn clip by clip, score each before it is learnt from."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.lab.footage import Clips
from perceiver_stream.lab.learners import Learner
from perceiver_stream.lab.objectives import Objective, dressed, undressed
from perceiver_stream.lab.rules import Rule
from perceiver_stream.lab.tasks import Task


class Batch(NamedTuple):
  """Some clips side by side; pictures in [0, 1]."""

  frames: Float[Array, "T B H W 3"]
  pictures: Float[Array, "T B H W 3"]
  counts: Bool[Array, "T B"]
  is_first: Bool[Array, "T B"]


class Learning(NamedTuple):
  """A learner at some time of its life.

  Attributes:
    params: As they learn.
    average: As they are scored out of the stream.
    opt_state: Of the optimiser.
    state: What it remembers of the stream, one row.
  """

  params: PyTree
  average: PyTree
  opt_state: PyTree
  state: PyTree


class Curves(NamedTuple):
  """What a run tells.

  Attributes:
    in_stream: Sums of `Task.measure` of every step's new clip, before it is learnt from.
    out_of_stream: The same of all held-out footage, before the run and after each part of it.
    params: Those last scored out of the stream.
  """

  in_stream: Float[np.ndarray, "n M"]
  out_of_stream: Float[np.ndarray, "P M"]
  params: PyTree


class Program(NamedTuple):
  """What learns, what, and how; every function can be compiled.

  Attributes:
    learner: What learns.
    task: What it paints.
    rule: How it learns.
    objective: How clips are dressed.
    carry: Whether the state goes on from clip to clip while learning; else each starts afresh.
    carry_held_out: The same where it is scored out of the stream.
    hints: Whether the learner has channels for what is revealed of a target.
  """

  learner: Learner
  task: Task
  rule: Rule
  objective: Objective = Objective()
  carry: bool = False
  carry_held_out: bool = False
  hints: bool = False

  def init(self, key: Array, clips: Clips) -> PyTree:
    """Returns parameters."""
    batch = batch_of(clips, jnp.zeros(1, jnp.int32))
    return self.learner.init(key, undressed(batch.frames, self.hints), batch.is_first)

  def start(self, params: PyTree, rate: Float[Array, ""]) -> Learning:
    """Returns what learning starts from."""
    opt_state = self.rule.transform(rate).init(params)
    state = self.learner.initial_state(params, 1)
    # Copies: what is learnt from is donated.
    return jax.tree.map(jnp.array, Learning(params, params, opt_state, state))

  def learn(
    self,
    learning: Learning,
    rate: Float[Array, ""],
    keys: Array,
    order: Int[Array, "n B"],
    clips: Clips,
  ) -> tuple[Learning, Float[Array, "n M"]]:
    """Returns what has become of a learner, and the sums of every step's new clip before learning.

    Args:
      learning: What to go on from.
      rate: Learning rate.
      keys: Of what is shown and hidden, `[n]`.
      order: Clips that are learnt from at every step; -1 is none. Only the first is scored.
      clips: Of one row.
    """
    optimizer = self.rule.transform(rate)

    def step(now: Learning, inputs: tuple) -> tuple[Learning, Array]:
      which, key = inputs
      batch = batch_of(clips, which)
      gradient = jax.grad(self._loss, has_aux=True)
      grads, (sums, state) = gradient(now.params, now.state, batch, which >= 0, key)
      updates, opt_state = optimizer.update(grads, now.opt_state, now.params)
      params = optax.apply_updates(now.params, updates)
      return Learning(params, self.rule.averaged(now.average, params), opt_state, state), sums

    return jax.lax.scan(step, learning, (order, keys))

  def score(self, params: PyTree, clips: Clips) -> Float[Array, " M"]:
    """Returns the sums over footage that is not learnt from, all rows side by side."""
    fresh = self.learner.initial_state(params, clips.frames.shape[2])

    def look(state: PyTree, clip: Any) -> tuple[PyTree, Array]:
      batch = Batch(unit(clip.frames), unit(clip.pictures), clip.counts, clip.is_first)
      inputs = undressed(batch.frames, self.hints)
      painted, after = self.learner.paint(params, state, inputs, batch.is_first)
      return after if self.carry_held_out else state, self._measure(painted, batch)

    _, sums = jax.lax.scan(look, fresh, jax.tree.map(jnp.asarray, clips))
    return jnp.sum(sums, axis=0)

  def _loss(
    self, params: PyTree, state: PyTree, batch: Batch, there: Bool[Array, " B"], key: Array
  ) -> tuple[Float[Array, ""], tuple[Array, PyTree]]:
    """Returns the loss of a step, with the sums of its new clip and the state after it."""
    before = self.learner.initial_state(params, batch.frames.shape[1])
    if self.carry:
      before = jax.tree.map(lambda a, b: a.at[:1].set(b), before, state)
    inputs, weight = dressed(self.objective, batch.frames, batch.pictures, key, self.hints)
    painted, after = self.learner.paint(params, before, inputs, batch.is_first)
    counts = batch.counts & jnp.broadcast_to(there, batch.counts.shape)
    weight = weight * jax.lax.broadcast_in_dim(counts.astype(jnp.float32), weight.shape, (0, 1))
    error = jnp.mean(jnp.square(painted - batch.pictures), -1)
    loss = jnp.sum(weight * error) / jnp.maximum(jnp.sum(weight), 1)
    sums = self._measure(painted[:, :1], Batch(*(x[:, :1] for x in batch)))
    return loss, (sums, jax.tree.map(lambda x: x[:1], after))

  def _measure(self, painted: Float[Array, "T B H W 3"], batch: Batch) -> Float[Array, " M"]:
    merge = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    return self.task.measure(merge(painted), merge(batch.pictures), merge(batch.counts))


def batch_of(clips: Clips, which: Int[Array, " B"]) -> Batch:
  """Returns some clips of the first row side by side."""
  frames, pictures, counts, is_first = (
    jnp.moveaxis(jnp.asarray(x)[which][:, :, 0], 0, 1) for x in clips
  )
  return Batch(unit(frames), unit(pictures), counts, is_first)


def unit(pictures: Any) -> Float[Array, "*n"]:
  """Returns bytes as numbers in [0, 1]."""
  return jnp.asarray(pictures).astype(jnp.float32) / 255


class Runner:
  """A program compiled once, for every seed and learning rate.

  Learning is one scan over the clips of a part, so that little of a run happens in Python; steps
  of learners that convolve are called one by one, see `Learner`.
  """

  def __init__(self, program: Program):
    self.program = program
    self._learn = jax.jit(program.learn, donate_argnums=0)
    self._score = jax.jit(program.score)

  def grow(
    self,
    params: PyTree,
    rate: float,
    seed: int,
    order: Int[np.ndarray, "n B"],
    clips: Clips,
    held_out: Clips | None = None,
    parts: int = 4,
  ) -> Iterator[Curves]:
    """Yields the curves so far after each part of a run, and before the first.

    Args:
      params: To start from.
      rate: Learning rate.
      seed: Of what is shown and hidden.
      order: See `Program.learn`; what is left over by `parts` equal parts is not learnt from.
      clips: To learn from.
      held_out: Never learnt from; None leaves the score out.
      parts: Times that it is scored out of the stream.
    """
    rate_now = jnp.asarray(rate, jnp.float32)
    learning = self.program.start(params, rate_now)
    in_stream, out_of_stream = [], []
    steps = len(order) // parts
    keys = jax.random.split(jax.random.key(seed), steps * parts)
    stride = 1 if self.program.learner.convolves else max(steps, 1)
    for part in range(parts + 1):
      for at in range(max(part - 1, 0) * steps, part * steps, stride):
        now = slice(at, at + stride)
        learning, sums = self._learn(learning, rate_now, keys[now], order[now], clips)
        in_stream.append(sums)
      if held_out is not None:
        out_of_stream.append(np.asarray(self._score(learning.average, held_out)))
      done = [np.asarray(sums) for sums in in_stream]
      told = np.concatenate(done) if done else np.zeros((0, self.program.task.num_sums), np.float32)
      scored = np.asarray(out_of_stream).reshape(-1, told.shape[1])
      yield Curves(told, scored, jax.tree.map(jnp.array, learning.average))

  def __call__(self, *args: Any, **more: Any) -> Curves:
    """Returns the curves of a whole run; see `grow`."""
    *_, last = self.grow(*args, **more)
    return last
