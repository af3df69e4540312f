"""What a run writes while it learns: metrics.jsonl, timing.jsonl, TensorBoard.

`metrics.jsonl` holds nothing that depends on the machine, so that a run that was stopped and
resumed has the same lines as one that never was; times are in `timing.jsonl`.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"


@dataclass(kw_only=True)
class LogConfig:
  """What is shown and how often.

  Attributes:
    print_every: Windows between lines where the output is not a terminal, and between timings.
    strips_every: Windows between film strips kept for the report; 0 is none.
    use_tensorboard: Whether event files are written to `run_dir/tensorboard`.
    use_report: Whether `report.html` is written at the end.
  """

  print_every: int = 20
  strips_every: int = 50
  use_tensorboard: bool = True
  use_report: bool = True

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    if self.print_every < 1 or self.strips_every < 0:
      raise ValueError(
        f"logging: print_every={self.print_every} must be 1 or more and "
        f"strips_every={self.strips_every} 0 (none) or more."
      )


class JsonLines:
  """A file of one JSON object per line that can be cut back to what a checkpoint knew."""

  def __init__(self, path: pathlib.Path, keep_lines: int | None = 0):
    """Opens the file and keeps its first lines; None keeps all."""
    self.path = path
    self.num_lines = 0
    kept = b""
    if keep_lines != 0 and path.exists():
      lines = path.read_bytes().splitlines(keepends=True)[:keep_lines]
      whole = [line for line in lines if line.endswith(b"\n")]
      kept, self.num_lines = b"".join(whole), len(whole)
    if keep_lines and self.num_lines < keep_lines:
      raise ValueError(
        f"{path} has {self.num_lines} lines where the checkpoint knows of {keep_lines}; it was "
        f"changed since. Restore it, or start again in another run_dir."
      )
    self._file = path.open("r+b" if path.exists() else "wb")
    self._file.truncate(len(kept))
    self._file.seek(len(kept))

  def append(self, record: Mapping[str, Any]) -> None:
    """Writes one line; numbers that are not finite must have become None before."""
    self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
    self._file.flush()
    self.num_lines += 1

  def sync(self) -> None:
    """Returns when all lines are on the disk, where a checkpoint will count on them."""
    os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the records of a file that `JsonLines` wrote; a last line cut short is left out."""
  lines = path.read_bytes().splitlines(keepends=True)
  return [json.loads(line) for line in lines if line.endswith(b"\n")]


class TensorBoard:
  """Event files of the same numbers; steps after the one resumed from are taken back."""

  def __init__(self, folder: pathlib.Path, first_step: int):
    import tensorboardX

    self._writer = tensorboardX.SummaryWriter(str(folder), purge_step=first_step or None)

  def add(self, step: int, record: Mapping[str, Any], prefix: str = "") -> None:
    """Writes every number of a nested record under its path."""
    for name, value in record.items():
      if isinstance(value, Mapping):
        self.add(step, value, f"{prefix}{name}/")
      elif isinstance(value, int | float) and not isinstance(value, bool):
        self._writer.add_scalar(f"{prefix}{name}".replace("@", "_"), value, step)

  def add_picture(self, step: int, name: str, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    """Writes an RGB picture."""
    self._writer.add_image(name, picture, step, dataformats="HWC")

  def close(self) -> None:
    """Writes what is left and closes the files."""
    self._writer.close()
