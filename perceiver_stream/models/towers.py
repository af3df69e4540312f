"""Towers: networks of clips with batch norms of released Haiku models, alone or in a model of several."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from perceiver_stream.models.clips import (
  ClipEncoder,
  ClipOutputs,
  ClipSpec,
  as_clip_encoder,
  outputs_of,
)
from perceiver_stream.nn.debiased_batch_norm import NormMode
from perceiver_stream.nn.timeline import Timeline


class TowerOutput(NamedTuple):
  """Output of a tower.

  Attributes:
    features: Mean over space and time, `[B, C]`.
    stages: By name, each `[B, T, h, w, C]`; the tower states the names.
  """

  features: Float[Array, "B C"]
  stages: dict[str, Float[Array, "B T h w C"]]


Tower = Callable[[Float[Array, "B T H W 3"], NormMode], TowerOutput]


def tower_encoder(
  make_tower: Callable[[], Tower], config: Any, *, last: str, name: str, reason: str
) -> ClipEncoder:
  """Returns a tower alone, as an encoder of clips.

  Args:
    make_tower: Called inside a Haiku transform.
    config: With `num_frames`, `height` and `width` of the published clips; stored for reference.
    last: Stage that gives the features of the encoder.
    name: Name of the family.
    reason: Why it is not causal, a sentence.
  """

  def network(
    clips: Float[Array, "B T H W 3"], timeline: Timeline, is_training: bool
  ) -> tuple[ClipOutputs, Timeline]:
    found = make_tower()(clips, NormMode(is_training))
    return outputs_of(found.stages[last], found.features, None, found.stages), timeline

  spec = ClipSpec(num_frames=config.num_frames, height=config.height, width=config.width)
  return as_clip_encoder(lambda: network, config, spec, name=name, reason=reason)
