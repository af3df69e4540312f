"""Rows of different streams: row r of B reads the r-th of the sources, and so on in turns."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grain

from perceiver_stream.streams.base import TIMESTAMP, StreamConfig
from perceiver_stream.types import IS_FIRST, ModalitySpec, valid_key


@dataclass(kw_only=True)
class Config(StreamConfig):
  """Several streams, shared out among the rows.

  Ticks hold the modalities that all sources have in the same shape; others are left out.

  Attributes:
    sources: Streams by name, in the order of the rows. All must have the tick rate of this config.
  """

  sources: dict[str, StreamConfig] = field(default_factory=dict)

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    super().validate()
    for name, source in self.sources.items():
      source.validate()
      if source.rate_hz != self.rate_hz:
        raise ValueError(
          f"mixture: source '{name}' has rate_hz={source.rate_hz}, the mixture {self.rate_hz}; "
          f"make them equal."
        )


def specs(config: Config) -> dict[str, ModalitySpec]:
  """Returns the specs common to all sources; ranges span those of all.

  Raises:
    ValueError: There are no sources, or they have nothing in common.
  """
  from perceiver_stream import streams  # the list that this file is in

  if not config.sources:
    raise ValueError("mixture: sources is empty; give it streams by name.")
  each = {name: streams.specs(source) for name, source in config.sources.items()}
  first, *others = each.values()
  common = {
    name: _span([known[name] for known in each.values()])
    for name, spec in first.items()
    if all(name in o and (o[name].shape, o[name].dtype) == (spec.shape, spec.dtype) for o in others)
  }
  if not common:
    given = {name: {n: s.shape for n, s in known.items()} for name, known in each.items()}
    raise ValueError(f"mixture: the sources have nothing of one shape in common: {given}.")
  return common


def open_row(config: Config, row: int = 0, num_rows: int = 1) -> grain.IterDataset:
  """Returns the stream of one row, with the modalities of all sources only."""
  from perceiver_stream import streams

  known, sources = specs(config), list(config.sources.values())
  number, inside = row % len(sources), row // len(sources)
  source = sources[number]
  if config.max_ticks:
    most = min(config.max_ticks, source.max_ticks or config.max_ticks)
    source = dataclasses.replace(source, max_ticks=most)
  sharing = len(range(number, num_rows, len(sources)))
  [opened] = streams.open_rows(source, sharing, [inside])
  return opened.map(Keep((*known, *map(valid_key, known), IS_FIRST, TIMESTAMP)))


@dataclass(frozen=True)
class Keep:
  """Leaves some names of a tick."""

  names: tuple[str, ...]

  def __call__(self, tick: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tick with nothing but the names."""
    return {name: tick[name] for name in self.names}


def _span(known: list[ModalitySpec]) -> ModalitySpec:
  low, high = min(s.minimum for s in known), max(s.maximum for s in known)
  return dataclasses.replace(known[0], minimum=low, maximum=high)
