"""Tests of the lists of families: names, configs and errors of each kind."""

import dataclasses

import pytest

from perceiver_stream import zoo
from perceiver_stream.models.family import Card, Record
from perceiver_stream.zoo import clip_encoders, point_trackers, registry


@dataclasses.dataclass
class Config:
  width: int = 1


class Wider(Config):
  pass


CARD = Card(summary="s", paper="p", inputs="i", code="somewhere")
RECORD = Record(
  name="toy",
  config=Config,
  build=lambda config: config.width,
  variants={"nano": Config, "wide": lambda: Config(3)},
  card=CARD,
  released={"wide": "a file"},
)


def test_variants_are_found_built_and_described():
  toys = registry.Registry({"toy": RECORD}, "toy")
  assert toys.names() == ["toy/nano", "toy/wide"]
  assert (toys.build("toy/wide"), toys.build(Config(7))) == (3, 7)
  assert toys.config("toy/nano") is not toys.config("toy/nano")
  assert (toys.released("toy/wide"), toys.released("toy/nano")) == ("a file (somewhere)", "")


def test_families_added_later_count():
  families = {}
  toys = registry.Registry(families, "toy")
  assert not toys.names()
  families["toy"] = RECORD
  assert toys.names() == ["toy/nano", "toy/wide"]


def test_a_subclass_of_a_config_belongs_to_no_family():
  with pytest.raises(TypeError, match=r"Wider belongs to none of \['toy'\]"):
    registry.Registry({"toy": RECORD}, "toy").family(Wider())


@pytest.mark.parametrize(
  ("kind", "near", "wanted"),
  [
    (zoo, "rvm/nan", "no model 'rvm/nan'. Did you mean 'rvm/nano'"),
    (clip_encoders, "vivit/nan", "no encoder of clips 'vivit/nan'. Did you mean 'vivit/nano'"),
    (point_trackers, "tapir/nan", "no tracker 'tapir/nan'. Did you mean 'tapir/nano'"),
  ],
)
def test_unknown_names_are_errors_with_the_nearest(kind, near, wanted):
  with pytest.raises(ValueError, match=wanted.replace("?", r"\?")):
    kind.config(near)


def test_no_name_is_of_two_kinds():
  names = [*zoo.names(), *clip_encoders.names(), *point_trackers.names()]
  assert len(names) == len(set(names))
