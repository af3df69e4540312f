"""The dataclass of a whole experiment; its JSON is stored with every result."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from perceiver_stream.files import codec, limits
from perceiver_stream.reporting.run_files import CONFIG
from perceiver_stream.training.checkpoints import CheckpointConfig
from perceiver_stream.training.mesh import MeshConfig
from perceiver_stream.training.objectives import ObjectiveConfig
from perceiver_stream.training.optimizers import OptimizerConfig
from perceiver_stream.types import Range
from perceiver_stream.utils.addresses import hidden_in

# The fields that may differ between the run that wrote a checkpoint and the one that resumes it:
# those that do not affect the result, and those whose change is written to the log.
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
class LogConfig:
  """Output of a run and its intervals.

  Attributes:
    print_every: Windows between printed lines if the output is not a terminal, and between timings.
    strips_every: Windows between film strips for the report; 0 is none.
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


@dataclass(kw_only=True)
class ExperimentConfig:
  """An online learning run.

  Attributes:
    model: Config of a model of the zoo; its sizes are fitted to the stream.
    stream: Config of a stream; its type chooses the kind.
    objective: Config of one of `training.objectives.OBJECTIVES`.
    optimizer: Optimiser, learning rate and update interval.
    execution: Execution of the depth: `"sequential"`, the ordinary network; `"pipelined"`, all
      stages at once, with exact gradients; `"sideways"` or `"skip_sideways"`, with pseudo-gradients that flow
      back through the pipeline, without or with shortcuts in time. See docs/depth_parallel.md.
    num_stages: Stages that run in parallel; 0 makes each layer one.
    mesh: Sharding of rows, parameters and latents over devices.
    checkpoints: Interval and number of checkpoints.
    logging: Output of the run.
    use_baselines: Whether flow extrapolation and its mix with copying are scored too.
    num_rows: Streams in parallel, the batch size.
    max_windows: Windows after which the run ends; 0 is the whole stream.
    max_bad_windows: Windows with a non-finite loss in a row that end the run with an error.
    prefetch: Windows read ahead.
    seed: Seed of the parameters and all later random numbers.
    weights: Parameters to start from: a file, or the name of bundled weights; "" is random ones.
    run_dir: Folder for all output; a run found there is resumed.
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
  num_rows: Annotated[int, Range(1, 2**16)] = 1
  max_windows: Annotated[int, Range(0, 2**40)] = 0
  max_bad_windows: Annotated[int, Range(1, 2**40)] = 10
  prefetch: Annotated[int, Range(1, 2**16)] = 4
  seed: int = 0
  weights: str = ""
  run_dir: str = "runs/default"

  def __post_init__(self):
    self.validate()

  def validate(self) -> None:
    """Checks the fields and those of the parts, types and ranges too; raises ValueError."""
    codec.check(self)
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


def to_json(config: ExperimentConfig) -> str:
  """Returns the config as readable JSON, as `to_shared_dict` gives it."""
  return json.dumps(to_shared_dict(config), indent=2)


def to_shared_dict(config: ExperimentConfig) -> dict[str, Any]:
  """Returns the config as JSON values for files that may be shared.

  Addresses in it are without user, password and query; a run is resumed with those of its command.
  """
  return hidden_in(codec.to_dict(config))


def from_json(text: str) -> ExperimentConfig:
  """Returns the config that `to_json` wrote.

  Raises:
    ValueError: It is no config of an experiment; see `files.codec.from_dict`.
  """
  config = codec.from_json(text)
  if not isinstance(config, ExperimentConfig):
    raise ValueError(f"config: a {type(config).__name__}, expected that of an experiment.")
  return config


def read_config(run_dir: pathlib.Path) -> ExperimentConfig:
  """Returns the config in the folder of a run.

  Raises:
    FileNotFoundError: There is none.
    ValueError: It is no config of an experiment; see `files.codec.from_dict`.
  """
  path = run_dir / CONFIG
  try:
    return from_json(limits.read_text(path))
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def differences(old: Any, new: Any) -> list[str]:
  """Returns a line for each key that a resumed run may not change; see `FREE`, `CHANGEABLE`.

  Args:
    old: Result of `codec.to_dict` for the run; a field that did not exist yet when it was written has
      its default.
    new: Result of `codec.to_dict` for the run that resumes it.

  Raises:
    ValueError: `old` has an unknown key or type; see `codec.from_dict`.
  """
  return [f"{k}: {change}" for k, change in _changes(old, new).items() if k not in CHANGEABLE]


def logged_changes(old: Any, new: Any) -> dict[str, str]:
  """Returns the keys of `CHANGEABLE` that a resumed run has changed, each with "old -> new"."""
  return {key: change for key, change in _changes(old, new).items() if key in CHANGEABLE}


def _changes(old: Any, new: Any) -> dict[str, str]:
  old = codec.to_dict(codec.from_dict(old))
  before, after = _flatten(hidden_in(old)), _flatten(hidden_in(new))  # as files have them
  return {
    key: f"{before.get(key, 'absent')} -> {after.get(key, 'absent')}"
    for key in sorted(before | after)
    if key.split(".")[0] not in FREE and before.get(key) != after.get(key)
  }


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
  if not isinstance(value, Mapping):
    return {prefix: value}
  flat = {}
  for key, inner in value.items():
    flat |= _flatten(inner, f"{prefix}.{key}" if prefix else key)
  return flat
