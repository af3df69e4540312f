"""Named models: `build("family/variant")`.

A family is a package (or a module) of `models` with a `FAMILY`, a `models.family.Family`. Adding
its name to `PACKAGES` registers its variants, its objective and its experiments.
"""

from typing import Any

from perceiver_stream.models.base import Model
from perceiver_stream.models.family import Family
from perceiver_stream.models.mapping import flatten as flatten
from perceiver_stream.models.stages import Staged
from perceiver_stream.zoo import clip_encoders as clip_encoders
from perceiver_stream.zoo import point_trackers as point_trackers
from perceiver_stream.zoo import registry
from perceiver_stream.zoo.loading import load as load
from perceiver_stream.zoo.loading import save as save

PACKAGES = (
  "frame_predictors.conv3d",
  "frame_predictors.image_rnn",
  "frame_predictors.trecvit",
  "frame_predictors.video_autoencoder",
  "moog",
  "perceiver_io.autoencoder_variants",
  "perceiver_io.classifier_variants",
  "perceiver_io.flow_variants",
  "rvm",
  "savi.streaming",
  "stream_perceiver",
  "vjepa.streaming",
  "trecvit_classifier",
)
FAMILIES: dict[str, Family] = registry.families(PACKAGES)
# Trained by the same loop, but of whole clips: no stream models, and not among `names`.
OF_CLIPS: dict[str, Family] = registry.families(
  ("a2mt.variants", "brave.variants", "self_supervised.variants")
)
_REGISTRY = registry.Registry(FAMILIES, "model")
names = _REGISTRY.names
released = _REGISTRY.released


def config(name: str) -> Any:
  """Returns a new config of the named model, which can be changed and passed to `build`.

  Raises:
    ValueError: There is no such model; the message suggests the nearest name.
  """
  if name in clip_encoders.names():
    raise ValueError(
      f"zoo: '{name}' encodes whole clips; it is no recurrent model of a stream. Build it with "
      f"zoo.clip_encoders.build."
    )
  return _REGISTRY.config(name)


def family(config: Any) -> Family:
  """Returns the family whose configs have exactly the type of `config`.

  Raises:
    TypeError: There is none; a subclass of a family's `Config` does not count.
  """
  if known := next((f for f in OF_CLIPS.values() if type(config) is f.config), None):
    return known
  kind = type(config)
  if kind in {known.config for known in clip_encoders.FAMILIES.values()}:
    raise TypeError(
      f"zoo: {kind.__module__}.{kind.__qualname__} is the config of an encoder of clips, not of a "
      f"recurrent model of a stream; build it with zoo.clip_encoders.build."
    )
  return _REGISTRY.family(config)


def build(name_or_config: Any) -> Model:
  """Returns a model by name or config.

  >>> build("stream_perceiver/nano").displacements
  (1, 4, 16)

  Raises:
    ValueError: There is no such model.
    TypeError: The config belongs to no family of the zoo.
  """
  chosen = config(name_or_config) if isinstance(name_or_config, str) else name_or_config
  return family(chosen).build(chosen)


def staged(name_or_config: Any) -> Staged:
  """Returns a model by name or config, as layers that `execution` can partition into stages.

  >>> [layer.name for layer in staged("stream_perceiver/nano").layers]
  ['input', 'core', 'queries', 'decoder_0', 'heads']

  Raises:
    ValueError: There is no such model, or it cannot be split into a list of layers.
    TypeError: The config belongs to no family of the zoo.
  """
  chosen = config(name_or_config) if isinstance(name_or_config, str) else name_or_config
  known = family(chosen)
  if known.stages:
    return known.stages(chosen)
  raise ValueError(
    f"zoo: a {known.name} is not staged: its depth is no list of layers. Staged are "
    f"{sorted(name for name, f in FAMILIES.items() if f.stages)}; run it with execution=sequential."
  )
