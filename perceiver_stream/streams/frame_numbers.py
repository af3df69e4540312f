"""Numbers in the names of images: natural order, and their times, if any.

Frames of one recording carry numbers in steps, of which some may be missing. Dates, times of day
and ids are numbers too; those only give the order of images.
"""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

_DIGITS = re.compile(r"[0-9]+")


def natural_key(name: str) -> tuple[list[str | int], str]:
  """Returns the key by which names sort in natural order.

  >>> sorted(["a10.png", "a9.png", "a1.png"], key=natural_key)
  ['a1.png', 'a9.png', 'a10.png']
  """
  words = _DIGITS.split(name.lower())
  numbers = [int(number) for number in _DIGITS.findall(name)]
  parts: list[str | int] = [
    part for pair in zip(words, [*numbers, 0], strict=True) for part in pair
  ]
  return parts, name


def skeleton(name: str) -> str:
  """Returns a name with `#` for each number: the same for all frames of a recording.

  >>> skeleton("Frame_0012.PNG")
  'frame_#.png'
  """
  return _DIGITS.sub("#", name.lower())


def frame_numbers(names: Sequence[str]) -> list[int] | None:
  """Returns the number of each of some names of one skeleton; None unless exactly one differs.

  >>> frame_numbers(["cam2_007.png", "cam2_008.png"])
  [7, 8]
  """
  columns = zip(*([int(number) for number in _DIGITS.findall(name)] for name in names), strict=True)
  differing = [list(column) for column in columns if len(set(column)) > 1]
  return differing[0] if len(differing) == 1 else None


def common_step(numbers: Sequence[int]) -> int:
  """Returns the most frequent step between successive numbers, the smallest of several; 1 for one.

  Args:
    numbers: Rising.
  """
  steps = Counter(later - earlier for earlier, later in pairwise(numbers))
  return max(steps, key=lambda step: (steps[step], -step)) if steps else 1


def positions(numbers: Sequence[int]) -> list[Fraction] | None:
  """Returns the offset of each number, in steps from the first; None if they are no frame numbers.

  They are where at least half of the numbers from the first to the last are there. Missing ones
  are counted, not listed: a name may hold any number.

  >>> positions([10, 15, 25])
  [Fraction(0, 1), Fraction(1, 1), Fraction(3, 1)]

  Args:
    numbers: In order.
  """
  if len(set(numbers)) < len(numbers):
    return None
  step = common_step(numbers)
  found = [Fraction(number - numbers[0], step) for number in numbers]
  return found if not found or found[-1] + 1 <= 2 * len(found) else None
