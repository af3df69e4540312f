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
  f"{COLLAPSE}{name}": (f"{COLLAPSE}{name}", name)
  for name in (*collapse.Collapse._fields, "clip_std", "alarm")
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
  features: Float[Array, "B P D"],
  counted: Bool[Array, " B"],
  valid: Bool[Array, "K B"],
  healthy_rank: float,
) -> dict[str, Score]:
  """Returns the numbers of `nn.losses.collapse` as scores without baselines.

  `collapse_clip_std` needs two clips, the others two tokens; without them they are not valid.

  Args:
    features: Of each clip at P places, before any norm that hides a collapse.
    counted: False for clips that are left out.
    valid: Of the objective's other scores; the numbers are the same for all.
    healthy_rank: See `collapse.alarm`.
  """
  tokens = features.reshape(-1, features.shape[-1])
  found = collapse.collapse(tokens, jnp.repeat(counted, features.shape[1]))
  over_clips, clips = collapse.clip_std(features, counted), jnp.sum(counted)
  several, enough = clips >= 2, clips * features.shape[1] >= 2
  alike = several & (over_clips < collapse.TOTAL_STD)
  alarm = jnp.where(enough, jnp.where(alike, 1.0, collapse.alarm(found, healthy_rank)), 0.0)
  numbers = {name: (value, enough) for name, value in found._asdict().items()}
  numbers |= {"clip_std": (over_clips, several), "alarm": (alarm, enough)}
  return {
    str(ScoreKey(f"{COLLAPSE}{name}", 0)): Score(
      jnp.broadcast_to(value, valid.shape), {}, valid & known
    )
    for name, (value, known) in numbers.items()
  }
