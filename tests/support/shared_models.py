"""Models of equal configs are one model within a session, so that each is compiled once."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from quick_init import with_quick_init

from perceiver_stream import zoo
from perceiver_stream.models.base import Model


def shared(build: Callable[[Any], Model]) -> Callable[[Any], Model]:
  """Returns `build`, which gives equal configs the same pure functions.

  Each caller gets its own config and its own dict of modalities: changes of them reach nobody else.
  """
  known: dict[str, Model] = {}

  def built(config: Any) -> Model:
    key = repr(config)
    if key not in known:
      known[key] = with_quick_init(build(copy.deepcopy(config)))
    model = known[key]
    return model._replace(config=config, modalities=dict(model.modalities))

  return built


def share_models() -> None:
  """Makes `zoo.build` share what it builds, for the rest of the process."""
  for name, family in zoo.FAMILIES.items():
    zoo.FAMILIES[name] = dataclasses.replace(family, build=shared(family.build))
