"""What a run writes while it learns: metrics.jsonl, timing.jsonl, TensorBoard.

`metrics.jsonl` holds nothing that depends on the machine, so that a run that was stopped and
resumed has the same lines as one that never was; times are in `timing.jsonl`.
"""

import json
import os
import pathlib
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from perceiver_stream.files import limits
from perceiver_stream.reporting.images import png_bytes

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"


class Appended:
  """A file to whose end records are written, each of them at once."""

  def __init__(self, path: pathlib.Path, size: int = 0):
    """Opens the file and cuts it to its first `size` bytes."""
    self.path = path
    self._file = path.open("r+b" if path.exists() else "wb", buffering=0)
    self._file.truncate(size)
    self._file.seek(size)

  def write(self, record: bytes) -> None:
    """Writes a record; raises OSError where not all of it could be written."""
    left = memoryview(record)
    while left:
      left = left[self._file.write(left) :]

  def sync(self) -> None:
    """Returns when everything is on the disk, where a checkpoint will count on it."""
    os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file; nothing waits to be written."""
    self._file.close()


class JsonLines(Appended):
  """A file of one JSON object per line that can be cut back to what a checkpoint knew."""

  def __init__(self, path: pathlib.Path, keep_lines: int = 0):
    """Opens the file and keeps its first lines.

    Raises:
      ValueError: It has fewer.
    """
    kept = []
    if keep_lines and path.exists():
      lines = limits.read_bytes(path).splitlines(keepends=True)[:keep_lines]
      kept = [line for line in lines if line.endswith(b"\n")]
    if len(kept) < keep_lines:
      raise ValueError(
        f"{path} has {len(kept)} lines where the checkpoint knows of {keep_lines}; it was "
        f"changed since. Restore it, or start again in another run_dir."
      )
    self.num_lines = len(kept)
    super().__init__(path, sum(map(len, kept)))

  def append(self, record: Mapping[str, Any]) -> None:
    """Writes one line; numbers that are not finite must have become None before."""
    self.write(json.dumps(record, allow_nan=False).encode() + b"\n")
    self.num_lines += 1


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the records of a file that `JsonLines` wrote; a last line cut short is left out."""
  lines = limits.read_bytes(path).splitlines(keepends=True)
  return [json.loads(line) for line in lines if line.endswith(b"\n")]


def lines_until(path: pathlib.Path, window: int) -> int:
  """Returns how many lines of a file that `JsonLines` wrote are about windows up to a number.

  Only lines before the first that is damaged or of a later window count.
  """
  count = 0
  for line in limits.read_bytes(path).splitlines(keepends=True) if path.exists() else ():
    try:
      is_known = line.endswith(b"\n") and json.loads(line)["window"] <= window
    except (ValueError, TypeError, LookupError, RecursionError):
      is_known = False
    if not is_known:
      break
    count += 1
  return count


class TensorBoard:
  """An event file of the same numbers; steps after the one resumed from are taken back.

  It is written at once and in this thread: an error is raised where it happens.
  """

  def __init__(self, folder: pathlib.Path, first_step: int):
    """Starts a file beside those of earlier sessions, whose later steps TensorBoard then hides."""
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

  def add_picture(self, step: int, name: str, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    """Writes an RGB picture."""
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
