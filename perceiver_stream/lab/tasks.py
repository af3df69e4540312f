"""Tasks: the target image of a frame, and its score."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from perceiver_stream.lab import colours

SHOWS = ("pixels", "depth", "segmentation")


@dataclass(frozen=True, kw_only=True)
class Task:
  """RGB clip in, RGB image for every frame out; the loss is always the mean squared error.

  Attributes:
    shows: One of `SHOWS`.
    displacement: Ticks from a frame to the tick of its target; 0 is the frame's own.
    num_classes: Colours of a segmentation.
    nearest: Depth that is black, metres.
    farthest: Depth that is white, metres.
  """

  shows: str = "pixels"
  displacement: int = 4
  num_classes: int = 8
  nearest: float = 0.25
  farthest: float = 64.0

  def __post_init__(self):
    if self.shows not in SHOWS:
      raise ValueError(f"task: shows={self.shows!r}; use one of {', '.join(SHOWS)}.")
    if self.displacement < 0:
      raise ValueError(f"task: displacement={self.displacement}; use 0 or more ticks.")

  @property
  def error(self) -> str:
    """The name of `score`; lower is better."""
    return {"pixels": "squared error", "depth": "relative error", "segmentation": "1 - mIoU"}[
      self.shows
    ]

  @property
  def num_sums(self) -> int:
    """Number of sums that `measure` returns, M."""
    return 2 * self.num_classes if self.shows == "segmentation" else 2

  def paint(self, footage: Mapping[str, np.ndarray]) -> UInt8[np.ndarray, "*n H W 3"]:
    """Returns the target image of every tick.

    Raises:
      ValueError: The footage has nothing of the kind.
    """
    if self.shows not in footage:
      raise ValueError(f"task: the footage has {sorted(footage)}, but no {self.shows!r} to paint.")
    truth = footage[self.shows]
    if self.shows == "depth":
      return colours.paint_depth(truth, self.nearest, self.farthest)
    if self.shows == "segmentation":
      return colours.paint_classes(truth, self.num_classes)
    return truth

  def measure(
    self,
    painted: Float[Array, "N H W 3"],
    picture: Float[Array, "N H W 3"],
    counts: Bool[Array, " N"],
  ) -> Float[Array, " M"]:
    """Returns sums over a clip that can be added, and from which `score` computes an error.

    Args:
      painted: Prediction of the learner.
      picture: The target; in [0, 1].
      counts: True where a target counts.
    """
    weight = jax.lax.broadcast_in_dim(counts.astype(jnp.float32), picture.shape[:3], (0,))
    if self.shows == "segmentation":
      predicted, truth = (
        jax.nn.one_hot(colours.read_classes(x, self.num_classes), self.num_classes)
        for x in (painted, picture)
      )
      either = jnp.maximum(predicted, truth)
      return jnp.concatenate(
        [jnp.einsum("nhw,nhwk->k", weight, x) for x in (predicted * truth, either)]
      )
    error = jnp.mean(jnp.square(painted - picture), -1)
    if self.shows == "depth":
      predicted, truth = (
        colours.read_depth(x, self.nearest, self.farthest) for x in (painted, picture)
      )
      error = jnp.abs(predicted - truth) / truth
    return jnp.stack([jnp.sum(weight * error), jnp.sum(weight)])

  def score(
    self, sums: Float[np.ndarray, "*n M"] | Float[Array, "*n M"]
  ) -> Float[np.ndarray, "*n"]:
    """Returns the error from sums; lower is better, NaN without any target."""
    first, second = np.split(np.asarray(sums, np.float64), 2, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
      ratio = first / second
      if self.shows == "segmentation":  # classes in neither do not count
        ratio = 1 - np.nansum(ratio, -1, keepdims=True) / np.sum(second > 0, -1, keepdims=True)
    return np.asarray(ratio[..., 0])
