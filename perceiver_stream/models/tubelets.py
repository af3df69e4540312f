"""Clips as whole numbers of tubelets: blocks over time, rows and columns that become one token each."""

Sizes = tuple[int, int, int]  # times, rows, columns


class Tubelets:
  """Sizes of configs with a field for each side of a clip and of a tubelet."""

  num_frames: int
  height: int
  width: int
  patch_frames: int
  patch_height: int
  patch_width: int

  @property
  def clip_sizes(self) -> Sizes:
    """Frames, rows and columns of a clip."""
    return self.num_frames, self.height, self.width

  @property
  def tubelet_sizes(self) -> Sizes:
    """Frames, rows and columns of a tubelet."""
    return self.patch_frames, self.patch_height, self.patch_width

  @property
  def grid(self) -> Sizes:
    """Tubelets over time, rows, columns."""
    return tubelet_grid(self.clip_sizes, self.tubelet_sizes)


def tubelet_grid(clip: Sizes, tubelet: Sizes) -> Sizes:
  """Returns the tubelets over time, rows and columns of a clip; what is left over is not counted."""
  return clip[0] // tubelet[0], clip[1] // tubelet[1], clip[2] // tubelet[2]


def check_tubelets(family: str, clip: Sizes, tubelet: Sizes) -> None:
  """Raises ValueError if a clip is no whole number of tubelets, which would drop frames or pixels.

  Args:
    family: Named in the error.
    clip: Frames, rows and columns of a clip.
    tubelet: Those of a tubelet.
  """
  if any(size % step for size, step in zip(clip, tubelet, strict=True)):
    raise ValueError(
      f"{family}: clips of {_text(clip)} (frames, rows, columns) are no whole number of tubelets of "
      f"{_text(tubelet)}; change one of them."
    )


def _text(sizes: Sizes) -> str:
  return "×".join(map(str, sizes))
