"""A whole run as one program: train clip by clip, score each clip before it is trained on.

This is a second loop beside `training.loop`, over the same `Objective`. Here a run is minutes on small
images: thousands of short steps are one scan on the device, clips are picked by an order (shuffled,
replayed), and one compiled program serves every seed and learning rate. `training.loop` reads a stream
of any length window by window, with journal, checkpoints, exact resume and several processes, none of
which fits into a scan.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from perceiver_stream.lab.clip_prediction import PICTURES, Batch, ClipPrediction
from perceiver_stream.lab.footage import Clips
from perceiver_stream.lab.learners import Learner, Prediction
from perceiver_stream.lab.masking import Masking, raw_inputs
from perceiver_stream.lab.rules import Rule
from perceiver_stream.lab.tasks import Task


class Learning(NamedTuple):
  """A learner at some time of its life.

  Attributes:
    params: As they learn.
    average: As they are scored out of the stream.
    opt_state: Of the optimiser.
    state: Its recurrent state, one row.
  """

  params: PyTree
  average: PyTree
  opt_state: PyTree
  state: PyTree


class Curves(NamedTuple):
  """The curves of a run.

  Attributes:
    in_stream: Sums of `Task.measure` of every step's new clip, before it is learnt from.
    out_of_stream: The same of all held-out footage, before the run and after each part of it.
    params: Those last scored out of the stream.
  """

  in_stream: Float[np.ndarray, "n M"]
  out_of_stream: Float[np.ndarray, "P M"]
  params: PyTree


class Program(NamedTuple):
  """A learner with its task, rule and masking; every function can be compiled.

  Attributes:
    learner: The model that learns.
    task: Its targets.
    rule: Its learning rule.
    masking: Masking of its inputs while it is trained.
    carry: If True, the state carries over from clip to clip while learning; else each starts afresh.
    carry_held_out: The same where it is scored out of the stream.
    hints: If True, the learner has channels for the revealed part of a target.
    smoothness: Weight in the loss of the roughness of its flow; see `nn.roughness`.
  """

  learner: Learner
  task: Task
  rule: Rule
  masking: Masking = Masking()
  carry: bool = False
  carry_held_out: bool = False
  hints: bool = False
  smoothness: float = 0.0

  @property
  def objective(self) -> ClipPrediction:
    """The loss that is trained."""
    return ClipPrediction(
      self.learner,
      self.masking,
      carry=self.carry,
      hints=self.hints,
      smoothness=self.smoothness,
    )

  def init(self, key: Array, clips: Clips) -> PyTree:
    """Returns parameters."""
    return self.objective.init_params(key, batch_of(clips, jnp.zeros(1, jnp.int32))._asdict())

  def start(self, params: PyTree, rate: Float[Array, ""]) -> Learning:
    """Returns the initial state of learning."""
    opt_state = self.rule.transform(rate).init(params)
    state = self.objective.initial_state(params)
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
    """Returns the state after learning, and the sums of every step's new clip before its update.

    Args:
      learning: The state to continue from.
      rate: Learning rate.
      keys: Of what is shown and hidden, `[n]`.
      order: Clips that are learnt from at every step; -1 is none. Only the first is scored.
      clips: Of one row.
    """
    return jax.lax.scan(
      lambda now, inputs: self.step(now, rate, *inputs, clips), learning, (keys, order)
    )

  def step(
    self,
    learning: Learning,
    rate: Float[Array, ""],
    key: Array,
    which: Int[Array, " B"],
    clips: Clips,
  ) -> tuple[Learning, Float[Array, " M"]]:
    """Returns the state after one step; see `learn`."""
    batch = batch_of(clips, which)
    (_, aux), grads = self.objective.loss_and_grad(
      learning.params, learning.state, batch._asdict(), key
    )
    new = Batch(*(x[:, :1] for x in batch))
    sums = self._measure(Prediction(aux.predictions[PICTURES]), new)
    optimizer = self.rule.transform(rate)
    updates, opt_state = optimizer.update(grads, learning.opt_state, learning.params)
    params = optax.apply_updates(learning.params, updates)
    average = self.rule.averaged(learning.average, params)
    return Learning(params, average, opt_state, aux.next_state), sums

  def score(self, params: PyTree, clips: Clips) -> Float[Array, " M"]:
    """Returns the sums over footage that is not learnt from, all rows side by side."""
    return jnp.sum(self._watch(params, clips, self._measure), axis=0)

  def flow(self, params: PyTree, clips: Clips) -> Float[Array, "n T R H W 2"] | None:
    """Returns the predicted flow of held-out footage; None if the learner outputs none."""
    return self._watch(params, clips, lambda predicted, _: predicted.flow)

  def says_flow(self, params: PyTree, clips: Clips) -> bool:
    """Returns True if the learner outputs flow; computes nothing."""
    return jax.eval_shape(self.flow, params, clips) is not None

  def _watch(self, params: PyTree, clips: Clips, tell: Callable[..., PyTree]) -> PyTree:
    """Returns `tell(predicted, batch)` of every clip, stacked."""
    fresh = self.learner.initial_state(params, clips.frames.shape[2])

    def look(state: PyTree, clip: Any) -> tuple[PyTree, PyTree]:
      batch = Batch(unit(clip.frames), unit(clip.pictures), clip.counts, clip.is_first)
      inputs = raw_inputs(batch.frames, self.hints)
      predicted, after = self.learner.predict_frames(params, state, inputs, batch.is_first)
      return after if self.carry_held_out else state, tell(predicted, batch)

    return jax.lax.scan(look, fresh, jax.tree.map(jnp.asarray, clips))[1]

  def _measure(self, predicted: Prediction, batch: Batch) -> Float[Array, " M"]:
    merge = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    return self.task.measure(merge(predicted.pictures), merge(batch.pictures), merge(batch.counts))


def batch_of(clips: Clips, which: Int[Array, " B"]) -> Batch:
  """Returns some clips of the first row side by side; -1 is none, and does not count."""
  frames, pictures, counts, is_first = (
    jnp.moveaxis(jnp.asarray(x)[which][:, :, 0], 0, 1) for x in clips
  )
  there = jnp.broadcast_to(which >= 0, counts.shape)
  return Batch(unit(frames), unit(pictures), counts & there, is_first)


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
    self._step = jax.jit(program.step, donate_argnums=0)
    self._score = jax.jit(program.score)
    self.flow = jax.jit(program.flow)

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
    for part in range(parts + 1):
      now = slice(max(part - 1, 0) * steps, part * steps)
      learning, sums = self._part(learning, rate_now, keys[now], order[now], clips)
      in_stream.append(np.asarray(sums))
      if held_out is not None:
        out_of_stream.append(np.asarray(self._score(learning.average, held_out)))
      curves = np.concatenate(in_stream)
      scored = np.asarray(out_of_stream).reshape(-1, curves.shape[1])
      yield Curves(curves, scored, jax.tree.map(jnp.array, learning.average))

  def _part(
    self, learning: Learning, rate: Array, keys: Array, order: np.ndarray, clips: Clips
  ) -> tuple[Learning, np.ndarray]:
    """Returns the result of `Program.learn`."""
    if not self.program.learner.convolves and len(order):
      learning, sums = self._learn(learning, rate, keys, order, clips)
      return learning, np.asarray(sums)
    curves = [np.zeros((0, self.program.task.num_sums), np.float32)]
    for key, which in zip(keys, order, strict=True):
      learning, sums = self._step(learning, rate, key, which, clips)
      curves.append(sums[None])
    return learning, np.concatenate(curves)

  def __call__(self, *args: Any, **more: Any) -> Curves:
    """Returns the curves of a whole run; see `grow`."""
    *_, last = self.grow(*args, **more)
    return last
