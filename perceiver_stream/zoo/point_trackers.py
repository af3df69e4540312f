"""Trackers of points by name, and their files: published ones and ours.

A family is a package of `models` with a `FAMILY`, a `models.point_trackers.TrackerFamily`. Adding
its name to `PACKAGES` registers its variants.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from perceiver_stream.files.array_files import Flat, write_safetensors
from perceiver_stream.models.mapping import (
  check_names,
  flat_shapes,
  flatten,
  import_params,
  unflatten,
)
from perceiver_stream.models.point_trackers import PointTracker, TrackerFamily
from perceiver_stream.version import __version__
from perceiver_stream.zoo import configs, hub, registry
from perceiver_stream.zoo.clip_encoders import is_ours, read_arrays
from perceiver_stream.zoo.loading import changed

PACKAGES = ("tapir", "tapnext")
FAMILIES: dict[str, TrackerFamily] = registry.families(PACKAGES)
_REGISTRY = registry.Registry(FAMILIES, "tracker")
names = _REGISTRY.names
config = _REGISTRY.config
family = _REGISTRY.family
released = _REGISTRY.released
FORMAT = "perceiver_stream point tracker 1"


class Loaded(NamedTuple):
  """A tracker with its parameters."""

  tracker: PointTracker
  params: PyTree


def build(name_or_config: Any) -> PointTracker:
  """Returns a tracker by name or config.

  >>> build("tapnext/nano").height
  16

  Raises:
    ValueError: There is no such tracker, or the config contradicts itself.
    TypeError: The config belongs to no family of trackers.
  """
  return _REGISTRY.build(name_or_config)


def template(tracker: PointTracker) -> PyTree:
  """Returns shapes and dtypes of the parameters, without creating them."""
  return jax.eval_shape(tracker.init, jax.random.key(0))


def num_parameters(tracker: PointTracker) -> int:
  """Returns the number of parameters."""
  return sum(math.prod(x.shape) for x in jax.tree.leaves(template(tracker)))


def state_bytes(tracker: PointTracker, num_slots: int) -> int:
  """Returns the size of the recurrent state of one row with a number of slots."""
  state = jax.eval_shape(lambda: tracker.initial_state(1, num_slots))
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))


def load(path: str | pathlib.Path, **changes: Any) -> Loaded:
  """Returns a tracker and its parameters, from our file or a published one.

  Args:
    path: A .safetensors file of `save`, or a published file: .npz or .safetensors with the names of
      the release, or a pickle of numpy arrays; or its address on the Hugging Face Hub, see `hub.fetch`.
      Nothing in a file is executed.
    changes: Fields of the config to change, such as `height` and `width`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: The file has an unknown format, is damaged or hostile, or does not match the tracker:
      missing, extra and misshaped arrays are listed.
  """
  path = hub.local_path(path)
  flat, metadata = read_arrays(path)
  if metadata.get("format") == FORMAT:
    chosen = configs.from_json(metadata.get("config", ""), str(path))
    tracker = build(changed(chosen, changes))
    wanted = flat_shapes(template(tracker))
    check_names(flat, wanted, source=str(path))
    return Loaded(tracker, unflatten(jax.device_put({name: flat[name] for name in wanted})))
  return from_published(flat, str(path), changes)


def is_tracker(path: str | pathlib.Path) -> bool:
  """Returns True if a file holds a tracker of points, ours or published."""
  path = hub.local_path(path)
  if not path.is_file():
    return False
  flat, metadata = read_arrays(path)
  if is_ours(metadata):
    return metadata["format"] == FORMAT
  return any(f.detect and f.detect(f.prepare(flat)) for f in FAMILIES.values())


def from_published(flat: Flat, source: str, changes: dict[str, Any] | None = None) -> Loaded:
  """Returns the tracker of a published file from its arrays.

  Args:
    flat: Arrays of the file.
    source: Name of the file in errors.
    changes: See `load`.

  Raises:
    ValueError: The names match no known family, or the arrays do not match the tracker.
  """
  for known in FAMILIES.values():
    arrays = known.prepare(flat)
    if known.detect and (found := known.detect(arrays)):
      configs.check_sizes(found.config, source)
      chosen = changed(found.config, changes or {})
      tracker = build(chosen)
      rules = found.rules(chosen)
      params = import_params(arrays, template(tracker), rules, source=source, ignore=found.ignore)
      return Loaded(tracker, jax.device_put(params))
  raise ValueError(
    f"{source}: {len(flat)} arrays, the first {sorted(flat)[:3]}, belong to no known tracker; files "
    f"are known of {', '.join(FAMILIES)}."
  )


def save(path: str | pathlib.Path, tracker: PointTracker, params: PyTree) -> None:
  """Writes config, card and parameters of a tracker into one .safetensors file."""
  metadata = {
    "format": FORMAT,
    "version": __version__,
    "config": configs.to_json(tracker.config),
    "card": json.dumps(dataclasses.asdict(family(tracker.config).card)),
  }
  write_safetensors(path, flatten(params), metadata)
