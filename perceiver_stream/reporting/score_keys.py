"""Names in the scores of a run: outputs at a displacement, predictors, and the metric's suffix.

Scores are nested dicts, so that JSON and NumPy files can hold them: by `ScoreKey` as text, then by
predictor. A predictor with the suffix `PSNR` is the same error as a peak signal-to-noise ratio.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

MODEL = "model"  # the trained predictor; all others are baselines
COUNT, VALID = "count", "valid"  # targets that were scored, and where there was one
PSNR = "_psnr"
_TEXT = re.compile(r"([^@]+)@(0|[1-9][0-9]{0,8})")


class ScoreKey(NamedTuple):
  """One output at one displacement; keys sort by output, then near before far.

  >>> str(ScoreKey("pixels", 4)), ScoreKey.parse("pixels@4")
  ('pixels@4', ScoreKey(output='pixels', displacement=4))

  Attributes:
    output: Name of a modality, or `"<modality>_flow"`.
    displacement: Ticks ahead, 0 or more.
  """

  output: str
  displacement: int

  def __str__(self) -> str:
    return f"{self.output}@{self.displacement}"

  @classmethod
  def parse(cls, text: str) -> "ScoreKey":
    """Returns the key that `str` made `text` of.

    Raises:
      ValueError: It is none.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
      raise ValueError(
        f"{text!r} is no key of scores; expected <output>@<displacement>, as pixels@4."
      )
    return cls(found[1], int(found[2]))


def is_score_key(text: str) -> bool:
  """Returns True if `text` is a `ScoreKey`.

  >>> [is_score_key(text) for text in ("pixels@4", "pixels", "pixels@4/model", "pixels@04")]
  [True, False, False, False]
  """
  return _TEXT.fullmatch(text) is not None


def pixels_first(key: ScoreKey) -> tuple[bool, ScoreKey]:
  """Returns a sort key: images before all other outputs."""
  return key.output != "pixels", key


def reference(names: Iterable[str]) -> str | None:
  """Returns the baseline that gains are over: `copy`, else the first by name; None without any.

  >>> reference(["model", "copy", "mix"]), reference(["count", "model", "zero_flow"])
  ('copy', 'zero_flow')
  """
  baselines = {n for n in names if not n.endswith(PSNR)} - {MODEL, COUNT, VALID}
  return "copy" if "copy" in baselines else min(baselines, default=None)
