"""Latents of a stream of any length as sharded files; a stopped extraction resumes from them."""

import io
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from perceiver_stream.files import limits
from perceiver_stream.files.array_files import read_npz
from perceiver_stream.inference.model_loading import Loaded, ticks_left, watch
from perceiver_stream.training.arrays import CheckpointError, flatten, unflatten
from perceiver_stream.utils import atomic
from perceiver_stream.utils.paths import user_path
from perceiver_stream.version import __version__

INDEX, RESUME = "index.json", "resume.npz"
STREAM = "stream position"  # its name among the arrays of resume.npz


class Extracted(NamedTuple):
  """Result of `extract_latents`.

  Attributes:
    folder: With `latents-00000.npz`, … and `index.json`.
    ticks: Ticks in all shards.
    shards: Number of shards.
    finished: True if the stream was read to its end.
  """

  folder: pathlib.Path
  ticks: int
  shards: int
  finished: bool


def extract_latents(
  loaded: Loaded,
  windows: Iterator[Mapping[str, np.ndarray]],
  folder: str | pathlib.Path,
  *,
  windows_per_shard: int = 32,
  dtype: str = "float32",
  identity: Mapping[str, Any] | None = None,
  should_stop: Callable[[], bool] = lambda: False,
) -> Extracted:
  """Writes the latents after each tick, shard by shard; memory does not grow with the stream.

  A shard `latents-<i>.npz` holds `latents` `[T, B, L, D]`, `timestamp_s` and `is_first` `[T, B]`.
  It appears complete or not at all, together with the recurrent state and stream position: an
  unfinished folder is resumed, and the files equal those of an uninterrupted extraction.

  Args:
    loaded: Model and parameters.
    windows: Iterator over successive windows without overlap, with `get_state` and `set_state`.
    folder: Output folder.
    windows_per_shard: Windows in a shard; the last may have fewer.
    dtype: Of the latents on disk, `"float32"` or `"float16"`.
    identity: JSON that must be equal for an unfinished folder to be resumed.
    should_stop: Checked after every shard.

  Raises:
    CheckpointError: The folder holds the latents of another model or stream.
  """
  folder = user_path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  index = {
    "version": __version__,
    "model": loaded.about,
    "dtype": dtype,
    "windows_per_shard": windows_per_shard,
    "identity": dict(identity or {}),
  }
  done, start = _go_on(folder, index, loaded, windows)
  state = start
  shard: list[tuple[Mapping[str, np.ndarray], np.ndarray]] = []
  if not done["finished"]:
    for window, outputs, state in watch(loaded, windows, (), start):
      ticks = ticks_left(window)
      latents = np.asarray(outputs.latents[:ticks], dtype)
      shard.append(({k: v[:ticks] for k, v in window.items()}, latents))
      if len(shard) == windows_per_shard:
        _finish_shard(folder, index, done, shard, windows, state)
        shard = []
        if should_stop():
          break
    else:
      done["finished"] = True
      _finish_shard(folder, index, done, shard, windows, state)
  return Extracted(folder, done["ticks"], done["shards"], done["finished"])


def read_shards(folder: str | pathlib.Path) -> Iterator[dict[str, np.ndarray]]:
  """Yields the shards of a folder in order, as dicts of arrays."""
  folder = user_path(folder)
  for number in range(_read_index(folder)["shards"]):
    yield read_npz(folder / _shard_name(number))


def _read_index(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the index of a folder; ValueError where it is damaged."""
  index = limits.read_json(folder / INDEX)
  if not isinstance(index, dict) or type(index.get("shards")) is not int:
    raise ValueError(f"{folder / INDEX} is no index of latents; extract them again.")
  return index


def _finish_shard(
  folder: pathlib.Path, index: dict, done: dict, shard: list, windows: Any, state: Any
) -> None:
  """Writes a shard, then the state to resume from, then the index, each atomically."""
  if shard:
    arrays = {"latents": np.concatenate([latents for _, latents in shard])}
    for name in ("timestamp_s", "is_first"):
      if name in shard[0][0]:
        arrays[name] = np.concatenate([window[name] for window, _ in shard])
    _write_npz(folder / _shard_name(done["shards"]), arrays)
    done["ticks"] += len(arrays["latents"])
    done["shards"] += 1
  if state is not None:
    position = np.array(json.dumps({"stream": windows.get_state(), "done": done}))
    _write_npz(folder / RESUME, flatten(state) | {STREAM: position})
  atomic.write_text(folder / INDEX, json.dumps(index | done, indent=2))


def _go_on(
  folder: pathlib.Path, index: dict, loaded: Loaded, windows: Any
) -> tuple[dict[str, Any], Any]:
  """Returns the progress so far and the state after it, and sets the stream to that position."""
  if not (folder / INDEX).exists() or not (folder / RESUME).exists():
    return {"ticks": 0, "shards": 0, "finished": False}, None
  before = _read_index(folder)
  different = [f"{k}: {before.get(k)} -> {index[k]}" for k in index if before.get(k) != index[k]]
  if different:
    raise CheckpointError(
      f"{folder} holds latents of something else ({'; '.join(different)}); choose another folder."
    )
  saved = read_npz(folder / RESUME, "biufcU")
  position = limits.parse_json(str(saved.pop(STREAM)), f"{folder / RESUME}: {STREAM}")
  rows = next(iter(saved.values())).shape[0]
  template = jax.eval_shape(lambda p: loaded.model.initial_state(p, rows), loaded.params)
  windows.set_state(position["stream"])
  return position["done"], unflatten(saved, template, f"{folder / RESUME}")


def _shard_name(number: int) -> str:
  return f"latents-{number:05d}.npz"


def _write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)  # type: ignore[arg-type]
  atomic.write_bytes(path, buffer.getvalue())
