"""Rules by which learning becomes rarer where a live stream is faster than the learner.

A live source keeps the newest tick alone, so a learner that is too slow drops images. The rules count
them, not seconds, over periods of 8 windows:

  1. Images were dropped in a period: learn from half as many windows, down to one of 8. The other
     windows are only watched: the state advances and all predictions are scored, for a third of the cost.
  2. None were dropped in as many periods as `patience`, 4 at first: learn from twice as many. If images
     are dropped in the next period, rule 1 takes it back and the patience doubles, up to 64.

Every change is stated, and images that are dropped where learning cannot become rarer. The rules
are those of `training.train`, and of the live page, where learning has a thread of its own; there a
window that comes while one is computed and another waits is only watched, too.
"""

PERIOD = 8  # windows
RAREST = 8
PATIENCE, LONGEST_PATIENCE = 4, 64  # periods


class Pace:
  """The share of windows that are learned from, in one session of a run on a live stream.

  Attributes:
    every: One window of so many is learned from.
    learned: Number of windows that were learned from.
    watched: Number of windows that were only watched.
    dropped: Images dropped so far, those before the first window left out.
  """

  def __init__(self) -> None:
    self.every, self.learned, self.watched, self.dropped = 1, 0, 0, 0
    self._first: int | None = None  # dropped images of the source before the first window
    self._before = 0  # images dropped before this period
    self._calm, self._patience = 0, PATIENCE  # periods
    self._is_trial = self._is_stated = False

  def begin(self, dropped: int) -> None:
    """Starts to count; what the source dropped so far, while programs were compiled, is left out."""
    self._first = dropped

  def leave_out(self, dropped: int) -> None:
    """Leaves out images that were dropped while nothing was to be learned."""
    if self._first is not None:
      self._first += dropped

  def learns(self, *, is_busy: bool = False) -> bool:
    """Returns True if the next window is to be learned from.

    Args:
      is_busy: Whether windows before it are still to be learned, so that this one cannot be.
    """
    is_learned = (self.learned + self.watched) % self.every == 0 and not is_busy
    self.learned, self.watched = self.learned + is_learned, self.watched + (not is_learned)
    return is_learned

  def after(self, dropped: int) -> str:
    """Takes in the images that the source has dropped in all, and returns a statement of any change.

    Call it once after each window.
    """
    self.dropped = dropped - (dropped if self._first is None else self._first)
    if (self.learned + self.watched) % PERIOD:
      return ""
    lost, self._before = self.dropped - self._before, self.dropped
    return self._faster(lost) if lost else self._calmer()

  def counts(self) -> dict[str, int]:
    """Returns the counts for the summary of a run."""
    return {"learned": self.learned, "watched": self.watched, "dropped": self.dropped}

  def total(self) -> str:
    """Returns the counts as a sentence."""
    return (
      f"Live: {self.learned} windows were learned from, {self.watched} only watched; "
      f"{self.dropped} images were dropped since the programs were compiled."
    )

  def _faster(self, lost: int) -> str:
    """Applies rule 1."""
    self._calm = 0
    text = f"The stream is faster than the learner: {lost} image{'s' * (lost > 1)} dropped in {PERIOD} windows, "
    text += f"{self.dropped} in all. "
    if self._is_trial:
      self._patience = min(2 * self._patience, LONGEST_PATIENCE)
    self._is_trial = False
    if self.every < RAREST:
      self.every, self._is_stated = 2 * self.every, False
      return text + f"One window of {self.every} is learned from, the others are only watched."
    if self._is_stated:
      return ""
    self._is_stated = True
    return text + (
      f"Learning stays at one window of {RAREST}, and images will be dropped: use a smaller model or a "
      f"lower rate_hz."
    )

  def _calmer(self) -> str:
    """Applies rule 2."""
    self._is_trial = False
    self._calm += 1
    if self.every == 1 or self._calm < self._patience:
      return ""
    self.every, self._calm, self._is_trial = self.every // 2, 0, True
    share = "Every window" if self.every == 1 else f"One window of {self.every}"
    return f"No image dropped in {self._patience * PERIOD} windows. {share} is learned from."
