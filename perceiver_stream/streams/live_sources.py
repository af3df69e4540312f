"""Addresses of live sources, and opening them with PyAV.

The scheme states the consent: `streams.live` opens the network, a device or standard input only
where its source names one. Each scheme has a list of the FFmpeg protocols that it may use, so
neither a server's answer nor a playlist leads to a file of this machine. Passwords in addresses are
left out of messages.
"""

import os
import re
import sys
from typing import NamedTuple

import av
import av.container
import av.error

from perceiver_stream.files import limits
from perceiver_stream.streams.media import reason
from perceiver_stream.streams.opening import METADATA, plain_formats
from perceiver_stream.utils.addresses import hidden

PUSH = "push:"
SOURCES = (
  "camera:0, /dev/video0, screen:, rtsp://, rtmp://, http://, https://, hls+https://, udp://, srt://, "
  "tcp://, - (standard input), lavfi:GRAPH or push:NAME; camera:0+microphone:default for images and sound"
)
_TLS = "tls,tcp,crypto,httpproxy"
# By scheme: the protocols that its source may use, and the format where the scheme states it.
_NETWORK = {
  "rtsp": ("rtsp,rtp,udp,tcp", "rtsp"),
  "rtsps": ("rtsps,rtsp,rtp,udp,tcp,tls", "rtsp"),
  "rtmp": ("rtmp,tcp", None),
  "rtmps": ("rtmps,rtmp,tcp,tls", None),
  "http": (f"http,https,{_TLS}", None),
  "https": (f"https,{_TLS}", None),
  "hls+http": (f"http,https,{_TLS}", "hls"),
  "hls+https": (f"https,{_TLS}", "hls"),
  "udp": ("udp", None),
  "srt": ("srt", None),
  "tcp": ("tcp", None),
}
_TIMEOUT = ("rtsp", "rtsps", "udp", "srt", "tcp")  # protocols with an option of this name in µs
# By protocol: the format that opens further addresses, within the protocols of its scheme.
_FOLLOWS = {"http": "hls", "https": "hls", "rtsp": "rtsp", "rtsps": "rtsp"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LABELS = r"\s*(?:\[[^\[\]]*\]\s*)*"
_FILTER = re.compile(rf"{_LABELS}(\w+)(?:@\w+)?\s*(?:=[^\[\]]*)?{_LABELS}")
_TWO_INPUTS = re.compile(r"(.+?)[+]((?:microphone|lavfi):.+)")
_CAMERA = re.compile(r"camera:(.+)|(/dev/\w+)")
# Filters of `lavfi:` that make or change frames, and open no file.
_FILTERS = frozenset(
  "allrgb allyuv color colorspectrum gradients mandelbrot rgbtestsrc smptebars smptehdbars testsrc "
  "testsrc2 yuvtestsrc zoneplate anoisesrc anullsrc sine aformat arealtime atrim format fps hflip hue "
  "noise realtime rotate scale settb trim vflip volume".split()
)
_ANALYSE_US = 1_000_000  # of a network stream, before the first tick


class LiveError(OSError):
  """A live source cannot be opened, or ended before it gave anything; the message states why."""


class Address(NamedTuple):
  """A source as FFmpeg opens it.

  Attributes:
    name: For messages, without a password.
    url: FFmpeg's name for it.
    format: FFmpeg's name of the format or device; None: FFmpeg finds out.
    protocols: FFmpeg's protocols that it may use, between commas; "" where it uses none.
    sound: A second input, for sound; None: the sound of the first, if any.
  """

  name: str
  url: str
  format: str | None
  protocols: str = ""
  sound: "Address | None" = None


def parse(source: str) -> Address:
  """Returns the address that a text states; opens nothing.

  Raises:
    ValueError: It is no live source.
  """
  if two := _TWO_INPUTS.fullmatch(source):
    return parse(two[1])._replace(name=hidden(source), sound=_sound(two[2]))
  if source == "-":
    return Address("standard input", "pipe:0", None, "pipe")
  if camera := _CAMERA.fullmatch(source):
    return _camera(source, camera[1], camera[2])
  if source.startswith("screen:"):
    return _screen(source, source.removeprefix("screen:"))
  if source.startswith("lavfi:"):
    return Address(source, _checked_graph(source.removeprefix("lavfi:")), "lavfi")
  scheme = _SCHEME.match(source)
  known = _NETWORK.get(scheme[1].lower()) if scheme else None
  if known is not None:
    if "://***@" in source or "?***" in source:
      raise ValueError(
        f"live: source={hidden(source)!r} is an address without its user, password or query, as configs "
        f"in files have it; give the whole one (train: --config.stream.source=...)."
      )
    protocols, form = known
    return Address(hidden(source), re.sub("^hls[+]", "", source, flags=re.I), form, protocols)
  if source and not scheme and os.path.exists(source):
    raise ValueError(
      f"live: source={source!r} is a file or folder; use streams.video.Config(path=...), on the "
      f"command line --config=online:tiny --config.stream.path=...."
    )
  raise ValueError(f"live: source={hidden(source)!r} is no live source; use {SOURCES}.")


def open_live(address: Address, timeout_s: float) -> av.container.InputContainer:
  """Returns the opened container; close it.

  Args:
    address: Of the source.
    timeout_s: Seconds after which opening it, and each read, is an error.

  Raises:
    LiveError: It cannot be opened.
  """
  micros = str(round(timeout_s * 10**6))
  options = {"rw_timeout": micros, "analyzeduration": str(_ANALYSE_US)}
  first = address.protocols.partition(",")[0]
  if first in _TIMEOUT:
    options["timeout"] = micros
  if first in ("rtsp", "rtsps"):
    options["rtsp_flags"] = "prefer_tcp"
  if address.protocols:
    follows = _FOLLOWS.get(first, "")
    options["protocol_whitelist"] = address.protocols
    options["format_whitelist"] = f"{plain_formats()},{follows}" if follows else plain_formats()
  bounds = {"max_pixels": str(limits.MAX_PIXELS)}
  try:
    opened = av.open(
      address.url,
      format=address.format,
      options=bounds,
      container_options=options,
      timeout=(timeout_s, timeout_s),
      **METADATA,
    )
    for track in opened.streams.video:
      if track.codec_context is not None:
        track.codec_context.options |= bounds
    return opened
  except (av.error.FFmpegError, OSError, ValueError) as error:
    raise LiveError(
      f"live: {address.name} cannot be opened: {reason_of(error, timeout_s)}. {_advice(address)}"
    ) from error


def reason_of(error: Exception, timeout_s: float) -> str:
  """Returns a short text of an error, without passwords."""
  if isinstance(error, av.error.ExitError):  # PyAV's at a timeout
    return f"nothing came for timeout_s={timeout_s:g}"
  return hidden(reason(error))


def _camera(source: str, name: str | None, device: str | None) -> Address:
  """Returns the address of a camera: Linux by number or device, macOS by either, Windows by name."""
  if sys.platform == "darwin" and name is not None:
    return Address(source, f"{name}:none", "avfoundation")
  if sys.platform == "win32" and name is not None and not name.isdigit():
    return Address(source, f"video={name}", "dshow")
  if sys.platform not in ("darwin", "win32") and (device is not None or (name or "").isdigit()):
    return Address(source, device or f"/dev/video{name}", "v4l2")
  raise ValueError(
    f"live: source={source!r} names no camera of this system; use camera:0 or /dev/video0 on Linux, "
    f"camera:0 on macOS, and camera:NAME on Windows."
  )


def _screen(source: str, name: str) -> Address:
  """Returns the address of a screen: Linux by X11 display, macOS by number, Windows the desktop."""
  if sys.platform == "darwin":
    return Address(source, f"Capture screen {name or 0}:none", "avfoundation")
  if sys.platform == "win32":
    return Address(source, "desktop", "gdigrab")
  display = name or os.environ.get("DISPLAY", "")
  if not re.fullmatch(r"[\w.-]*:\d+(\.\d+)?", display):
    raise ValueError(
      f"live: source={source!r} names no X11 display{'' if name else ', and DISPLAY is not set'}; use "
      f"screen: in a session with a screen, or screen::0.0."
    )
  return Address(source, display, "x11grab")


def _sound(source: str) -> Address:
  """Returns the address of a microphone, or of a test source of sound."""
  kind, _, name = source.partition(":")
  if kind == "lavfi":
    return Address(source, _checked_graph(name), "lavfi")
  if sys.platform == "darwin":
    return Address(source, f":{name}", "avfoundation")
  if sys.platform == "win32":
    return Address(source, f"audio={name}", "dshow")
  return Address(source, name, "alsa")


def _checked_graph(graph: str) -> str:
  """Returns a graph of FFmpeg filters; raises ValueError unless all are among `_FILTERS`."""
  if re.search(r"['\"\\\r\n]", graph):
    raise ValueError(
      f"live: source={f'lavfi:{graph}'!r}: quotes, backslashes and line breaks are not taken."
    )
  for part in re.split("[,;]", graph):
    known = _FILTER.fullmatch(part)
    if known is None or known[1] not in _FILTERS:
      name = known[1] if known else part
      raise ValueError(
        f"live: source='lavfi:{graph}': the filter {name!r} is not among those allowed; use "
        f"{', '.join(sorted(_FILTERS))}."
      )
  return graph


def _advice(address: Address) -> str:
  if address.format in ("v4l2", "avfoundation", "dshow"):
    return (
      "Check that the camera is there, that no other program uses it and that this user may read it "
      "(Linux: ls /dev/video*, group video), or name another one: camera:1."
    )
  if address.name.startswith("microphone:"):
    return (
      "Check that the microphone is there, and name it as the system does: microphone:default or "
      "microphone:hw:1 (Linux, ALSA: arecord -l), microphone:0 (macOS), microphone:NAME (Windows)."
    )
  if address.format == "lavfi":
    return "Check the graph: lavfi:testsrc=size=64x64:rate=25."
  if address.protocols == "pipe":
    return "Pipe a video into it, e.g. in MPEG-TS or Matroska."
  return (
    f"Check the address and that the server runs; it may use the protocols {address.protocols} and "
    f"no file of this machine."
  )
