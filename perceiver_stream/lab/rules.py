"""The learning rule: optimiser, frequency of steps, order of clips, replay."""

import dataclasses
from dataclasses import dataclass, field

import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from perceiver_stream.lab import memory
from perceiver_stream.training.optimizers import OptimizerConfig, make_optimizer

# Every learner is run with the same number of learning rates: five, half a decade apart.
RATES = {
  "sgd": (1e-2, 3e-2, 1e-1, 3e-1, 1.0),
  "rmsprop": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
  "adamw": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
}


@dataclass(frozen=True, kw_only=True)
class Rule:
  """A learning rule.

  Attributes:
    optimizer: Name, moments, cadence, orthogonal gradients; its learning rate is not used.
    shuffled: If True, the clips of the stream come in random order, each once: the reference.
    replay: Number of clips from a memory that are used in the step of each new one.
    short: Number of newest clips in the memory; 0 is none.
    long: Size of the uniform sample of all older clips in the memory.
    average: Decay of the average of the parameters that is scored out of the stream, per clip; 0
      scores the parameters themselves.
  """

  optimizer: OptimizerConfig = field(default_factory=lambda: optimizer("rmsprop"))
  shuffled: bool = False
  replay: int = 0
  short: int = 0
  long: int = 0
  average: float = 0.0

  def __post_init__(self):
    if self.replay and not self.short + self.long:
      raise ValueError(f"rule: replay={self.replay} clips from no memory; set short or long.")
    if not 0 <= self.average < 1:
      raise ValueError(f"rule: average={self.average}; use 0 (none) to below 1.")

  @property
  def rates(self) -> tuple[float, ...]:
    """Learning rates to try: higher where steps are fewer, by the square root of the cadence."""
    return tuple(rate * self.optimizer.cadence**0.5 for rate in RATES[self.optimizer.name])

  def order(self, num_clips: int, seed: int) -> Int[np.ndarray, "n B"]:
    """Returns the indices of the clips of every step: a new clip, then those replayed."""
    rng = np.random.default_rng((seed, 1))
    order = rng.permutation(num_clips) if self.shuffled else np.arange(num_clips)
    order = order.astype(np.int32)
    if not self.replay:
      return order[:, None]
    kept = memory.TwoTier(self.short, self.long, rng)
    return memory.with_replay(order, kept, self.replay, rng)

  def transform(self, rate: Float[Array, ""]) -> optax.GradientTransformation:
    """Returns the optimiser at a learning rate, which may be traced: one program for all."""
    unit = dataclasses.replace(self.optimizer, learning_rate=1.0)
    return optax.chain(make_optimizer(unit), optax.scale(rate))

  def averaged(self, average: PyTree, params: PyTree) -> PyTree:
    """Returns the average after another step."""
    if not self.average:
      return params
    return jax.tree.map(lambda a, p: self.average * a + (1 - self.average) * p, average, params)


def optimizer(
  name: str, b1: float = 0.0, cadence: int = 1, orthogonal: str = ""
) -> OptimizerConfig:
  """Returns an optimiser of the lab: no clipping, no warm-up, no decay."""
  return OptimizerConfig(
    name=name, b1=b1, b2=0.99, clip_norm=0.0, cadence=cadence, orthogonal=orthogonal
  )


# Named in "Learning from one continuous video stream"; baby learning after guided pretraining,
# standard deep learning after masked.
PRESETS = {
  "baby learning": Rule(optimizer=optimizer("rmsprop", cadence=16)),
  "standard": Rule(optimizer=optimizer("adamw", 0.9)),
}
