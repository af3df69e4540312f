"""Fields under old names: read from files, taken with a warning, refused on the command line."""

import dataclasses
import json
import warnings

import pytest

from perceiver_stream.core import PredictCorrectConfig
from perceiver_stream.files import codec
from perceiver_stream.modalities import pixels
from perceiver_stream.models import stream_perceiver
from perceiver_stream.training import flags

PIXELS = {"pixels": pixels.Config(height=8, width=8)}
# Of each class: what it needs besides, old fields, and the fields of today that they mean.
CASES = [
  (PredictCorrectConfig, {}, {"identity": False, "places": False}, {"latent_embedding": "none"}),
  (PredictCorrectConfig, {}, {"identity": True, "places": False}, {"latent_embedding": "learned"}),
  (PredictCorrectConfig, {}, {"places": True, "identity": True}, {"latent_embedding": "grid"}),
  (pixels.Config, {}, {"looks_back": False}, {"reconstruct_motion": False}),
  (pixels.Config, {}, {"looks_back": True}, {"reconstruct_motion": True}),
] + [
  (
    stream_perceiver.Config,
    {"modalities": PIXELS},
    {old: value},
    {"bottleneck": stream_perceiver.BottleneckConfig(**{new: value})},
  )
  for old, new, value in [
    ("queries_see", "condition_queries_on_input", False),
    ("norm_tokens", "norm_tokens", False),
    ("latent_grid", "latent_grid", (8, 8)),
    ("latent_grid", "latent_grid", None),
  ]
]
OLD = [(kind, name) for kind, _, old, _ in CASES for name in old]
cases = pytest.mark.parametrize(("kind", "rest", "old", "new"), CASES)


def stored(config, old, new):
  """Returns the JSON of a config as an earlier version wrote it."""
  fields = {name: value for name, value in codec.to_dict(config).items() if name not in new}
  return json.dumps(fields | old)


@cases
def test_files_with_old_fields_are_read_without_a_warning(kind, rest, old, new):
  config = kind(**rest, **new)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert codec.from_json(stored(config, old, new)) == config


@cases
def test_objects_are_made_with_old_fields_with_a_warning_each(kind, rest, old, new):
  with pytest.warns(DeprecationWarning, match="version 0.2 will not know the old name") as caught:
    assert kind(**rest, **old) == kind(**rest, **new)
  assert len(caught) == len(old)


def test_old_fields_of_one_part_come_together_and_keep_what_is_set():
  wanted = stream_perceiver.BottleneckConfig(condition_queries_on_input=False, norm_tokens=False)
  config = stream_perceiver.Config(
    modalities=PIXELS, bottleneck=dataclasses.replace(wanted, condition_queries_on_input=True)
  )
  with pytest.warns(DeprecationWarning, match="queries_see is now bottleneck.condition_queries_on"):
    assert dataclasses.replace(config, queries_see=False).bottleneck == wanted


@pytest.mark.parametrize(("kind", "name"), OLD)
def test_an_old_attribute_names_the_new_one(kind, name):
  config = kind(**({"modalities": PIXELS} if kind is stream_perceiver.Config else {}))
  with pytest.raises(AttributeError, match=f"Config.{name} is now "):
    getattr(config, name)
  with pytest.raises(AttributeError, match=f"Config.{name} is now "):
    setattr(config, name, True)


@pytest.mark.parametrize(
  ("key", "message"),
  [
    ("model.queries_see", "config.model.bottleneck.condition_queries_on_input"),
    ("model.latent_grid", "config.model.bottleneck.latent_grid"),
    ("model.norm_tokens", "config.model.bottleneck.norm_tokens"),
    (
      "model.core.identity",
      "config.model.core.latent_embedding, False is 'none', True is 'learned'",
    ),
    ("model.core.places", "config.model.core.latent_embedding, True is 'grid'"),
    ("model.modalities.pixels.looks_back", "config.model.modalities.pixels.reconstruct_motion"),
  ],
)
def test_an_old_key_of_the_command_line_names_the_new_one(key, message):
  with pytest.raises(ValueError, match=f"config.{key} is now {message}.$"):
    flags.load_config("synthetic:nano", [f"--config.{key}=1"])


@pytest.mark.parametrize("value", ["x", 0, [1], [2, "y"], {}, [10**9, 1]])
def test_values_of_old_fields_are_checked_too(value):
  text = stored(stream_perceiver.Config(modalities=PIXELS), {"latent_grid": value}, ["bottleneck"])
  with pytest.raises(
    ValueError, match=r"config\.bottleneck\.latent_grid|no Config can be made of it"
  ):
    codec.from_json(text)
