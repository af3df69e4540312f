"""Flow in files: of two images, and of a video as a video with the colour wheel."""

import contextlib
import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from perceiver_stream.inference import flow_estimation
from perceiver_stream.inference.flow_estimation import Pair
from perceiver_stream.reporting import flow_files, images
from perceiver_stream.reporting.video_writer import VideoWriter
from perceiver_stream.utils import moved
from perceiver_stream.utils.paths import user_path

FASTEST = 0.99  # quantile of speed that is shown in full colour


class FlowSummary(NamedTuple):
  """Result of `write_video`.

  Attributes:
    count: Pairs of frames.
    max_speed: Speed of full colour at the end, pixels per frame.
    step_s: Mean time from a frame to the next, seconds.
    psnr: Mean dB of the first frame rebuilt from the second; see `flow_estimation.warp_psnr`.
  """

  count: int
  max_speed: float
  step_s: float
  psnr: dict[str, float]


def writable_folder(path: str | pathlib.Path) -> pathlib.Path:
  """Returns the folder, created if it is missing.

  Raises:
    OSError: It cannot be created or written to.
  """
  folder = user_path(path)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".part-probe"
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise OSError(f"{folder} cannot be written to ({error.strerror}); choose another.") from error
  return folder


def speed_of(flow: Float[np.ndarray, "H W 2"]) -> float:
  """Returns the speed to show in full colour: the 99 % quantile over pixels, at least 0.5."""
  return max(0.5, float(np.quantile(np.hypot(flow[..., 0], flow[..., 1]), FASTEST)))


def drawn(flow: Float[np.ndarray, "H W 2"], max_speed: float | int) -> UInt8[np.ndarray, "H W 3"]:
  """Returns flow in colours, with the colour wheel in the corner."""
  picture = images.flow_to_rgb(flow, max_speed)
  side = max(9, min(flow.shape[:2]) // 5)
  if side < min(flow.shape[:2]):
    picture[-side:, -side:] = images.flow_legend(side)
  return picture


def write_pair(folder: pathlib.Path, flow: Float[np.ndarray, "H W 2"], max_speed: float | int = 0):
  """Writes `flow.flo`, `flow.npz` and `flow.png`; speed 0 takes that of `speed_of`."""
  flow_files.write_flo(folder / "flow.flo", flow)
  np.savez_compressed(folder / "flow.npz", flow=flow)
  picture = drawn(flow, max_speed or speed_of(flow))
  (folder / "flow.png").write_bytes(images.png_bytes(picture))


def write_video(
  folder: pathlib.Path,
  pairs: Iterable[Pair],
  *,
  max_speed: float | int = 0,
  save_flows: bool = False,
) -> FlowSummary:
  """Writes `flow.mp4`, each frame and its flow side by side, and on request all flows to `flows.npz`.

  Each frame is shown at its time, from the first on, and `flows.npz` holds the times as `time_s`.
  Memory does not grow with the length of the video.

  Args:
    folder: Existing folder.
    pairs: From `flow_estimation.flows_of`.
    max_speed: Speed of full colour; 0 takes the fastest so far, so colours never flicker.
    save_flows: Write `flows.npz` too.

  Raises:
    ValueError: There is no pair.
  """
  pairs = iter(pairs)
  first = next(pairs, None)
  if first is None:
    raise ValueError("flow: the video has fewer than two images at this rate; raise --rate_hz.")
  speed, scores, steps_s = float(max_speed), [], []
  with contextlib.ExitStack() as files:
    writer = files.enter_context(VideoWriter(folder / "flow.mp4"))
    archive = flow_files.FlowArchive(folder / "flows.npz") if save_flows else None
    if archive is not None:
      files.enter_context(archive)
    for pair in _again(first, pairs):
      speed = speed if max_speed else max(speed, speed_of(pair.flow))
      start_s, end_s = (time_s - first.times_s[0] for time_s in pair.times_s)
      writer.write_frame(np.concatenate([pair.first, drawn(pair.flow, speed)], axis=1), start_s)
      if archive is not None:
        archive.add(pair.flow, (start_s, end_s))
      scores.append(flow_estimation.warp_psnr(pair))
      steps_s.append(end_s - start_s)
  psnr = {n: float(np.mean([s[n] for s in scores])) for n in scores[0]}
  return FlowSummary(len(scores), speed, float(np.mean(steps_s)), psnr)


def _again(first: Pair, rest: Iterator[Pair]) -> Iterator[Pair]:
  yield first
  yield from rest


__getattr__ = moved.renamed_names(
  __name__,
  {
    "write_movie": "inference.flow_videos.write_video",
  },
)
