"""Streams: one file per kind; this list is the only other place that names them.

To add one, write `streams/<name>.py` with a `Config` (see `base.StreamConfig`), `specs(config)`
and `open_row(config, row, num_rows)`, and name it in `STREAMS`. `base` defines the protocol;
the conformance tests pick it up from here.

  config = streams.video.Config(path="walk.mp4", rate_hz=25)
  rows = streams.open_rows(config)
  for window in streams.prefetch(streams.windows(rows, window=8, max_displacement=16)):
    ...  # window["pixels"]: uint8 [24, 1, H, W, 3]
"""

from collections.abc import Sequence
from types import ModuleType

import grain

from perceiver_stream.streams import (
  bags,
  balls,
  countdown,
  events,
  images,
  labelled_clips,
  lerobot,
  live,
  maze,
  mixture,
  mujoco,
  pulses,
  rooms,
  shards,
  synthetic,
  tfrecord,
  video,
  vizdoom,
  waymo,
)
from perceiver_stream.streams.base import StreamConfig as StreamConfig
from perceiver_stream.streams.prefetch import prefetch as prefetch
from perceiver_stream.streams.windows import windows as windows
from perceiver_stream.types import ModalitySpec

STREAMS = (
  video,
  synthetic,
  mixture,
  shards,
  images,
  tfrecord,
  vizdoom,
  mujoco,
  balls,
  maze,
  pulses,
  countdown,
  events,
  rooms,
  live,
  bags,
  lerobot,
  labelled_clips,
  waymo,
)


def open_rows(
  config: StreamConfig, num_rows: int = 1, only: Sequence[int] | None = None
) -> list[grain.IterDataset]:
  """Returns `num_rows` parallel streams, one per batch row.

  How a config is shared out between rows is up to the kind of stream: files are dealt like cards,
  row r of B gets the files r, r + B, ... of the list; synthetic rows differ in their seed. Rows
  differ in length; `windows` documents what happens when one has ended.

  Args:
    config: Of the streams.
    num_rows: Among which they are shared out.
    only: The rows to open, where others are opened elsewhere; None is all.

  Raises:
    TypeError: No stream in `STREAMS` has this type of config.
    ValueError: A field is wrong, or there is not enough for every row.
  """
  if num_rows < 1:
    raise ValueError(f"streams.open_rows: num_rows={num_rows}; use at least 1.")
  kind = _kind(config)
  config.validate()
  return [
    kind.open_row(config, row, num_rows) for row in (range(num_rows) if only is None else only)
  ]


def specs(config: StreamConfig) -> dict[str, ModalitySpec]:
  """Returns the spec of each modality of a tick; opens nothing."""
  config.validate()
  return _kind(config).specs(config)


def _kind(config: StreamConfig) -> ModuleType:
  for kind in STREAMS:
    if type(config) is kind.Config:
      return kind
  known = ", ".join(f"{kind.__name__.removeprefix('perceiver_stream.')}.Config" for kind in STREAMS)
  raise TypeError(
    f"no stream has a config of type {type(config).__qualname__} ({type(config).__module__}); "
    f"use one of {known}, or add its file to STREAMS."
  )
