"""What a user should know of a model before trusting it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Card:
  """The card of a family of models.

  Attributes:
    summary: What it does, one sentence.
    paper: Where it comes from.
    code: Released code that it equals, repository and path; empty if it is ours.
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
