"""Encoders of clips by name, and their files: published ones and ours.

A family is a package of `models` with a `FAMILY`, a `models.clips.ClipFamily`. Adding its name to
`PACKAGES` registers its variants.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from perceiver_stream.files import array_files, parameter_files
from perceiver_stream.models.clips import ClipEncoder, ClipFamily
from perceiver_stream.models.mapping import (
  Detected,
  check_names,
  flatten,
  import_params,
  unflatten,
)
from perceiver_stream.version import __version__
from perceiver_stream.zoo import configs, hub, registry
from perceiver_stream.zoo.loading import changed

PACKAGES = (
  "i3d",
  "longvivit",
  "s3d",
  "slowfast",
  "timesformer",
  "tsm",
  "tsm_resnet",
  "video_resnet",
  "vivit",
  "vjepa",
)
FAMILIES: dict[str, ClipFamily] = registry.families(PACKAGES)
_REGISTRY = registry.Registry(FAMILIES, "encoder of clips")
names = _REGISTRY.names
config = _REGISTRY.config
family = _REGISTRY.family
WRAPPERS = ("state_dict/", "model_state/", "module.", "model.")
FORMAT = "perceiver_stream clip encoder 1"


class Loaded(NamedTuple):
  """An encoder with its arrays."""

  encoder: ClipEncoder
  params: PyTree
  statistics: PyTree


def build(name_or_config: Any) -> ClipEncoder:
  """Returns an encoder of clips by name or config.

  >>> build("video_resnet/nano").causal
  False

  Raises:
    ValueError: There is no such encoder.
    TypeError: The config belongs to no family of encoders.
  """
  return _REGISTRY.build(name_or_config)


def template(encoder: ClipEncoder) -> tuple[PyTree, PyTree]:
  """Returns shapes and dtypes of the parameters and the statistics, without creating them."""
  s = encoder.spec
  clips = jax.ShapeDtypeStruct((1, s.num_frames, s.height, s.width, s.channels), np.float32)
  return jax.eval_shape(encoder.init, jax.random.key(0), clips)


def num_parameters(encoder: ClipEncoder) -> int:
  """Returns the number of parameters; statistics are not counted."""
  return sum(math.prod(x.shape) for x in jax.tree.leaves(template(encoder)[0]))


def merged(params: PyTree, statistics: PyTree) -> dict[str, dict[str, Any]]:
  """Returns one tree of parameters and statistics, the form in which files hold them."""
  return unflatten(dict(flatten(params)) | dict(flatten(statistics)))


def split(tree: PyTree, statistics: PyTree) -> tuple[PyTree, PyTree]:
  """Returns parameters and statistics of a merged tree; `statistics` is their template."""
  flat, kept = flatten(tree), flatten(statistics)
  params = {name: value for name, value in flat.items() if name not in kept}
  return unflatten(params), unflatten({name: flat[name] for name in kept})


def load(path: str | pathlib.Path, **changes: Any) -> Loaded:
  """Returns an encoder with its parameters and statistics, from our file or a published one.

  Args:
    path: A .safetensors file of `save`, or a published file: .npz or .safetensors with the names of
      the release, or a pickle of numpy arrays; or its address on the Hugging Face Hub, see `hub.fetch`.
      Nothing in a file is executed.
    changes: Fields of the config to change, such as `causal`.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: The file has an unknown format, is damaged or hostile, or does not match the encoder:
      missing, extra and misshaped arrays are listed.
  """
  path = hub.local_path(path)
  flat, metadata = read_arrays(path)
  if metadata.get("format") == FORMAT:
    chosen = configs.from_json(metadata.get("config", ""), str(path))
    encoder = build(changed(chosen, changes))
    return _checked(encoder, flat, str(path))
  found = detect(flat, str(path))
  return from_published(flat, found._replace(config=changed(found.config, changes)), str(path))


def is_encoder(path: str | pathlib.Path) -> bool:
  """Returns True if a file holds an encoder of clips, ours or published."""
  path = hub.local_path(path)
  if not path.is_file():
    return False
  flat, metadata = read_arrays(path)
  if is_ours(metadata):
    return metadata["format"] == FORMAT
  return any(known.detect and known.detect(flat) for known in FAMILIES.values())


def from_published(flat: array_files.Flat, found: Detected, source: str) -> Loaded:
  """Returns the encoder of a published file from its arrays.

  Args:
    flat: Arrays of the file.
    found: Result of `detect`.
    source: Name of the file in errors.

  Raises:
    ValueError: The arrays do not match the encoder.
  """
  configs.check_sizes(found.config, source)
  encoder = build(found.config)
  params, statistics = template(encoder)
  tree = import_params(
    flat, merged(params, statistics), found.rules(found.config), source=source, ignore=found.ignore
  )
  return Loaded(encoder, *jax.device_put(split(tree, statistics)))


def detect(flat: array_files.Flat, source: str) -> Detected:
  """Returns the encoder of a published file.

  Raises:
    ValueError: The names match no known family.
  """
  for known in FAMILIES.values():
    if known.detect and (found := known.detect(flat)):
      return found
  raise ValueError(
    f"{source}: {len(flat)} arrays, the first {sorted(flat)[:3]}, belong to no known encoder of "
    f"clips; files are known of {', '.join(f.name for f in FAMILIES.values() if f.detect)}."
  )


def save(path: str | pathlib.Path, loaded: Loaded) -> None:
  """Writes config, card, parameters and statistics of an encoder into one .safetensors file."""
  encoder, params, statistics = loaded
  metadata = {
    "format": FORMAT,
    "version": __version__,
    "config": configs.to_json(encoder.config),
    "card": json.dumps(dataclasses.asdict(family(encoder.config).card)),
  }
  array_files.write_safetensors(path, flatten(merged(params, statistics)), metadata)


def read_arrays(path: pathlib.Path) -> tuple[array_files.Flat, dict[str, str]]:
  """Returns the arrays and the metadata of a file of parameters; see `load`.

  Names lose the wrappers of training programs: `state_dict/` or `model_state/`, `module.`, `model.`.
  """
  flat, metadata = parameter_files.read(path)
  return (flat if is_ours(metadata) else without_wrappers(flat)), metadata


def is_ours(metadata: dict[str, str]) -> bool:
  """Returns True if a file was written by this package; safetensors of torch have a format too."""
  return metadata.get("format", "").startswith("perceiver_stream ")


def without_wrappers(flat: array_files.Flat) -> array_files.Flat:
  """Returns arrays without the prefixes that all of them have, or that hold the parameters.

  >>> list(without_wrappers({"state_dict/module.fc.bias": np.zeros(1), "epoch": np.zeros(())}))
  ['fc.bias']
  """
  for prefix in WRAPPERS:
    inside = {k.removeprefix(prefix): v for k, v in flat.items() if k.startswith(prefix)}
    if prefix.endswith("/") and inside or len(inside) == len(flat):
      flat = inside
  return flat


def _checked(encoder: ClipEncoder, flat: array_files.Flat, source: str) -> Loaded:
  params, statistics = template(encoder)
  wanted = {k: tuple(v.shape) for k, v in flatten(merged(params, statistics)).items()}
  check_names(flat, wanted, source=source)
  tree = unflatten(jax.device_put({name: flat[name] for name in wanted}))
  return Loaded(encoder, *split(tree, statistics))
