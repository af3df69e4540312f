"""One dataclass that says all of an experiment; as JSON it lies beside every result."""

import dataclasses
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perceiver_stream.training.checkpoints import CheckpointConfig
from perceiver_stream.training.logs import LogConfig
from perceiver_stream.training.mesh import MeshConfig
from perceiver_stream.training.names import nearest
from perceiver_stream.training.objectives import ObjectiveConfig, registered, registered_as
from perceiver_stream.training.optimizers import OptimizerConfig

TYPE = "_type"  # in JSON: where a dataclass is defined, so that it can be made again
PACKAGE = "perceiver_stream."

# What may differ between the run that wrote a checkpoint and the one that resumes it: fields on
# which the result does not depend, and fields whose change is written to the log. No other may.
FREE = ("run_dir", "max_windows", "max_bad_windows", "prefetch", "checkpoints", "logging", "mesh")
CHANGEABLE = tuple(
  f"optimizer.{name}"
  for name in (
    *("learning_rate", "schedule", "warmup_steps", "decay_steps", "final_fraction"),
    *("clip_norm", "weight_decay"),
  )
)

SEQUENTIAL, PIPELINED, SIDEWAYS, SKIP_SIDEWAYS = EXECUTIONS = (
  "sequential",
  "pipelined",
  "sideways",
  "skip_sideways",
)


@dataclass(kw_only=True)
class ExperimentConfig:
  """An online learning run.

  Attributes:
    model: Config of a model of the zoo; its sizes are fitted to the stream.
    stream: Config of a stream; its type chooses the kind.
    objective: What is learnt: the config of one of `training.objectives.OBJECTIVES`.
    optimizer: How.
    execution: How depth is run: `"sequential"`, the ordinary network; `"pipelined"`, all stages at
      once, with exact gradients; `"sideways"` or `"skip_sideways"`, with pseudo-gradients that flow
      back through the pipeline, without or with shortcuts in time. See docs/depth_parallel.md.
    num_stages: Stages that work at once; 0 makes each layer one.
    mesh: How rows, parameters and latents are divided between devices.
    checkpoints: When the run is saved.
    logging: What is shown and how often.
    use_baselines: Whether flow extrapolation and its mix with copying are scored too.
    num_rows: Streams watched side by side, the batch size.
    max_windows: Windows after which the run ends; 0 is the whole stream.
    max_bad_windows: Windows with a non-finite loss in a row that end the run with an error.
    prefetch: Windows read ahead.
    seed: Of the parameters and everything random after.
    weights: Parameters to start from: a file, or the name of bundled weights; "" is random ones.
    run_dir: Where everything is written; a run found there is continued.
  """

  model: Any
  stream: Any
  objective: Any = field(default_factory=ObjectiveConfig)
  optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
  execution: str = SEQUENTIAL
  num_stages: int = 0
  mesh: MeshConfig = field(default_factory=MeshConfig)
  checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
  logging: LogConfig = field(default_factory=LogConfig)
  use_baselines: bool = True
  num_rows: int = 1
  max_windows: int = 0
  max_bad_windows: int = 10
  prefetch: int = 4
  seed: int = 0
  weights: str = ""
  run_dir: str = "runs/default"

  def __post_init__(self):
    self.validate()

  def validate(self) -> None:
    """Checks the fields and those of the parts; raises ValueError."""
    for name in ("num_rows", "max_bad_windows", "prefetch"):
      if getattr(self, name) < 1:
        raise ValueError(f"config {name}={getattr(self, name)}; use at least 1.")
    if self.max_windows < 0:
      raise ValueError(f"config max_windows={self.max_windows}; use 0 for the whole stream.")
    if self.execution not in EXECUTIONS:
      raise ValueError(f"config execution={self.execution!r} is not one of {EXECUTIONS}.")
    if self.num_stages < 0 or (self.num_stages and self.execution == SEQUENTIAL):
      raise ValueError(
        f"config num_stages={self.num_stages} with execution={self.execution}; stages are counted "
        f"from 1, or 0 for one per layer, and a sequential run has none."
      )
    if not self.run_dir:
      raise ValueError("config run_dir is empty; name the folder to write to.")
    for part in dataclasses.fields(self):
      value = getattr(self, part.name)
      if dataclasses.is_dataclass(value) and hasattr(value, "validate"):
        value.validate()  # type: ignore[union-attr]


def to_dict(value: Any) -> Any:
  """Returns `value`, dataclasses and all, as what JSON can hold."""
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    kind = type(value)
    names = [f.name for f in dataclasses.fields(value)]
    return {TYPE: registered_as(kind) or f"{kind.__module__}.{kind.__qualname__}"} | {
      name: to_dict(getattr(value, name)) for name in names
    }
  if isinstance(value, Mapping):
    return {str(k): to_dict(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [to_dict(v) for v in value]
  if value is None or isinstance(value, bool | int | float | str):
    return value
  raise TypeError(f"config holds a {type(value).__name__}, {value!r}, which JSON cannot keep.")


def from_dict(value: Any, where: str = "config") -> Any:
  """Returns what `to_dict` was given; lists come back as tuples.

  Raises:
    ValueError: A key or type is not known; the message has its place and the nearest name.
  """
  if isinstance(value, list):
    return tuple(from_dict(v, f"{where}[{i}]") for i, v in enumerate(value))
  if not isinstance(value, Mapping):
    return value
  fields = {k: from_dict(v, f"{where}.{k}") for k, v in value.items() if k != TYPE}
  if TYPE not in value:
    return fields
  kind = _find(value[TYPE], where)
  valid = [f.name for f in dataclasses.fields(kind)]
  for name in fields:
    if name not in valid:
      raise ValueError(unknown_key(f"{where}.{name}", valid))
  return kind(**fields)


def to_json(config: ExperimentConfig) -> str:
  """Returns the config as readable JSON."""
  return json.dumps(to_dict(config), indent=2)


def from_json(text: str) -> ExperimentConfig:
  """Returns the config that `to_json` wrote; see `from_dict`."""
  return from_dict(json.loads(text))


def unknown_key(path: str, valid: list[str]) -> str:
  """Returns the message for a key that the config does not have.

  >>> unknown_key("config.stream.pth", ["path", "rate_hz"])
  "config.stream has no key 'pth'. Did you mean 'path'? Valid: path, rate_hz."
  """
  parent, _, name = path.rpartition(".")
  return f"{parent} has no key {name!r}.{nearest(name, valid)} Valid: {', '.join(valid)}."


def differences(old: Any, new: Any) -> list[str]:
  """Returns a line for each key that a resumed run may not change; see `FREE`, `CHANGEABLE`.

  Args:
    old: What `to_dict` returned for the run; a field that it was written without, because there
      was none yet, has its default.
    new: What `to_dict` returns for the run that resumes it.

  Raises:
    ValueError: `old` has a key or type that is not known; see `from_dict`.
  """
  return [f"{k}: {change}" for k, change in _changes(old, new).items() if k not in CHANGEABLE]


def logged_changes(old: Any, new: Any) -> dict[str, str]:
  """Returns the keys of `CHANGEABLE` that a resumed run has changed, each with "old -> new"."""
  return {key: change for key, change in _changes(old, new).items() if key in CHANGEABLE}


def _changes(old: Any, new: Any) -> dict[str, str]:
  before, after = _flatten(to_dict(from_dict(old))), _flatten(new)
  return {
    key: f"{before.get(key, 'absent')} -> {after.get(key, 'absent')}"
    for key in sorted(before | after)
    if key.split(".")[0] not in FREE and before.get(key) != after.get(key)
  }


def _find(path: str, where: str) -> type:
  if known := registered(path):
    return known
  module, _, name = path.rpartition(".")
  if not path.startswith(PACKAGE):
    raise ValueError(
      f"{where}: type {path!r} is not from {PACKAGE[:-1]}, so it is not loaded; if it is the name of "
      f"your own objective, import the module that registers it (objectives.register) first, or "
      f"give the --config file that does."
    )
  try:
    kind = getattr(importlib.import_module(module), name)
  except (ImportError, AttributeError) as error:
    raise ValueError(
      f"{where}: there is no type {path!r} in this version ({error}); "
      f"load the config with the version that wrote it."
    ) from error
  if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
    raise ValueError(f"{where}: {path!r} is not a config; the file was not written by to_json.")
  return kind


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
  if not isinstance(value, Mapping):
    return {prefix: value}
  flat = {}
  for key, inner in value.items():
    flat |= _flatten(inner, f"{prefix}.{key}" if prefix else key)
  return flat
