"""Readers of images, masks and videos of data sets, in one size."""

import itertools
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import av
import av.error
import numpy as np
from jaxtyping import Int32, UInt8

from perceiver_stream.evaluation.datasets.base import UNKNOWN, MaskClip
from perceiver_stream.evaluation.metrics import resize
from perceiver_stream.files import limits
from perceiver_stream.files.image_headers import image_size
from perceiver_stream.streams import image_files, media, opening
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.margins import Margins, margins_of
from perceiver_stream.streams.picker import Picker, shown_size
from perceiver_stream.utils.opencv import opencv, resized

Size = tuple[int, int] | None  # (H, W), or as stored
VOID = 255  # of mask files: pixels that do not count
_SUFFIXES = (".jpg", ".jpeg", ".png")


def decoded(data: bytes, where: str) -> UInt8[np.ndarray, "H W 3"]:
  """Returns a JPEG or PNG image, RGB.

  Raises:
    DamagedError: It is none.
    RefusedError: It has too many pixels.
  """
  cv2 = opencv()
  height, width = image_size(data) or (0, 0)
  limits.check_image_size(height, width, where)
  flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
  picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if height and width else None
  if picture is None:
    raise DamagedError(f"{where} ({len(data)} bytes) cannot be decoded; get the file again.")
  return np.ascontiguousarray(picture[..., ::-1])


def stacked(
  pictures: Iterable[tuple[int, np.ndarray]], size: Size, where: str
) -> UInt8[np.ndarray, "T H W 3"]:
  """Returns images, each with the bytes it had where it was stored, as one array.

  Raises:
    ValueError: There is none, or their sizes differ.
    RefusedError: They take too much memory for their stored size.
  """
  frames, budget = [], limits.ClipBudget(where)
  for stored, picture in pictures:
    frames.append(resized(picture, size))
    budget.add(stored, frames[-1].nbytes)
  sizes = {frame.shape for frame in frames}
  if len(sizes) != 1:
    raise ValueError(f"{where}: {len(frames)} frames of sizes {sorted(sizes)}; expected one size.")
  return np.stack(frames)


def read_frames(
  paths: Sequence[pathlib.Path], size: Size, where: str
) -> UInt8[np.ndarray, "T H W 3"]:
  """Returns the images of files."""
  return stacked(map(_read, paths), size, where)


def read_video(path: pathlib.Path, size: Size) -> UInt8[np.ndarray, "T H W 3"]:
  """Returns every image of a video file."""
  with opening.open_media(str(path)) as container:
    track = media.choose(container, "video", -1, str(path))
    if track is None:
      raise DamagedError(f"{path} has no video track; get the file again.")
    track.thread_type = "NONE"
    margins = margins_of(container, track, str(path))
    stored = itertools.chain([path.stat().st_size], itertools.repeat(0))
    try:
      frames = _rgb(container.decode(track), margins)
      return stacked(zip(stored, frames, strict=False), size, str(path))
    except av.error.FFmpegError as error:
      raise DamagedError(f"{path} is damaged ({error.strerror}); get the file again.") from error


def read_mask(path: pathlib.Path, size: Size) -> Int32[np.ndarray, "H W"]:
  """Returns the ids of a palette or grey PNG, as stored; `VOID` is `UNKNOWN`."""
  ids = image_files.read_ids(path).astype(np.int32)
  ids = np.where(ids == VOID, np.int32(UNKNOWN), ids)
  return ids if size is None else resize.nearest(ids, size, use_centres=True)


def numbered(folder: pathlib.Path) -> dict[int, pathlib.Path]:
  """Returns the images of a folder by the number their name ends with, in its order."""
  found = {}
  for path in sorted(folder.iterdir()):
    number = re.search(r"(\d+)$", path.stem)
    if number and path.suffix.lower() in _SUFFIXES and not path.name.startswith("."):
      found[int(number[1])] = path
  return dict(sorted(found.items()))


def mask_clip(
  name: str, frames: Mapping[int, pathlib.Path], masks: Mapping[int, pathlib.Path], size: Size
) -> MaskClip:
  """Returns a clip of numbered frames and masks.

  A frame without a mask is `UNKNOWN`; frames before the first mask are left out.

  Raises:
    ValueError: There is no mask, one without its frame, or one of another size than its frame.
  """
  if not masks or not masks.keys() <= frames.keys():
    alone = sorted(masks.keys() - frames.keys())[:8]
    raise ValueError(
      f"{name}: {len(frames)} frames, {len(masks)} masks"
      + (f", and no frame for the masks {alone}" if alone else "")
      + "; expected at least one mask, and a frame of the same number for each."
    )
  numbers = [number for number in frames if number >= min(masks)]
  pictures = read_frames([frames[number] for number in numbers], size, name)
  ids = np.full(pictures.shape[:3], UNKNOWN, np.int32)
  for t, number in enumerate(numbers):
    if number in masks:
      mask = read_mask(masks[number], size)
      if mask.shape != ids.shape[1:]:
        raise ValueError(
          f"{name}: mask {masks[number].name} is {list(mask.shape)}, its frame "
          f"{list(ids.shape[1:])}; expected the same size, or give size=(H, W)."
        )
      ids[t] = mask
  return MaskClip(pictures, ids, name)


def read_names(path: pathlib.Path) -> list[str]:
  """Returns the first word of each line of a list of clips.

  Raises:
    ValueError: It is no text.
  """
  return [line.split()[0] for line in limits.read_text(path).splitlines() if line.strip()]


def _read(path: pathlib.Path) -> tuple[int, np.ndarray]:
  data = limits.read_bytes(path)
  return len(data), decoded(data, str(path))


def _rgb(frames: Iterator[av.VideoFrame], margins: Margins) -> Iterator[np.ndarray]:
  """Yields frames as players show them, pixel by pixel: their shape is not looked at."""
  picker, made_for = None, (0, 0)
  for frame in frames:
    shown = shown_size(frame, margins)
    if picker is None or shown != made_for:
      picker, made_for = Picker(*shown, "squash", margins), shown
    yield picker(frame)
