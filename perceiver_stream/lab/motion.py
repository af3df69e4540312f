"""Scores of a learner's flow: against the true flow, and by labels moved along it."""

import contextlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt8

from perceiver_stream.evaluation import optical_flow
from perceiver_stream.lab.footage import Footage
from perceiver_stream.lab.sources import MOTION
from perceiver_stream.nn import roughness, sample_bilinear
from perceiver_stream.types import IS_FIRST

AFTER = (1, 4, 8, 16)  # numbers of ticks over which labels are moved
# Titles by name of the score; lower is better for all.
SCORES = {
  "epe": "end-point error, px",
  "epe_things": "end-point error of objects, px",
  "roughness": "roughness of the flow, px",
} | {f"lost@{k}": f"1 - IoU of labels after {k} tick{'s' * (k > 1)}" for k in AFTER}

Flows = Float[np.ndarray, "R N H W 2"]


class Judge:
  """Scores the predicted flow of each tick of held-out footage.

  The flow predicted at tick t points from each pixel of tick t + 1 to its source in tick t, (x, y) pixels.
  The last tick of a recording does not count.

  Args:
    held_out: R rows of ticks, with segmentation and the true motion.
  """

  def __init__(self, held_out: Footage):
    self.held_out = held_out
    self.truth = held_out[MOTION][:, 1:]
    self.same = ~held_out[IS_FIRST][:, 1:]
    self.things = held_out["segmentation"][:, 1:] > 0

  def scores(self, flow: Flows) -> dict[str, float | None]:
    """Returns `SCORES` of the predicted flow of the first N ticks; None if not finite."""
    if not np.all(np.isfinite(flow)):
      return dict.fromkeys(SCORES)
    num = min(flow.shape[1], self.truth.shape[1])
    flow, same = flow[:, :num], self.same[:, :num]
    error = np.linalg.norm(flow - self.truth[:, :num], axis=-1)
    found: dict[str, float | None] = {
      "epe": float(np.mean(error[same])),
      "epe_things": float(np.mean(error[same][self.things[:, :num][same]])),
      "roughness": float(roughness(jnp.asarray(flow[same]))),
    }
    lost = labels_lost(flow, self.held_out["segmentation"], same)
    return found | {f"lost@{after}": value for after, value in lost.items()}

  def rivals(self) -> dict[str, dict[str, float | None]]:
    """Returns the scores of reference flows: the truth, none, and OpenCV's DIS.

    DIS, which must be installed, reads the next frame in one of its two rows. In the other, the
    flow between the last two frames is used for the next.
    """
    flows = {"the truth": self.truth, "no flow": np.zeros_like(self.truth)}
    with contextlib.suppress(ImportError):
      back = _dis(self.held_out["pixels"], self.held_out[IS_FIRST])
      flows |= {"DIS of the last two frames": back[:, :-1], "DIS, sees the next": back[:, 1:]}
    return {name: self.scores(flow) for name, flow in flows.items()}


def labels_lost(
  flow: Flows,
  labels: Int32[np.ndarray, "R M H W"],
  same: Bool[np.ndarray, "R N"],
  after: Sequence[int] = AFTER,
) -> dict[int, float]:
  """Returns 1 - IoU of objects whose labels were moved along successive flows, by number of ticks.

  Labels start from the truth every `max(after)` ticks of a row. The mean is over all objects there.

  Args:
    flow: See `Judge`.
    labels: Of every tick; 0 is the background.
    same: True if tick t + 1 is of the same recording as tick t.
    after: Numbers of ticks.
  """
  most = max(after)
  starts = [
    (r, s)
    for r in range(flow.shape[0])
    for s in range(0, flow.shape[1] - most + 1, most)
    if same[r, s : s + most].all()
  ]
  if not starts:
    raise ValueError(f"labels_lost: no recording has {most + 1} ticks in a row; give longer ones.")
  places = _followed(jnp.asarray(np.stack([flow[r, s : s + most] for r, s in starts])))
  y, x = np.moveaxis(np.rint(np.asarray(places)).astype(int), -1, 0)  # [most, S, H, W]
  first, which = np.stack([labels[r, s] for r, s in starts]), np.arange(len(starts))[:, None, None]
  lost = {}
  for k in after:
    moved, truth = first[which, y[k - 1], x[k - 1]], np.stack([labels[r, s + k] for r, s in starts])
    lost[k] = 1 - float(np.mean(_ious(first, moved, truth)))
  return lost


@jax.jit
def _followed(flow: Float[Array, "S K H W 2"]) -> Float[Array, "K S H W 2"]:
  """Returns, after each of K ticks, the position of each pixel at the start, (row, column)."""
  shape = (flow.shape[0], *flow.shape[2:4])
  rows, columns = (
    jnp.broadcast_to(i.astype(jnp.float32)[None], shape) for i in jnp.mgrid[: shape[1], : shape[2]]
  )

  def tick(places: Array, flow: Array) -> tuple[Array, Array]:
    places = sample_bilinear(places, rows + flow[..., 1], columns + flow[..., 0])
    return places, places

  return jax.lax.scan(tick, jnp.stack([rows, columns], -1), jnp.moveaxis(flow, 1, 0))[1]


def _ious(first: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> list[float]:
  """Returns the IoU of predicted and true masks of every object of the first image."""
  found = []
  for labels, *pair in zip(first, predicted, truth, strict=True):
    for thing in np.unique(labels[labels > 0]):
      one, other = (x == thing for x in pair)
      if either := np.sum(one | other):
        found.append(float(np.sum(one & other) / either))
  return found


def _dis(
  frames: UInt8[np.ndarray, "R M H W 3"], is_first: Bool[np.ndarray, "R M"]
) -> Float[np.ndarray, "R M H W 2"]:
  """Returns the flow from every tick to the one before; none from the first of a recording."""
  back = np.zeros((*frames.shape[:-1], 2), np.float32)
  for row, tick in zip(*np.nonzero(~is_first[:, 1:]), strict=True):
    back[row, tick + 1] = optical_flow.dis_flow(frames[row, tick + 1], frames[row, tick])
  return back
