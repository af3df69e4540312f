"""Damage of files: errors, and counts of losses."""

import dataclasses
import logging
from dataclasses import dataclass

logger = logging.getLogger(__name__)

ON_DAMAGE = ("stop", "skip")
_MAY_BE_MEANT = ("gaps", "jumps")  # kinds of `Damage` that pauses and edits cause too


class DamagedError(ValueError):
  """A media file cannot be read correctly; the message names the position and the remedy."""


@dataclass
class Damage:
  """Losses of the recordings read so far; all zero for intact ones.

  Attributes:
    files: Files that could not be opened, or held no image.
    packets: Packets of images that could not be read or decoded.
    lost: Images that the file announces but does not contain.
    broken: Images partly invented by the decoder, or after a loss and before the next key frame.
    late: Images dropped because their time is before that of an earlier output.
    jumps: Jumps of the file's clock, removed; pauses longer than `max_gap_s` look the same.
    sound: Packets of sound that could not be read or decoded.
    gaps: Holes in the sound, longer than 20 ms, and, if the file states a constant rate, between
      the stated end of an image and the next; no error, because some recorders pause, and
      skip images without change.
  """

  files: int = 0
  packets: int = 0
  lost: int = 0
  broken: int = 0
  late: int = 0
  jumps: int = 0
  sound: int = 0
  gaps: int = 0

  def __add__(self, other: "Damage") -> "Damage":
    theirs = dataclasses.asdict(other)
    return Damage(**{name: n + theirs[name] for name, n in dataclasses.asdict(self).items()})

  def __bool__(self) -> bool:
    return any(vars(self).values())

  def __str__(self) -> str:
    found = [f"{name} {n}" for name, n in dataclasses.asdict(self).items() if n]
    return ", ".join(found) or "none"


class Ledger:
  """Records the damage of one file, and stops or warns according to the config."""

  def __init__(self, path: str, on_damage: str):
    self.path, self.damage, self._stop = path, Damage(), on_damage == "stop"
    self.tried: int | None = None  # errors of an attempt, which are not booked
    self._reported: set[str] = set()

  def book(self, kind: str, where: str, count: int = 1) -> None:
    """Counts damage of one kind.

    Raises:
      DamagedError: Damage, and the config has `on_damage="stop"`.
    """
    if self.tried is not None:
      self.tried += count if kind != "gaps" else 0
      return
    setattr(self.damage, kind, getattr(self.damage, kind) + count)
    what = f"{self.path}{'' if kind in _MAY_BE_MEANT else ' is damaged'}: {where}"
    if self._stop and kind != "gaps":
      raise DamagedError(
        f"{what}. Use on_damage='skip' to continue after damage and count it, or repair the file."
      )
    if kind in self._reported:
      return
    self._reported.add(kind)
    end = "a recorder may have paused" if kind == "gaps" else "continuing after it"
    logger.warning("%s; %s.", what, end)

  def close(self) -> None:
    """Logs the total losses."""
    if self.damage:
      what = "holes" if self.damage == Damage(gaps=self.damage.gaps) else "damage"
      logger.warning("%s: %s in all: %s.", self.path, what, self.damage)
