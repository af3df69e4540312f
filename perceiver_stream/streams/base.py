"""The protocol of a stream, and its clock.

A stream is a `grain.IterDataset` of ticks. Tick i of a recording has the observations up to the
time i / rate_hz, and nothing later:

  <modality>        the newest observation: the image at that time, the sound of the
                    interval ((i - 1) / rate_hz, i / rate_hz]
  <modality>_valid  bool; False: there is none, and the array holds the last one, or zeros
  is_first          bool; True at the first tick of a recording (the state resets before it)
  timestamp_s       float64 seconds on the stream's one clock, which runs on over its recordings

Every tick has the same names, shapes and dtypes, those of `specs(config)`. Ticks come in order;
nothing here shuffles. Iterators hold an open file and little else; `get_state` is a dict of ints
with fixed keys, and `set_state` on a new iterator continues with exactly the tick that would have
come next, in the middle of a file too. Arrays of a tick are not to be written to.

Times are exact fractions: no sum of floats, so no drift.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from perceiver_stream.types import IS_FIRST, ModalitySpec, valid_key

TIMESTAMP = "timestamp_s"
ENDED = "ended"  # in windows: the row's stream has ended, this tick is padding

_NTSC = {float(n): Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120)}
CROPS = ("centre", "squash")  # how an image is brought to the size of a stream; see `Picker`


@dataclass(kw_only=True)
class StreamConfig:
  """Fields every stream has.

  Attributes:
    rate_hz: Ticks per second. 29.97, 23.976 and similar rates stand for the exact NTSC fractions.
    audio_rate_hz: Sound samples per second, a whole multiple of `rate_hz`; 0 is no sound.
    max_ticks: Ticks after which every row ends; 0 is no limit.
  """

  rate_hz: float = 25.0
  audio_rate_hz: int = 16000
  max_ticks: int = 0

  def __post_init__(self):
    self.validate()

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    self.check_rates()
    if self.max_ticks < 0:
      raise ValueError(f"stream: max_ticks={self.max_ticks}; use 0 for no limit.")
    if self.audio_rate_hz < 0:
      raise ValueError(f"stream: audio_rate_hz={self.audio_rate_hz}; use 0 to leave sound out.")

  def check_rates(self) -> None:
    """Checks that the rates are possible and fit each other; raises ValueError."""
    exact_rate(self.rate_hz)
    if self.audio_rate_hz > 0:
      samples_per_tick(self.rate_hz, self.audio_rate_hz)


def check_least(stream: str, config: StreamConfig, least: Mapping[str, int]) -> None:
  """Raises ValueError if a field of a stream's config is below its least value."""
  for name, value in least.items():
    if getattr(config, name) < value:
      raise ValueError(f"{stream}: {name}={getattr(config, name)}; use at least {value}.")


def exact_rate(rate_hz: float) -> Fraction:
  """Returns the exact fraction of a tick rate.

  >>> exact_rate(12.5), exact_rate(29.97), exact_rate(30000 / 1001)
  (Fraction(25, 2), Fraction(30000, 1001), Fraction(30000, 1001))
  """
  if not 0.01 <= rate_hz <= 10000:
    raise ValueError(f"stream: rate_hz={rate_hz} ticks per second; use 0.01 to 10000.")
  for exact in _NTSC.values():
    if abs(rate_hz - exact) < 0.005:
      return exact
  return Fraction(rate_hz).limit_denominator(1001)


def samples_per_tick(rate_hz: float, audio_rate_hz: int) -> int:
  """Returns the whole number of sound samples in a tick.

  Raises:
    ValueError: It is not whole; the message has the nearest rates that fit.
  """
  rate = exact_rate(rate_hz)
  samples = audio_rate_hz / rate
  if samples.denominator == 1:
    return int(samples)
  unit = rate.numerator  # audio rates that fit are the multiples of it
  audio = unit * max(1, round(audio_rate_hz / unit))
  whole = [r for r in range(1, min(audio_rate_hz, 1000) + 1) if audio_rate_hz % r == 0]
  raise ValueError(
    f"stream: audio_rate_hz={audio_rate_hz} is {float(samples):.3f} samples per tick of "
    f"rate_hz={rate_hz}, not a whole number; use audio_rate_hz={audio} "
    f"({int(audio / rate)} samples) or rate_hz={min(whole, key=lambda r: abs(r - rate))}."
  )


def pixels_spec(config: StreamConfig, height: int, width: int) -> ModalitySpec:
  """Returns the spec of RGB images."""
  return ModalitySpec(
    shape=(height, width, 3),
    dtype="uint8",
    minimum=0.0,
    maximum=255.0,
    rate_hz=float(exact_rate(config.rate_hz)) if config.rate_hz else 0.0,
    units="intensity",
  )


def audio_spec(config: StreamConfig) -> ModalitySpec:
  """Returns the spec of mono sound."""
  return ModalitySpec(
    shape=(samples_per_tick(config.rate_hz, config.audio_rate_hz),),
    minimum=-1.0,
    maximum=1.0,
    rate_hz=float(config.audio_rate_hz),
    units="full scale",
    offset_s=-1.0 / float(exact_rate(config.rate_hz)),
  )


def make_tick(
  values: Mapping[str, tuple[np.ndarray, bool]], is_first: bool, time: Fraction
) -> dict[str, Any]:
  """Returns a tick; `values` are pairs of array and validity by modality."""
  tick: dict[str, Any] = {name: array for name, (array, _) in values.items()}
  tick |= {valid_key(name): np.bool_(valid) for name, (_, valid) in values.items()}
  return tick | {IS_FIRST: np.bool_(is_first), TIMESTAMP: np.float64(float(time))}


def is_over(state: Mapping[str, int], config: Any) -> bool:
  """Returns True after the last pass or tick.

  Args:
    state: With the passes that ended, `loop`, and the ticks so far, `count`.
    config: With `loops`, -1 is endless, and `max_ticks`, 0 is no limit; the state may be of a run
      that had other ones.
  """
  return 0 <= config.loops <= state["loop"] or 0 < config.max_ticks <= state["count"]


def check_state(what: str, state: Any, like: Mapping[str, Any]) -> None:
  """Raises ValueError unless `state` has the keys of `like`, which the same iterator made.

  Nested values are checked if `like` has them. Numbers must be whole, and not negative outside
  nested values, which have times too.
  """
  _check_form(what, state, like)
  for name, value in like.items():
    if isinstance(value, int) and state[name] < 0:
      raise ValueError(
        f"{what}: the state to restore has {name}={state[name]}, expected 0 or more; it is damaged, "
        f"restore an older one."
      )


def _check_form(what: str, state: Any, like: Mapping[str, Any]) -> None:
  if not isinstance(state, Mapping) or set(state) != set(like):
    has = sorted(state) if isinstance(state, Mapping) else repr(state)[:80]
    raise ValueError(
      f"{what}: the state to restore has {has}, expected {sorted(like)}; it was saved by another "
      f"kind of stream or another version."
    )
  for name, value in like.items():
    if isinstance(value, Mapping) and value:
      _check_form(f"{what}, {name}", state[name], value)
    if isinstance(value, int) and not isinstance(state[name], int):
      raise ValueError(
        f"{what}: the state to restore has {name}={state[name]!r}, expected a whole number; it was "
        f"saved by another kind of stream or another version."
      )
