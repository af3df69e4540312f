"""Footage: ticks of a stream as arrays, rendered once and shared by all runs."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from perceiver_stream import streams
from perceiver_stream.files.array_files import read_npz
from perceiver_stream.lab.sources import MOTION, TRUTH
from perceiver_stream.lab.tasks import Task
from perceiver_stream.streams import StreamConfig
from perceiver_stream.types import IS_FIRST
from perceiver_stream.utils import atomic

Footage = Mapping[str, np.ndarray]  # by name, arrays [R, N, ...]: R rows of N ticks


class Clips(NamedTuple):
  """Inputs and targets of a learner, cut into successive clips.

  Attributes:
    frames: RGB.
    pictures: Target image of each frame.
    counts: True where a target counts: its tick exists in the recording of its frame.
    is_first: True where a recording starts.
  """

  frames: UInt8[np.ndarray, "n T R H W 3"]
  pictures: UInt8[np.ndarray, "n T R H W 3"]
  counts: Bool[np.ndarray, "n T R"]
  is_first: Bool[np.ndarray, "n T R"]


def watch(config: StreamConfig, rows: int, ticks: int) -> Footage:
  """Returns the first `ticks` ticks of `rows` rows of a stream.

  Raises:
    ValueError: A row ends before.
  """
  names = [name for name in (*TRUTH, MOTION) if name in streams.specs(config)]
  watched = []
  for row in streams.open_rows(config, rows):
    collected = [tick for tick, _ in zip(row, range(ticks), strict=False)]
    if len(collected) < ticks:
      raise ValueError(
        f"lab: a row has {len(collected)} ticks of {ticks}; give more footage, or rows."
      )
    watched.append({n: np.stack([tick[n] for tick in collected]) for n in (*names, IS_FIRST)})
  return {n: np.stack([row[n] for row in watched]) for n in (*names, IS_FIRST)}


def kept(folder: pathlib.Path, config: StreamConfig, rows: int, ticks: int) -> Footage:
  """Returns the result of `watch`, from a cache file if it exists; files appear when complete."""
  about = repr((type(config).__module__, dataclasses.asdict(config), rows, ticks))
  path = folder / f"footage_{hashlib.sha256(about.encode()).hexdigest()[:16]}.npz"
  if not path.exists():
    folder.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(path, shared=True) as part:
      np.savez(part, **watch(config, rows, ticks))  # pyright: ignore[reportArgumentType]
  return read_npz(path)


def cut(footage: Footage, task: Task, ticks: int) -> Clips:
  """Returns the clips of `ticks` frames, one after the other.

  Args:
    footage: Of R rows.
    task: Defines the target images.
    ticks: Frames of a clip.
  """
  frames, first, ahead = footage["pixels"], footage[IS_FIRST], task.displacement
  pictures = task.paint({n: v for n, v in footage.items() if n != IS_FIRST})
  recording = np.cumsum(first, axis=1)
  counts = np.zeros(first.shape, bool)
  counts[:, : first.shape[1] - ahead] = (
    recording[:, ahead:] == recording[:, : first.shape[1] - ahead]
  )
  later = np.minimum(np.arange(first.shape[1]) + ahead, first.shape[1] - 1)
  number = (first.shape[1] - ahead) // ticks

  def clips(x: np.ndarray) -> np.ndarray:
    x = x[:, : number * ticks].reshape(x.shape[0], number, ticks, *x.shape[2:])
    return np.moveaxis(x, 0, 2)

  return Clips(clips(frames), clips(pictures[:, later]), clips(counts), clips(first))
