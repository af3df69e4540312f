"""Mapping between our parameter names and layouts and those of published files.

Published weights of a family are described by a list of `Rule`s. They are applied to our own
parameter tree, so the model determines the required contents of a file, and errors can list every
difference.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int, ...]
Flat = dict[str, np.ndarray]


class Rule(NamedTuple):
  """Name and layout of one kind of parameter in a published file.

  Attributes:
    ours: Regular expression for our name, `module/path/leaf`.
    theirs: Name in the file; `\\1` and so on are groups of `ours`.
    shape: Function from our shape (after `axes`) to the shape in the file; default: the same shape.
    axes: Order of our axes in the file before reshaping; None: unchanged.
  """

  ours: str
  theirs: str
  shape: Callable[[Shape], Shape] = lambda shape: shape
  axes: tuple[int, ...] | None = None


class Detected(NamedTuple):
  """Model detected in a published file.

  Attributes:
    config: Config of the model; fields that the file does not determine are those of the published
      model.
    rules: Function from the final config to the rules of the file.
    ignore: Regular expression of names in the file that no model needs.
  """

  config: Any
  rules: Callable[[Any], Sequence[Rule]]
  ignore: str = ""


class Published(NamedTuple):
  """Location of one of our parameters in a file: its name, its shape, and the order of our axes."""

  name: str
  shape: Shape
  axes: tuple[int, ...] | None


def flatten(params: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  """Returns `{"module/path/leaf": array}`; arrays may be their shapes."""
  return {f"{module}/{k}": v for module, leaves in params.items() for k, v in leaves.items()}


def flat_shapes(params: Mapping[str, Mapping[str, Any]]) -> dict[str, Shape]:
  """Returns the shapes of parameters, or of their structs, by flat name."""
  return {name: tuple(x.shape) for name, x in flatten(params).items()}


def unflatten(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Returns the parameter tree; the inverse of `flatten`."""
  params: dict[str, dict[str, Any]] = {}
  for name, value in flat.items():
    module, leaf = name.rsplit("/", 1)
    params.setdefault(module, {})[leaf] = value
  return params


def published_names(template: Mapping, rules: Sequence[Rule]) -> dict[str, Published]:
  """Returns the location of each of our parameters, keyed by our flat name.

  Args:
    template: Our parameters, or their shapes (`jax.eval_shape` of `init`).
    rules: Rules; the first match is used.

  Raises:
    KeyError: A parameter matches no rule: the rules do not belong to the model.
  """
  names = {}
  for ours, value in flatten(template).items():
    for rule in rules:
      if match := re.fullmatch(rule.ours, ours):
        shape = tuple(value.shape)
        shape = tuple(shape[i] for i in rule.axes) if rule.axes else shape
        names[ours] = Published(match.expand(rule.theirs), rule.shape(shape), rule.axes)
        break
    else:
      raise KeyError(f"zoo: no rule gives the name of '{ours}' in the published file.")
  return names


def import_params(
  published: Mapping[str, np.ndarray],
  template: Mapping,
  rules: Sequence[Rule],
  *,
  source: str,
  ignore: str = "",
) -> dict[str, dict[str, np.ndarray]]:
  """Returns our parameters from a published file's arrays, float32; counters keep their integers.

  Args:
    published: Arrays by their name in the file.
    template: Our parameters or their shapes.
    rules: See `Rule`.
    source: Name of the file in errors.
    ignore: Regular expression of names in the file that no model needs.

  Raises:
    ValueError: Arrays are missing, extra, or misshaped; all are listed.
  """
  names = published_names(template, rules)
  expected = {p.name: p.shape for p in names.values()}
  check_names(published, expected, source=source, ignore=ignore)
  shapes = {k: tuple(v.shape) for k, v in flatten(template).items()}
  flat, leaves = {}, flatten(template)
  for ours, there in names.items():
    counts = np.issubdtype(leaves[ours].dtype, np.integer)
    value = np.asarray(published[there.name], leaves[ours].dtype if counts else np.float32)
    if there.axes:
      value = value.reshape([shapes[ours][i] for i in there.axes])
      value = value.transpose(np.argsort(there.axes))
    flat[ours] = np.ascontiguousarray(value).reshape(shapes[ours])  # it makes numbers vectors
  return unflatten(flat)


def export_params(params: Mapping, rules: Sequence[Rule]) -> Flat:
  """Returns the arrays of a published file from our parameters; the inverse of `import_params`."""
  flat = flatten(params)
  exported = {}
  for ours, there in published_names(params, rules).items():
    value = np.asarray(flat[ours])
    value = value.transpose(there.axes) if there.axes else value
    exported[there.name] = value.reshape(there.shape)
  return exported


def check_names(
  published: Mapping[str, Any], expected: Mapping[str, Shape], *, source: str, ignore: str = ""
) -> None:
  """Checks that a file has exactly the expected arrays; only shapes are read.

  Raises:
    ValueError: Arrays are missing, extra, or misshaped; all are listed.
  """
  known = {name for name in published if not (ignore and re.fullmatch(ignore, name))}
  missing = [f"{name} {list(expected[name])}" for name in sorted(set(expected) - known)]
  extra = [f"{name} {list(published[name].shape)}" for name in sorted(known - set(expected))]
  wrong = [
    f"{name} is {list(published[name].shape)}, expected {list(expected[name])}"
    for name in sorted(known & set(expected))
    if tuple(published[name].shape) != tuple(expected[name])
  ]
  lists = {"missing": missing, "not expected": extra, "wrong shape": wrong}
  problems = [f"{len(x)} {what}: {'; '.join(_shorten(x))}" for what, x in lists.items() if x]
  if problems:
    raise ValueError(
      f"{source}: parameters do not fit the model. {'. '.join(problems)}. Give the right file, or "
      f"the sizes that its shapes do not show: load(path, height=...), perceiver-stream convert --set "
      f"height=..."
    )


def _shorten(names: list[str], most: int = 40) -> list[str]:
  return names if len(names) <= most else [*names[:most], f"and {len(names) - most} more"]


# --- sizes from names and shapes ---


def shape_of(flat: Flat, pattern: str, default: Shape) -> Shape:
  """Returns the shape of the first array of that name and rank.

  If a file lacks it, the published size is used, so that `check_names` can list all missing arrays.
  """
  for name in sorted(flat):
    if re.fullmatch(pattern, name) and len(flat[name].shape) == len(default):
      return tuple(flat[name].shape)
  return default


def count_of(flat: Flat, pattern: str) -> int:
  """Returns one more than the highest number in matching names; one in between may be missing."""
  return 1 + max((int(m[1]) for m in map(re.compile(pattern).match, flat) if m), default=-1)
