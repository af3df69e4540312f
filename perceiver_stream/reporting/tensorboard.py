"""Event files for TensorBoard, written without its own queue and thread."""

import os
import pathlib
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from perceiver_stream.reporting.images import png_bytes
from perceiver_stream.reporting.run_files import Appended


class TensorBoard:
  """An event file of the same numbers; steps after the one resumed from are taken back.

  It is written at once and in this thread: an error is raised where it happens.
  """

  def __init__(self, folder: pathlib.Path, first_step: int):
    """Starts a new file; TensorBoard then hides later steps of earlier sessions."""
    from tensorboardX.proto import event_pb2, summary_pb2

    events: Any = event_pb2  # made at run time: type checkers see nothing in them
    summaries: Any = summary_pb2
    self._event, self._summary = events.Event, summaries.Summary
    folder.mkdir(parents=True, exist_ok=True)
    name = f"events.out.tfevents.{time.time_ns() / 1e9:.6f}.{socket.gethostname()}.{os.getpid()}"
    self._file = Appended(folder / name)
    self._write(file_version="brain.Event:2")
    if first_step:
      start = events.SessionLog(status=events.SessionLog.START)
      self._write(step=first_step + 1, session_log=start)

  def add(self, step: int, record: Mapping[str, Any]) -> None:
    """Writes every number of a nested record under its path."""
    values = [
      self._summary.Value(tag=tag.replace("@", "_"), simple_value=number)
      for tag, number in _numbers(record)
    ]
    self._write(step=step, summary=self._summary(value=values))

  def add_image(self, step: int, name: str, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    """Writes an RGB image."""
    height, width, _ = picture.shape
    png = self._summary.Image(
      height=height, width=width, colorspace=3, encoded_image_string=png_bytes(picture)
    )
    self._write(step=step, summary=self._summary(value=[self._summary.Value(tag=name, image=png)]))

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _write(self, **fields: Any) -> None:
    """Writes an event as a TFRecord."""
    from tensorboardX.record_writer import masked_crc32c

    data = self._event(wall_time=time.time(), **fields).SerializeToString()
    size = struct.pack("<Q", len(data))
    crcs = [struct.pack("<I", masked_crc32c(part)) for part in (size, data)]
    self._file.write(size + crcs[0] + data + crcs[1])


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
  for name, value in record.items():
    if isinstance(value, Mapping):
      yield from _numbers(value, f"{prefix}{name}/")
    elif isinstance(value, int | float) and not isinstance(value, bool):
      yield f"{prefix}{name}", value
