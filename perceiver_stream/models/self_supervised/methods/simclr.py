"""SimCLR: two views of a clip find each other among all views of the batch.

Source: Chen et al. 2020, 2002.05709; google-research/simclr, tf2/objective.py.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from perceiver_stream.models.self_supervised.methods import base
from perceiver_stream.models.self_supervised.methods.base import Method, Outcome, Outputs, Views
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.models.self_supervised.views import Moments
from perceiver_stream.nn.losses.nt_xent import nt_xent


@dataclass(kw_only=True)
class Config:
  """Temperature of the similarities."""

  temperature: float = 0.1

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    base.check_positive("simclr", self, "temperature")


class SimClr(Method):
  """Loss averaged over both directions, as in the paper."""

  name, config_type = "simclr", Config

  def views(self, moments: Moments) -> Views:
    """Returns both augmented clips, as one batch."""
    return {"clips": jnp.concatenate([moments.clip(), moments.clip()])}

  def embed(self, towers: Towers, views: Views) -> Outputs:
    """Returns the projections of both."""
    z = towers.head(towers.video(views["clips"]).features, "projector")
    return dict(zip(("one", "other"), base.halves(z), strict=True))

  def loss(
    self, outputs: Outputs, slow: Outputs, memory: PyTree, valid: Bool[Array, " B"]
  ) -> Outcome:
    """Returns NT-Xent."""
    del slow, memory
    temperature = self.config.temperature
    options = {"temperature": temperature, "as_released": False, "valid": valid}
    loss, _ = nt_xent(outputs["one"], outputs["other"], **options)
    return Outcome(loss, jnp.log(2 * base.num_rows(valid) - 1), outputs["one"])
