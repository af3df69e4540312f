"""Names and array shapes common to all packages.

Legend of the shape letters used in annotations and docstrings:

  B  batch rows (parallel streams)          T  ticks (time-major arrays start with T)
  N  tokens (encoder inputs)                C  channels of a token
  L  latents                                D  channels of a latent
  Q  queries (decoder inputs)               E  channels of a query
  H, W  rows and columns of an image        S  audio samples in one tick

This module imports neither jax nor other modules of the package, so that streams, which do not depend
on models, can use it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

# One tick of one stream, by name. Batched and time-major when it reaches a model:
#   <modality>        [T, B, *spec.shape]   the observation itself
#   <modality>_valid  [T, B] bool           False: that row has no such observation at that tick
#   is_first          [T, B] bool           True: a new recording starts; state resets before the tick
# A missing modality is equivalent to one that is invalid in every row.
Observation = Mapping[str, Any]

VALID_SUFFIX = "_valid"
IS_FIRST = "is_first"


class Range(NamedTuple):
  """Bounds of a number in a config: `height: Annotated[int, Range(1, 4096)]`.

  Configs in files are refused if a value is outside; see `files.codec`.

  Attributes:
    least: Smallest value.
    most: Largest value, with which a model can still be built.
  """

  least: float
  most: float


Size = Annotated[int, Range(1, 2**24)]  # rows, channels, samples, latents
Count = Annotated[int, Range(0, 2**24)]
Layers = Annotated[int, Range(0, 512)]
Bands = Annotated[int, Range(1, 1024)]  # pairs of sines and cosines
Octaves = Annotated[int, Range(1, 64)]  # bands; each doubles the frequency
Ticks = Annotated[int, Range(0, 2**20)]  # a displacement or a delay
Positive = Annotated[float, Range(1e-30, 1e30)]
NonNegative = Annotated[float, Range(0.0, 1e30)]
Share = Annotated[float, Range(0.0, 1.0)]


def valid_key(modality: str) -> str:
  """Returns the name of the flag that marks observations of `modality`."""
  return modality + VALID_SUFFIX


@dataclass(frozen=True, kw_only=True)
class ModalitySpec:
  """Shape, dtype, range and rate of one tick of a modality.

  Attributes:
    shape: Shape of one tick of one row, e.g. `(64, 64, 3)` for pixels or `(640,)` for audio.
    dtype: Name of the dtype in which a stream delivers it, e.g. `"uint8"`.
    minimum: Smallest value.
    maximum: Largest value; equal to `minimum` when there is no bound.
    rate_hz: Elements per second along the time axis: ticks for images, samples for audio;
      0 if ticks are as far apart as the images of a file.
    units: Unit of a value, in words.
    offset_s: Seconds from a tick's time on the stream's clock to its first element: 0 for an
      image, minus one tick for sound, which precedes the tick.
  """

  shape: tuple[Count, ...]
  dtype: str = "float32"
  minimum: float = 0.0
  maximum: float = 1.0
  rate_hz: float = 25.0
  units: str = ""
  offset_s: float = 0.0
