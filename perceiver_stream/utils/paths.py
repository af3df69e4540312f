"""Paths as typed by users, and as accepted by FFmpeg."""

import os
import pathlib
import re

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|(pipe|fd|udp|rtp|tcp|camera|screen|lavfi|push):")


def user_path(path: str | os.PathLike[str]) -> pathlib.Path:
  """Returns a path with a leading `~` or `~NAME` replaced by that user's home folder.

  Shells do not expand `~` inside `--flag=~/x`. A name that merely starts with `~` is unchanged.
  """
  return pathlib.Path(os.path.expanduser(path))


def file_url(path: str | os.PathLike[str]) -> str:
  """Returns the URL with which FFmpeg opens a local file.

  FFmpeg parses a name as a URL: without `file:` and an absolute path, `12:30.mp4` and
  `concat:a.mp4` are protocols.
  """
  return "file:" + os.path.abspath(path)


def why_no_file(path: str | os.PathLike[str], wanted: str = "file") -> str:
  """Returns the reason, as part of a sentence, for refusing a path that is not a regular file."""
  text = os.fspath(path)
  if os.path.isdir(text):
    return f"{text} is a folder; give one {wanted}"
  if text == "-" or _ADDRESS.match(text):
    kind = "standard input" if text == "-" else "an address"
  elif text.startswith("/dev/") or os.path.exists(text):
    kind = "a device or a pipe"
  else:
    return f"there is no {wanted} {text!r} (from {os.getcwd()}); check the path"
  return (
    f"{text} is {kind}, and a path is a file: use the live stream, "
    f"streams.live.Config(source={text!r}), on the command line --config=live:tiny "
    f"--config.stream.source={text}; elsewhere record it to a file first, and give that"
  )
