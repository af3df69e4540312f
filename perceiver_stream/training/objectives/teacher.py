"""A teacher inside the train state, and scores that show collapse: shared by objectives that predict
features.

The teacher is a running mean of the student's parameters. It is part of the objective's state, so that
checkpoints hold it. It is updated at the start of a window with the student as the last step left it:
the same as after the optimiser's step, because it starts as a copy.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.nn.losses import collapse
from perceiver_stream.nn.losses.coclr import momentum_update
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.objectives.base import Objective, Score

COLLAPSE = "collapse_"
# Names of the scores besides those of predictions, as `Objective.labels` holds them.
MONITORED = {
  f"{COLLAPSE}{name}": (f"{COLLAPSE}{name}", name) for name in (*collapse.Collapse._fields, "alarm")
}


class Taught(NamedTuple):
  """State of an objective with a teacher.

  Attributes:
    teacher: Parameters of the teacher.
    windows: Windows learnt from.
    student_state: Recurrent state under the student's parameters; () without any.
    teacher_state: The same under the teacher's.
  """

  teacher: PyTree
  windows: Int[Array, ""]
  student_state: Any = ()
  teacher_state: Any = ()


class TaughtObjective(Objective):
  """An objective whose state is a `Taught`; a window that is only watched does not teach."""

  def watched_state(self, before: Taught, after: Taught) -> Taught:
    """Returns the next recurrent states, with the teacher and the count of windows as they were."""
    return after._replace(teacher=before.teacher, windows=before.windows)


def first_teacher(params: PyTree) -> PyTree:
  """Returns a copy of the student: buffers of a train state must not be shared."""
  return jax.tree.map(lambda x: jnp.array(x, copy=True), params)


def momentum_at(windows: Int[Array, ""], start: float, final: float, steps: int) -> Array:
  """Returns the momentum, which rises linearly from `start` to `final` in `steps` windows."""
  if not steps:
    return jnp.float32(start)
  share = jnp.minimum(windows.astype(jnp.float32) / steps, 1.0)
  return start + share * (final - start)


def updated_teacher(taught: Taught, student: PyTree, momentum: Array) -> PyTree:
  """Returns the teacher moved towards the student; no gradient flows into it."""
  return momentum_update(jax.lax.stop_gradient(taught.teacher), student, momentum)


def collapse_scores(
  features: Float[Array, "N D"], valid: Bool[Array, "K B"], healthy_rank: float
) -> dict[str, Score]:
  """Returns the numbers of `nn.losses.collapse` as scores without baselines.

  Args:
    features: Of many samples, before any norm that hides a collapse.
    valid: Of the objective's other scores; the numbers are the same for all.
    healthy_rank: See `collapse.alarm`.
  """
  found = collapse.collapse(features)
  numbers = found._asdict() | {"alarm": collapse.alarm(found, healthy_rank)}
  return {
    str(ScoreKey(f"{COLLAPSE}{name}", 0)): Score(jnp.broadcast_to(value, valid.shape), {}, valid)
    for name, value in numbers.items()
  }
