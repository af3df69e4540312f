"""The tables, one file each; this list is the only other place that names them."""

from perceiver_stream.lab.tables import (
  cadence,
  gap,
  length,
  models,
  momentum,
  ordered_vs_shuffled,
  pretraining,
  state,
  streams,
  video_autoencoder,
)
from perceiver_stream.lab.tables.base import Table as Table

_ALL = (
  cadence,
  momentum,
  ordered_vs_shuffled,
  gap,
  pretraining,
  models,
  state,
  length,
  streams,
  video_autoencoder,
)
TABLES = {module.__name__.rpartition(".")[2]: module.TABLE for module in _ALL}
