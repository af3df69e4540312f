"""A family of models: its config, its named variants, how it is built, and its card."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from perceiver_stream.models.base import Model
from perceiver_stream.models.mapping import Detected, Flat, Rule
from perceiver_stream.models.stages import Staged
from perceiver_stream.types import ModalitySpec


@dataclass(frozen=True, kw_only=True)
class Card:
  """The card of a family of models.

  Attributes:
    summary: What it does, one sentence.
    paper: Where it comes from.
    code: Released code of the architecture, repository and path; empty if it is ours.
    inputs: What it reads: names, shapes, ranges.
    weights: Which published files `load` reads; empty if there are none.
    limits: What it cannot do or was not tested for.
  """

  summary: str
  paper: str
  code: str = ""
  inputs: str
  weights: str = ""
  limits: str = ""


@dataclass(frozen=True, kw_only=True)
class Family:
  """All that the zoo knows of a family; one line in `zoo.PACKAGES` adds it.

  Attributes:
    name: That of its folder; in names of models, `"name/variant"`, and in messages.
    config: Type of its configs, exactly; a subclass is another model's.
    build: `(config) -> Model`.
    fit: `(config, specs of a stream by modality) -> config` of the stream's sizes; ValueError where
      the stream lacks what the model reads.
    variants: Fresh configs by name; `nano` is for tests.
    card: What a user should know.
    stages: `(config) -> Staged`, the model as layers that `execution` can cut; None where its depth
      is no list of layers.
    released: The published file of a variant, in words.
    equals_released: Variants whose architecture the tests compare with released code, as small
      random instances (`tests/golden`).
    detect: `(flat arrays of a published file) -> Detected`, or None where they are not of the
      family.
    rules: `(config) -> rules`: the names in a published file, as the release writes them.
    objective: Dotted name of the family's own `training.objectives.Objective`, module and class;
      imported where models are trained.
  """

  name: str
  config: type
  build: Callable[[Any], Model]
  fit: Callable[[Any, Mapping[str, Any]], Any]
  variants: Mapping[str, Callable[[], Any]]
  card: Card
  stages: Callable[[Any], Staged] | None = None
  released: Mapping[str, str] = field(default_factory=dict)
  equals_released: tuple[str, ...] = ()
  detect: Callable[[Flat], Detected | None] | None = None
  rules: Callable[[Any], Sequence[Rule]] | None = None
  objective: str = ""


def fit_frames(family: str) -> Callable[[Any, Mapping[str, ModalitySpec]], Any]:
  """Returns the `fit` of a family whose configs have the height and width of frames alone."""

  def fit(config: Any, specs: Mapping[str, ModalitySpec]) -> Any:
    if "pixels" not in specs:
      raise ValueError(f"{family}: the stream has {sorted(specs)}, but the model reads pixels.")
    height, width = specs["pixels"].shape[:2]
    return replace(config, height=height, width=width)

  return fit
