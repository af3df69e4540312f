"""Configs come back from JSON as they were; what a stranger wrote is checked field by field."""

import copy
import dataclasses
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from perceiver_stream import zoo
from perceiver_stream.files import checking, codec
from perceiver_stream.types import Range
from perceiver_stream.zoo import configs

NAN, INF = float("nan"), float("inf")
ODD = [
  None,
  True,
  -1,
  0,
  1.5,
  NAN,
  INF,
  1e18,
  2**40,
  "x",
  [],
  {},
  [[1], "a"],
  {"_type": "os.system"},
]
NANO = [name for name in zoo.names() if name.endswith("/nano")]


@dataclass(kw_only=True)
class Part:
  size: Annotated[int, Range(1, 9)] = 3


@dataclass(kw_only=True)
class Whole:
  part: Part = field(default_factory=Part)
  parts: dict[str, Part] = field(default_factory=dict)
  shape: tuple[int, int] = (1, 2)
  layers: tuple[Annotated[int, Range(0, 5)], ...] = ()
  rate: float | None = None
  anything: Any = None
  on: bool = True
  name: str = ""
  kind: Literal["linear", "square"] = "linear"


def legacy(value):
  """Returns what `to_dict` gave as weights of older versions hold it."""
  if isinstance(value, list):
    return [legacy(v) for v in value]
  if not isinstance(value, dict):
    return value
  rest = {k: legacy(v) for k, v in value.items() if k != "_type"}
  if "_type" not in value:
    return {"dict": rest}
  module, _, name = value["_type"].removeprefix("perceiver_stream.").rpartition(".")
  return {"class": f"{module}:{name}"} | rest


@pytest.mark.parametrize("name", NANO)
def test_configs_come_back_also_from_the_older_form(name):
  config = zoo.config(name)
  plain = json.loads(json.dumps(codec.to_dict(config)))
  for stored in (plain, legacy(plain)):
    assert codec.from_dict(stored) == config


def leaves(value, path=()):
  """Yields the paths of all fields of all dataclasses."""
  for key, inner in value.items():
    if key != "_type":
      yield (*path, key)
      if isinstance(inner, dict):
        yield from leaves(inner, (*path, key))


def test_a_whole_number_is_a_float_where_one_is_declared():
  stored = codec.to_dict(zoo.config("stream_perceiver/nano"))
  stored["modalities"]["pixels"]["rate_hz"] = 30
  rate = codec.from_dict(stored).modalities["pixels"].rate_hz
  assert (rate, type(rate)) == (30, float)


@pytest.mark.parametrize("name", NANO)
def test_odd_values_are_refused_by_the_name_of_their_field(name):
  plain = codec.to_dict(zoo.config(name))
  refused = 0
  for path in leaves(plain):
    for odd in ODD:
      stored = copy.deepcopy(plain)
      inner = stored
      for key in path[:-1]:
        inner = inner[key]
      inner[path[-1]] = odd
      try:
        zoo.build(configs.from_json(json.dumps(stored)))  # a value that is not odd there
      except ValueError as error:
        refused += 1
        assert any(key.removesuffix("ies") in str(error) for key in path), (
          f"{path} = {odd!r}: {error}"
        )
  assert refused > 8 * len(list(leaves(plain)))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"part": {}}, r"config.part is an object of 0 keys; expected a \S*test_codec.Part"),
    ({"part": Part(size=10)}, r"config.part.size is 10; expected a whole number from 1 to 9"),
    ({"parts": {"a": 1}}, r"config.parts is an object of 1 keys; expected an object of"),
    ({"parts": {"a": Part(size=0)}}, "config.parts.a.size is 0; expected"),
    ({"shape": (1, 2, 3)}, r"config.shape is \[1, 2, 3\]; expected a list of 2 \(a whole number\)"),
    (
      {"layers": (1, 6)},
      r"config.layers is \[1, 6\]; expected a list of \(a whole number from 0 to 5",
    ),
    ({"layers": 600 * (1,)}, r"config.layers is \[1, 1, 1, 1, 1, 1, 1, 1, ...\]; expected"),
    ({"rate": NAN}, "config.rate is nan; expected a number, or none"),
    ({"rate": True}, "config.rate is True; expected a number, or none"),
    ({"anything": (1, {"a": [INF]})}, "config.anything is .*; expected finite numbers, texts, or"),
    ({"kind": "cubic"}, "config.kind is 'cubic'; expected one of 'linear', 'square'"),
    ({"on": 1}, "config.on is 1; expected true or false"),
    ({"name": None}, "config.name is None; expected text"),
    ({"name": 90 * ["x"]}, "config.name is .*; expected text"),
  ],
)
def test_what_does_not_fit_is_said_with_its_place(changes, message):
  codec.check(Whole(anything=("x", 1.5, Part()), rate=3, parts={"a": Part()}, layers=[0, 5]))
  with pytest.raises(ValueError, match=message):
    codec.check(dataclasses.replace(Whole(), **changes))


def test_registered_dataclasses_come_back_under_their_name(monkeypatch):
  monkeypatch.setattr(codec, "_REGISTERED", {})
  config = Whole(parts={"a": Part(size=2)})
  with pytest.raises(
    ValueError, match="is not from perceiver_stream, so it is not loaded; if it names"
  ):
    codec.from_dict(codec.to_dict(config))
  codec.register("whole", Part)
  codec.register("part", Part)
  codec.register("whole", Whole)
  stored = codec.to_dict(config)
  assert stored["_type"] == "whole" and stored["part"]["_type"] == "part"
  assert codec.from_dict(stored) == config


def test_messages_stay_short():
  for value in (10**5000, 5000 * "x", 5000 * (1,), {str(i): i for i in range(5000)}):
    with pytest.raises(ValueError, match="x is .*; expected true or false") as error:
      checking.check_value(value, bool, "x")
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
  ("kind", "text"),
  [
    ("os.path", "is not from perceiver_stream"),
    ("perceiver_stream", "is not from perceiver_stream"),
    ("perceiver_stream.zoo.cards.Card", "is not from perceiver_stream"),
    ("perceiver_stream.models..Config", "no type .* in this version"),
    ("perceiver_stream.models.nothing.Config", "no type .* in this version"),
    ("perceiver_stream.models.base.as_model", "is not a config"),
    (3, "type 3 is not from perceiver_stream"),
    (["perceiver_stream.models"], "is not from perceiver_stream"),
  ],
)
def test_only_our_own_dataclasses_are_made(kind, text):
  with pytest.raises(ValueError, match=text):
    codec.from_dict({"_type": kind})


def test_keys_that_are_not_known_are_refused_with_the_nearest():
  stored = codec.to_dict(zoo.config("stream_perceiver/nano"))
  stored["core"]["latent_dims"] = 1
  with pytest.raises(
    ValueError, match="config.core has no key 'latent_dims'. Did you mean 'latent_dim'"
  ):
    codec.from_dict(stored)


def test_json_that_nests_too_deeply_is_refused():
  for text in (900 * "[" + 900 * "]", 100_000 * "["):
    with pytest.raises(ValueError, match="config (nests too deeply|is not readable as JSON)"):
      codec.from_json(text)


def test_what_json_cannot_keep_is_named():
  with pytest.raises(TypeError, match="config holds a object"):
    codec.to_dict(Whole(anything=object()))
