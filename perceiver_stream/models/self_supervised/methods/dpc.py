"""DPC: features of the next blocks of frames, place by place, are predicted from those before.

Source: Han et al. 2019, 1909.04656; TengdaHan/DPC: a recurrent cell with 1 × 1 kernels, targets before
their ReLU, negatives of other places, other times and other clips together.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import Method, Outcome, Outputs, Views
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.models.self_supervised.views import Moments
from perceiver_stream.nn.losses import dpc
from perceiver_stream.types import Size


@dataclass(kw_only=True)
class Config:
  """Blocks of a clip.

  Attributes:
    block: Frames of a block; 5 in the release.
    predicted: Blocks at the end of a clip that are predicted; 3 of 8 in the release.
  """

  block: Size = 2
  predicted: Size = 2

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("dpc", self, "block", "predicted")


class Dpc(Method):
  """Features for downstream use are the state of the cell after all blocks, the mean over places."""

  name, config_type = "dpc", Config

  @classmethod
  def nano(cls) -> Config:
    """Returns one predicted block of one frame."""
    return Config(block=1, predicted=1)

  def views(self, moments: Moments) -> Views:
    """Returns a clip."""
    return {"clip": moments.clip()}

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns predictions and targets, `[B, P, S, D]`."""
    z, last = self._blocks(towers, views["clip"]), self.config.predicted
    if z.shape[1] <= last:
      raise ValueError(
        f"dpc: predicted={last} of {z.shape[1]} blocks of {self.config.block} frames; use fewer, or a "
        f"longer window."
      )
    cell, predict = self._cell(towers), self._predictor(towers)
    predicted = dpc.predicted_steps(jax.nn.relu(z[:, :-last]), cell, predict, last)
    return {"predicted": predicted, "target": z[:, -last:]}

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns the cross-entropy of each prediction's own target."""
    del slow, memory
    predicted, target = outputs["predicted"], outputs["target"]
    loss = dpc.dpc_loss(dpc.dpc_scores(predicted, target, valid), valid)
    places = float(target.shape[1] * target.shape[2])
    shown = jnp.mean(target, axis=(1, 2))
    return Outcome(loss, base.logarithm(base.num_rows(valid), places), shown)

  def clip_features(self, towers: Towers, clips: Float[Array, "B T H W 3"]) -> Float[Array, "B D"]:
    """Returns the mean state over places."""
    z, cell = self._blocks(towers, clips), self._cell(towers)
    state = jnp.zeros_like(z[:, 0])
    for i in range(z.shape[1]):
      state = cell(jax.nn.relu(z[:, i]), state)
    return jnp.mean(state, axis=1)

  def _blocks(self, towers: Towers, clips: Array) -> Float[Array, "B N S D"]:
    """Returns the embeddings of the places of all blocks."""
    rows, num = clips.shape[0], clips.shape[1] // self.config.block
    blocks = clips[:, : num * self.config.block]
    blocks = blocks.reshape(rows * num, self.config.block, *clips.shape[2:])
    maps = jnp.mean(towers.video(blocks).stages["last"], axis=1)
    z = towers.linear(maps, "place_head")
    return z.reshape(rows, num, -1, z.shape[-1])

  def _cell(self, towers: Towers):
    def cell(x: Array, state: Array) -> Array:
      both = jnp.concatenate([x, state], axis=-1)
      gate = lambda y, name: towers.linear(y, f"cell_{name}")  # noqa: E731
      update, reset = (jax.nn.sigmoid(gate(both, name)) for name in ("update", "reset"))
      new = jnp.tanh(gate(jnp.concatenate([x, reset * state], axis=-1), "new"))
      return (1 - update) * state + update * new

    return cell

  def _predictor(self, towers: Towers):
    def predict(state: Array) -> Array:
      hidden = jax.nn.relu(towers.linear(state, "predictor_0"))
      return towers.linear(hidden, "predictor_1")

    return predict
