"""Latents of a stream of any length as sharded files; a stopped extraction resumes from them."""

import csv
import io
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from perceiver_stream.files import limits
from perceiver_stream.files.array_files import read_npz
from perceiver_stream.inference.model_loading import Loaded, ticks_left, watch_states
from perceiver_stream.models.latent_positions import has_positions, positions
from perceiver_stream.training.arrays import CheckpointError, flatten, unflatten
from perceiver_stream.utils import atomic
from perceiver_stream.utils.paths import user_path
from perceiver_stream.version import __version__

INDEX, RESUME = "index.json", "resume.npz"
COLUMNS = ("id", "tick", "time_s", "row", "latent", "x", "y", "visible", "confidence", "age")
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

  A shard `latents-<i>.npz` holds `latents` `[T, B, L, D]`, `timestamp_s` and `is_first` `[T, B]`;
  if latents have positions also those of `models.latent_positions.LatentPositions`, `[T, B, P, ...]`,
  and `id`, their `identity`.
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
  shard: list[dict[str, np.ndarray]] = []
  if not done["finished"]:
    for window, states, state in watch_states(loaded, windows, start):
      ticks = ticks_left(window)
      first = done["ticks"] + sum(len(part["latents"]) for part in shard)
      latents = np.asarray(loaded.model.latents(loaded.params, states), dtype)
      arrays = {"latents": latents} | _positions(states, first) | _times(window)
      shard.append({name: x[:ticks] for name, x in arrays.items()})
      if len(shard) == windows_per_shard:
        _finish_shard(folder, index, done, shard, windows, state)
        shard = []
        if should_stop():
          break
    else:
      done["finished"] = True
      _finish_shard(folder, index, done, shard, windows, state)
  return Extracted(folder, done["ticks"], done["shards"], done["finished"])


def write_table(folder: str | pathlib.Path, target: str | pathlib.Path) -> int:
  """Writes a CSV row of `COLUMNS` for each latent with a position and tick; returns their number.

  Positions are shares of width and height. Reads shard by shard.

  Args:
    folder: Of `extract_latents`.
    target: File to write.

  Raises:
    ValueError: The latents have no positions.
  """
  rows, tick = 0, 0
  with atomic.replacing(user_path(target)) as part, part.open("w", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for shard in read_shards(folder):
      if "id" not in shard:
        raise ValueError(
          f"{folder}: its latents have no positions; extract those of stream_perceiver/tiny_positions."
        )
      for t, b, p in np.argwhere(shard["id"] >= 0):
        x, y = shard["position"][t, b, p]
        when = shard["timestamp_s"][t, b] if "timestamp_s" in shard else np.nan
        visible, sure = shard["visible"][t, b, p], shard["confidence"][t, b, p]
        known = int(shard["id"][t, b, p]), tick + t, f"{when:.6f}", b, p, f"{x:.5f}", f"{y:.5f}"
        writer.writerow((*known, int(visible), f"{sure:.4f}", int(shard["age"][t, b, p])))
        rows += 1
      tick += len(shard["latents"])
  return rows


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


def _times(window: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  return {name: window[name] for name in ("timestamp_s", "is_first") if name in window}


def _positions(states: PyTree, first_tick: int) -> dict[str, np.ndarray]:
  """Returns the arrays of `positions` and `id`; none without positions."""
  if not has_positions(states):
    return {}
  found = positions(states)
  return found._asdict() | {"id": found.identity(first_tick)}


def _finish_shard(
  folder: pathlib.Path, index: dict, done: dict, shard: list, windows: Any, state: Any
) -> None:
  """Writes a shard, then the state to resume from, then the index, each atomically."""
  if shard:
    arrays = {name: np.concatenate([part[name] for part in shard]) for name in shard[0]}
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
