"""Record of a family of models: config, variants, builder and card."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NoReturn, TypeVar

from perceiver_stream.models.base import Model
from perceiver_stream.models.mapping import Detected, Flat, Rule
from perceiver_stream.models.stages import Staged
from perceiver_stream.types import ModalitySpec

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Card:
  """The card of a family of models.

  Attributes:
    summary: Its function in one sentence.
    paper: Source of the architecture.
    code: Released code of the architecture, repository and path; empty if it is ours.
    inputs: Names, shapes and ranges of its inputs.
    weights: Published files that `load` reads; empty if there are none.
    limits: Known limits and untested uses.
  """

  summary: str
  paper: str
  code: str = ""
  inputs: str
  weights: str = ""
  limits: str = ""


@dataclass(frozen=True, kw_only=True)
class Record(Generic[T]):
  """Fields of the records of all kinds of families; T is what they build.

  Attributes:
    name: Name of its folder, used in names of variants, `"name/variant"`, and in messages.
    config: Exact type of its configs; subclasses do not belong to the family.
    build: `(config) -> T`.
    variants: Functions that return new configs, by name; those that start with `nano` are for tests.
    card: Card for users.
    released: Descriptions of the published files, by variant.
    equals_released: Variants whose architecture the tests compare with released code, as small
      random instances (`tests/golden`).
    detect: `(flat arrays of a published file) -> Detected`, or None if they are not of the family.
    rules: `(config) -> rules`: the names in a published file of the release.
  """

  name: str
  config: type
  build: Callable[[Any], T]
  variants: Mapping[str, Callable[[], Any]]
  card: Card
  released: Mapping[str, str] = field(default_factory=dict)
  equals_released: tuple[str, ...] = ()
  detect: Callable[[Flat], Detected | None] | None = None
  rules: Callable[[Any], Sequence[Rule]] | None = None


@dataclass(frozen=True, kw_only=True)
class Family(Record[Model]):
  """Record of a family of models of a stream; one line in `zoo.PACKAGES` registers it.

  Attributes:
    fit: `(config, specs of a stream by modality) -> config` with the stream's sizes; ValueError if
      the stream lacks an input of the model.
    stages: `(config) -> Staged`, the model as layers that `execution` can partition; None if it
      cannot be split into a list of layers.
    objective: Dotted name of the family's own `training.objectives.Objective`, module and class;
      imported when models are trained.
  """

  fit: Callable[[Any, Mapping[str, Any]], Any]
  stages: Callable[[Any], Staged] | None = None
  objective: str = ""


def fit_frames(family: str) -> Callable[[Any, Mapping[str, ModalitySpec]], Any]:
  """Returns the `fit` of a family whose configs depend on the height and width of frames only."""

  def fit(config: Any, specs: Mapping[str, ModalitySpec]) -> Any:
    if "pixels" not in specs:
      raise ValueError(f"{family}: the stream has {sorted(specs)}, but the model reads pixels.")
    height, width = specs["pixels"].shape[:2]
    return replace(config, height=height, width=width)

  return fit


def config_only(remedy: str) -> Callable[[Any], Model]:
  """Returns the `build` of a family without steps, whose objective builds the network from the config.

  Args:
    remedy: Text of the ValueError that every function of such a model raises.
  """

  def refuse(*_: Any, **__: Any) -> NoReturn:
    raise ValueError(remedy)

  def build(config: Any) -> Model:
    config.validate()
    functions = dict.fromkeys(Model._fields, refuse) | {"modalities": {}, "displacements": ()}
    return Model(**functions | {"config": config})  # type: ignore[arg-type]

  return build
