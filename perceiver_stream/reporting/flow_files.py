"""Optical flow in files: Middlebury's `.flo`, and `.npz` of one flow or a whole video.

Flows are `[H, W, 2]` (x, y) in pixels. Unknown flow is NaN in memory and larger than 1e9 in a
`.flo` file.

Source: Baker et al. 2011, "A Database and Evaluation Methodology for Optical Flow", `README.txt` of
its code: the tag `PIEH` (the float 202021.25), width and height as int32, then rows of (x, y).
"""

import contextlib
import pathlib
import struct
import zipfile
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from perceiver_stream.files.array_files import read_npz
from perceiver_stream.utils import atomic
from perceiver_stream.utils.paths import user_path

TAG = b"PIEH"
UNKNOWN = 1e9
MAX_SIDE = 99_999  # of Middlebury's own reader


def write_flo(path: str | pathlib.Path, flow: Num[np.ndarray, "H W 2"]) -> None:
  """Writes a `.flo` file."""
  height, width = flow.shape[:2]
  known = np.isfinite(flow).all(axis=-1, keepdims=True)
  data = np.where(known, flow, 10 * UNKNOWN).astype("<f4")
  user_path(path).write_bytes(TAG + struct.pack("<ii", width, height) + data.tobytes())


def read_flow(path: str | pathlib.Path) -> Float[np.ndarray, "H W 2"]:
  """Returns the flow of a `.flo` file, or of an `.npz` file under the name `flow`; float32.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: The file holds no flow, or is damaged.
  """
  path = user_path(path)
  if not path.is_file():
    raise FileNotFoundError(f"flow: there is no file {path}; check the path.")
  return _read_npz(path) if path.suffix == ".npz" else _read_flo(path)


def _read_flo(path: pathlib.Path) -> np.ndarray:
  size = path.stat().st_size
  with path.open("rb") as file:
    head = file.read(12)
    if len(head) < 12 or head[:4] != TAG:
      raise ValueError(f"{path} starts with {head[:4]!r}, not {TAG!r}: it is no .flo file.")
    width, height = struct.unpack("<ii", head[4:])
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or size != 12 + 8 * width * height:
      raise ValueError(
        f"{path} says it is {width}×{height} and has {size} bytes; expected "
        f"{12 + 8 * width * height}: it is cut off or damaged."
      )
    flow = np.frombuffer(file.read(), "<f4").reshape(height, width, 2).astype(np.float32)
  unknown = ~(np.abs(flow) <= UNKNOWN).all(axis=-1, keepdims=True)
  return np.where(unknown, np.float32(np.nan), flow)


def _read_npz(path: pathlib.Path) -> np.ndarray:
  try:
    flow = read_npz(path, names=("flow",)).get("flow")
  except ValueError as error:
    raise ValueError(f"{path} cannot be read as a flow: {error}") from error
  if flow is None:
    raise ValueError(f"{path} cannot be read as a flow: it has no array 'flow'.")
  if flow.ndim != 3 or flow.shape[-1] != 2:
    raise ValueError(f"{path}: flow has shape {list(flow.shape)}, expected [H, W, 2].")
  return flow.astype(np.float32)


class FlowArchive:
  """An `.npz` of many flows, written one by one: `flow_000000`, `flow_000001`, ..., float32.

  If times are given it also holds `time_s` `[N, 2]`, the times of both frames of each flow. Memory
  does not grow with the number of flows; the file appears under its name when complete.
  """

  def __init__(self, path: str | pathlib.Path):
    self.path = user_path(path)
    self.count = 0
    self._times_s: list[tuple[float, float]] = []
    self._files = contextlib.ExitStack()
    part = self._files.enter_context(atomic.replacing(self.path))
    self._zip = zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, allowZip64=True)

  def add(self, flow: Num[np.ndarray, "H W 2"], times_s: tuple[float, float] | None = None) -> None:
    """Adds the next flow, with the times of its two frames in seconds, or all without."""
    self._write(f"flow_{self.count:06d}", flow.astype(np.float32))
    self.count += 1
    if times_s is not None:
      self._times_s.append(times_s)

  def _write(self, name: str, array: np.ndarray) -> None:
    with self._zip.open(f"{name}.npy", "w", force_zip64=True) as file:
      np.lib.format.write_array(file, array, allow_pickle=False)

  def __enter__(self) -> "FlowArchive":
    return self

  def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
    if self._times_s and kind is None:
      self._write("time_s", np.asarray(self._times_s, np.float64))
    self._zip.close()
    self._files.__exit__(kind, *error)
