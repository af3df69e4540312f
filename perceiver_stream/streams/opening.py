"""Opening media files with PyAV: only the file itself, whatever its name or content.

FFmpeg takes names for URLs, and some formats are lists of other files or addresses. A file that
is untrusted must not reach the network or other files: names become `file:` URLs, `file` is
the only protocol, and formats that open other files are not read.
"""

import errno
import functools
from typing import Any

import av
import av.container
import av.error
from av.format import ContainerFormat, formats_available

from perceiver_stream.files import limits
from perceiver_stream.streams.damage import DamagedError
from perceiver_stream.streams.media import reason
from perceiver_stream.utils.paths import file_url, user_path, why_no_file

# Demuxers that open files to which their content or name points: playlists, indexes beside their
# data, descriptions of network sessions.
FOLLOWERS = frozenset(
  "avisynth concat dash hls imf mlv rtp rtsp sap sdp vapoursynth vobsub".split()
)
_OPTIONS = {
  "protocol_whitelist": "file",
  "pattern_type": "none",  # of `image2`: `img%03d.png` is one file
}
# Titles that are not UTF-8 are no error. PyAV 19 always replaces undecodable bytes.
METADATA: dict[str, Any] = (
  {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)


def open_media(path: str) -> av.container.InputContainer:
  """Returns the opened container; close it.

  Raises:
    FileNotFoundError: There is no such file; or it is an address, a device or a pipe.
    DamagedError: FFmpeg cannot read it.
  """
  place = user_path(path)
  if not place.is_file():
    raise FileNotFoundError(f"video: {why_no_file(path)}.")
  options = _OPTIONS | {"format_whitelist": plain_formats()}
  bounds = {"max_pixels": str(limits.MAX_PIXELS)}
  try:
    opened = av.open(file_url(place), options=bounds, container_options=options, **METADATA)
    for track in opened.streams.video:
      if track.codec_context is not None:  # there is a decoder; it is not the one that probed
        track.codec_context.options |= bounds
    return opened
  except (av.error.FFmpegError, OSError, ValueError) as error:
    # EINVAL is FFmpeg's answer to a format that is not on the list.
    what = "empty, cut off, or no media file"
    if getattr(error, "errno", None) == errno.EINVAL:
      what = "damaged, or a list of other files (ffconcat, m3u8, sdp), which are not followed"
    raise DamagedError(
      f"{path} ({place.stat().st_size} bytes) cannot be opened as video: {reason(error)}. It is "
      f"{what}; check that it plays, or leave it out of path."
    ) from error


@functools.cache
def plain_formats() -> str:
  """Returns the demuxers that read nothing but the file they are given, between commas."""
  known = set()
  for name in formats_available:
    try:
      form = ContainerFormat(name, "r")
    except ValueError:  # of a muxer
      continue
    if not FOLLOWERS & set(form.name.split(",")) and (not form.no_file or form.name == "image2"):
      known.add(form.name)
  return ",".join(sorted(known))
