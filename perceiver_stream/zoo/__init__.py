"""Named models: `build("family/variant")`.

A family is a module with `VARIANTS` (name → config factory), `build(config)`, `fitted(config, specs)`
and a `CARD`; list it in `FAMILIES` and its variants are in the zoo. `RELEASED` names the files of
published weights, by variant.
"""

import difflib
from typing import Any

from perceiver_stream.models.base import Model
from perceiver_stream.models.staged import Staged
from perceiver_stream.zoo import (
  conv3d,
  image_rnn,
  moog,
  perceiver_autoencoder,
  perceiver_classifier,
  perceiver_flow,
  rvm,
  stream_perceiver,
  trecvit,
  video_autoencoder,
)
from perceiver_stream.zoo.loading import load as load
from perceiver_stream.zoo.loading import save as save
from perceiver_stream.zoo.translation import flatten as flatten

FAMILIES = {
  "conv3d": conv3d,
  "image_rnn": image_rnn,
  "moog": moog,
  "perceiver_autoencoder": perceiver_autoencoder,
  "perceiver_classifier": perceiver_classifier,
  "perceiver_flow": perceiver_flow,
  "rvm": rvm,
  "stream_perceiver": stream_perceiver,
  "trecvit": trecvit,
  "video_autoencoder": video_autoencoder,
}


def names() -> list[str]:
  """Returns the names of all models, `"family/variant"`, sorted."""
  return sorted(f"{family}/{v}" for family, module in FAMILIES.items() for v in module.VARIANTS)


def config(name: str) -> Any:
  """Returns a fresh config of the named model, to change and pass to `build`.

  Raises:
    ValueError: There is no such model; the message has the nearest name.
  """
  if name not in names():
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise ValueError(f"zoo: there is no model '{name}'; {hint}The zoo has {', '.join(names())}.")
  family, variant = name.split("/")
  return FAMILIES[family].VARIANTS[variant]()


def family(config: Any) -> Any:
  """Returns the module of the family whose `Config` has exactly the type of `config`.

  Raises:
    TypeError: There is none; a subclass of a `Config` is another model's.
  """
  for module in FAMILIES.values():
    if type(config) is module.Config:
      return module
  kind = type(config)
  raise TypeError(
    f"zoo: config of type {kind.__module__}.{kind.__qualname__} belongs to none of "
    f"{sorted(FAMILIES)}; use the Config of one of them, or add a family to FAMILIES."
  )


def build(name_or_config: Any) -> Model:
  """Returns a model by name, or from a config.

  >>> build("stream_perceiver/nano").displacements
  (1, 4, 16)

  Raises:
    ValueError: There is no such model.
    TypeError: The config is of no family of the zoo.
  """
  chosen = config(name_or_config) if isinstance(name_or_config, str) else name_or_config
  return family(chosen).build(chosen)


def released(name: str) -> str:
  """Returns which published file holds the weights of a named model; empty if none does.

  >>> released("rvm/small")
  'the flat .npz of size S (google-deepmind/representations4d, colabs/rvm_inference_demo.ipynb)'

  Raises:
    ValueError: There is no such model.
  """
  module, variant = family(config(name)), name.split("/")[1]
  file = getattr(module, "RELEASED", {}).get(variant)
  return f"{file} ({module.CARD.code})" if file else ""


def staged(name_or_config: Any) -> Staged:
  """Returns a model by name, or of a config, as layers that `execution` can cut into stages.

  >>> [layer.name for layer in staged("stream_perceiver/nano").layers]
  ['input', 'core', 'queries', 'decoder_0', 'heads']

  Raises:
    ValueError: There is no such model, or its depth is no list of layers.
    TypeError: The config is of no family of the zoo.
  """
  chosen = config(name_or_config) if isinstance(name_or_config, str) else name_or_config
  module = family(chosen)
  if hasattr(module, "staged"):
    return module.staged(chosen)
  raise ValueError(
    f"zoo: a {module.__name__.rsplit('.', 1)[-1]} is not staged: its depth is no list of layers. "
    f"Staged are {sorted(name for name, m in FAMILIES.items() if hasattr(m, 'staged'))}; run it "
    f"with execution=sequential."
  )
