"""Methods: one file each, listed here; the type of its config chooses it.

A new method: `methods/<name>.py` with a config and a `Method`, and one name in `METHODS`.
"""

from typing import Any

from perceiver_stream.models.self_supervised.methods.avts import Avts
from perceiver_stream.models.self_supervised.methods.base import Method as Method
from perceiver_stream.models.self_supervised.methods.base import Outcome as Outcome
from perceiver_stream.models.self_supervised.methods.clip import Clip
from perceiver_stream.models.self_supervised.methods.coclr import CoClr
from perceiver_stream.models.self_supervised.methods.dpc import Dpc
from perceiver_stream.models.self_supervised.methods.gdt import Gdt
from perceiver_stream.models.self_supervised.methods.l3 import Look
from perceiver_stream.models.self_supervised.methods.localise import Localise
from perceiver_stream.models.self_supervised.methods.mil_nce import MilNce
from perceiver_stream.models.self_supervised.methods.mmv import Mmv
from perceiver_stream.models.self_supervised.methods.moco import MoCo
from perceiver_stream.models.self_supervised.methods.selavi import Selavi
from perceiver_stream.models.self_supervised.methods.simclr import SimClr
from perceiver_stream.models.self_supervised.methods.supervised import Supervised
from perceiver_stream.models.self_supervised.methods.vatt import Vatt
from perceiver_stream.models.self_supervised.methods.xdc import Xdc

LIST: tuple[type[Method], ...] = (
  SimClr,
  MoCo,
  Clip,
  Look,
  Avts,
  Gdt,
  Xdc,
  Selavi,
  Vatt,
  MilNce,
  Mmv,
  Localise,
  CoClr,
  Dpc,
  Supervised,
)
METHODS = {method.name: method for method in LIST}


def make(config: Any) -> Method:
  """Returns the method that a config describes.

  Raises:
    TypeError: No method has exactly this type of config.
  """
  for method in LIST:
    if type(config) is method.config_type:
      return method(config)
  raise TypeError(
    f"self_supervised: objective.method={config!r} is the config of no method; use the Config of one of "
    f"{', '.join(METHODS)}."
  )
