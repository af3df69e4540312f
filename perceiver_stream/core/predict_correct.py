"""The recurrence of MooG: predict the next latents, then correct them with the observed tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import haiku as hk
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from perceiver_stream.core.base import Core, CoreConfig, CoreInputs, detach_rows, reset_rows
from perceiver_stream.nn import (
  LayerNorm,
  LearnedPositions,
  ParallelBlock,
  Precision,
  coordinates,
  fourier_linear,
  shard_axis,
  where_rows,
)
from perceiver_stream.types import Layers
from perceiver_stream.utils.renamed_fields import Moved, renamed_fields

EMBEDDINGS = ("none", "learned", "grid")
_BANDS = 8  # of the positions of latents


class Step(NamedTuple):
  """States of one tick: before it, predicted for it, and corrected by its tokens."""

  before: Float[Array, "B L D"]
  predicted: Float[Array, "B L D"]
  corrected: Float[Array, "B L D"]


@renamed_fields(
  identity=Moved("latent_embedding", {False: "none", True: "learned"}),
  places=Moved("latent_embedding", {True: "grid"}),
)
@dataclass(kw_only=True)
class PredictCorrectConfig(CoreConfig):
  """Sizes of a `PredictCorrect` core.

  Attributes:
    num_predict_layers: Self-attention blocks that predict the latents of the next tick.
    num_correct_layers: Self + cross-attention blocks that read the tokens.
    latent_embedding: Learned vector that is added to each latent at every tick. `"none"`: latents
      differ only in their initial value; in our trained models they collapsed to one vector within
      four ticks. `"learned"`: it is initialised with noise. `"grid"`: it is initialised with
      Fourier features of a regular grid; latents remain free to move.
  """

  num_predict_layers: Layers = 1
  num_correct_layers: Layers = 1
  latent_embedding: str = "none"

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    if self.latent_embedding not in EMBEDDINGS:
      raise ValueError(
        f"PredictCorrectConfig: latent_embedding {self.latent_embedding!r} is not one of {EMBEDDINGS}."
      )


def grid_embedding(num: int, dim: int) -> Float[np.ndarray, "L D"]:
  """Returns embeddings of the cells of a row-major grid of `num` cells, as square as possible.

  They are Fourier features of the centres, projected at random to `dim` numbers of about unit size.
  """
  rows = next(r for r in range(math.isqrt(num), 0, -1) if num % r == 0)
  grid = (rows, num // rows)
  features = fourier_linear(coordinates(grid), _BANDS, [max(2, n) for n in grid])
  mix = np.random.default_rng(0).standard_normal((features.shape[1], dim))
  return features @ mix / np.sqrt(np.mean(np.sum(np.square(features), axis=1)))


class PredictCorrect(Core):
  """s ← norm(correct(predict(s), tokens)), or with `norm_first` s ← correct(predict(norm(s)), tokens).

  The state is an array `[B, L, D]`, float32. The submodules own the parameters, so parameter
  names are those of the module that creates them.

  Source: van Steenkiste et al. 2024 (MooG); representations4d `moog/modules.py`. Differs: tokens
  of several modalities, masked per row; a tick without tokens keeps the prediction.

  Args:
    first: Maps the number of rows to the initial state.
    predict: Maps the state to the predicted state of the next tick.
    correct: Maps the predicted state and the inputs of the tick to the corrected state.
    norm: Normalises a state, so that it stays bounded on streams of any length.
    norm_first: Normalise the state before the step instead of after it.
    name: Haiku name.
  """

  def __init__(
    self,
    *,
    first: Callable[[int], Array],
    predict: Callable[[Array], Array],
    correct: Callable[[Array, CoreInputs], Array],
    norm: Callable[[Array], Array],
    norm_first: bool = False,
    name: str,
  ):
    super().__init__(name=name)
    self.first = first
    self.predict = predict
    self.correct = correct
    self.norm = norm
    self.norm_first = norm_first

  def initial_state(self, batch_size: int) -> Float[Array, "B L D"]:
    """Returns the initial state, repeated for each row."""
    return self.first(batch_size)

  def __call__(
    self, inputs: CoreInputs, prev_state: Float[Array, "B L D"]
  ) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"]]:
    """Returns the next state twice: as output and as state."""
    step, next_state = self.step(inputs, prev_state)
    return step.corrected, next_state

  def step(
    self, inputs: CoreInputs, prev_state: Float[Array, "B L D"]
  ) -> tuple[Step, Float[Array, "B L D"]]:
    """Returns the states of a tick and the next state, the corrected one."""
    first = lambda: self.first(prev_state.shape[0])  # noqa: E731
    state = detach_rows(inputs, reset_rows(inputs, prev_state, first))
    state = self.norm(state) if self.norm_first else state
    predicted = self.predict(state)
    corrected = self.correct(predicted, inputs)
    if inputs.valid is not None:
      corrected = where_rows(inputs.valid, corrected, predicted)
    corrected = corrected if self.norm_first else self.norm(corrected)
    return Step(state, predicted, corrected), corrected

  def ahead(self, state: Float[Array, "B L D"], num_ticks: int) -> Float[Array, "T B L D"]:
    """Returns the predicted states of the next ticks, each predicted from the previous one."""

    def tick(state: Array, nothing: None) -> tuple[Array, Array]:
      del nothing
      predicted = self.predict(self.norm(state) if self.norm_first else state)
      return predicted if self.norm_first else self.norm(predicted), predicted

    return hk.scan(tick, state, None, num_ticks)[1]


def predict_correct(
  config: PredictCorrectConfig, precision: Precision, *, name: str
) -> PredictCorrect:
  """Returns a core of `ParallelBlock`s with learned initial state and latent embedding."""
  c, cast = config, precision.cast
  c.validate()
  sizes = {"qkv_dim": c.latent_dim, "mlp_dim": c.mlp_factor * c.latent_dim}
  with hk.name_scope(name):
    first = LearnedPositions(c.num_latents, c.latent_dim, name="first_latents")
    on_grid = c.latent_embedding == "grid"
    start = grid_embedding(c.num_latents, c.latent_dim) if on_grid else None
    own = LearnedPositions(
      c.num_latents, c.latent_dim, init_scale=1.0, start=start, name="identity"
    )
    block = lambda name: ParallelBlock(c.num_heads, **sizes, name=name)  # noqa: E731
    predictors = [block(f"predict_{i}") for i in range(c.num_predict_layers)]
    correctors = [block(f"correct_{i}") for i in range(c.num_correct_layers)]
    norm = LayerNorm(use_offset=False, eps=1e-4, name="state_norm")

  def predict(x: Array) -> Array:
    x = shard_axis(cast(x))
    x = x if c.latent_embedding == "none" else x + cast(own(x.shape[0]))
    for predictor in predictors:
      x = predictor(x)
    return x

  def correct(x: Array, inputs: CoreInputs) -> Array:
    for corrector in correctors:
      x = corrector(x, inputs.tokens, inputs.visible)
    return x.astype(jnp.float32)

  return PredictCorrect(
    first=first,
    predict=predict,
    correct=correct,
    norm=lambda x: shard_axis(norm(x)),
    name=f"{name}_recurrence",
  )
