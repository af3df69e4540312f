"""Modalities, one file each, and the list that registers them.

To add one, write `modalities/<name>.py` with a `Config`, a `Modality` and `MODALITY = (Config,
Class)`, and add it to `MODALITIES`, from which the conformance tests collect it.
"""

from perceiver_stream.modalities import audio, depth, dha, flow, pixels, segmentation, vector
from perceiver_stream.modalities.base import Modality as Modality
from perceiver_stream.modalities.base import ModalityConfig as ModalityConfig
from perceiver_stream.modalities.base import Queries as Queries
from perceiver_stream.modalities.finite import NonFinite as NonFinite
from perceiver_stream.modalities.finite import NonFiniteWarning as NonFiniteWarning
from perceiver_stream.modalities.memory import Memory as Memory

MODALITIES = (pixels, audio, depth, dha, flow, segmentation, vector)

_CLASSES = dict(module.MODALITY for module in MODALITIES)


def build(name: str, config: ModalityConfig) -> Modality:
  """Returns the modality that `config` describes, under `name`.

  Raises:
    TypeError: No modality in `MODALITIES` has this type of config.
  """
  if type(config) not in _CLASSES:
    known = sorted(c.__module__ for c in _CLASSES)
    raise TypeError(
      f"modality '{name}': no modality has a config of type {type(config).__qualname__} "
      f"({type(config).__module__}); add its file to MODALITIES or use one of {known}."
    )
  return _CLASSES[type(config)](name, config)
