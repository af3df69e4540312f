"""The server process: an application on one address until ctrl-C."""

import argparse
import contextlib
import socket
from typing import Any

from perceiver_stream.serving.guard import LOCAL, is_wildcard
from perceiver_stream.utils.optional import require


def add_address(parser: argparse.ArgumentParser, *, port: int, clients: int) -> None:
  """Adds the options of the address and the number of clients."""
  parser.add_argument(
    "--host", default=LOCAL[0], help="address to bind (default: this machine only)"
  )
  parser.add_argument("--port", type=_port, default=port, help=f"0 is a free one (default: {port})")
  parser.add_argument("--max_clients", type=int, default=clients, help="connections at a time")


def check_installed() -> None:
  """Raises ValueError, with the command that installs it, if the extra `live` is missing."""
  try:
    for package in ("fastapi", "uvicorn", "websockets"):
      require(package, "live")
  except ImportError as error:
    raise ValueError(str(error)) from error


def run(
  application: Any, host: str, port: int, max_message_bytes: int, path: str, *, opens: bool = True
) -> None:
  """Serves until ctrl-C or SIGTERM, then shuts down: streams end, learners finish their window.

  Args:
    application: ASGI.
    host: To bind.
    port: To bind; 0 takes a free one.
    max_message_bytes: Of a WebSocket message; longer ones end their connection.
    path: Of the printed address, with the token.
    opens: Whether the address is a page for a browser.

  Raises:
    ImportError: The extra `live` is missing.
    OSError: The address is in use.
  """
  uvicorn = require("uvicorn", "live")
  config = uvicorn.Config(
    application,
    host=host,
    port=port,
    log_level="warning",
    ws_max_size=max_message_bytes,
    ws_per_message_deflate=False,  # images do not shrink, and delay would grow
    timeout_graceful_shutdown=3,
    server_header=False,
  )
  server = uvicorn.Server(config)
  with _bound(host, port) as bound, contextlib.suppress(KeyboardInterrupt):
    print(greeting(host, bound.getsockname()[1], path, opens=opens), flush=True)
    server.run(sockets=[bound])


def greeting(host: str, port: int, path: str, *, opens: bool = True) -> str:
  """Returns the lines that are printed at the start: an address that works, and who may use it."""
  name = host
  if is_wildcard(host):
    name = "::1" if ":" in host else LOCAL[0]
  address = f"http://{f'[{name}]' if ':' in name else name}:{port}{path}"
  lines = [f"{'Open' if opens else 'Serving at'} {address}"]
  if is_wildcard(host):
    lines.append(f"Other machines: the same with an IP address of this machine in place of {name}.")
  if host not in LOCAL:
    lines.append("Others on this network who have the address can watch and steer it.")
  return "\n".join(lines)


def _port(text: str) -> int:
  """Returns a port of an option."""
  if not text.isascii() or not text.isdigit() or int(text) > 65535:
    raise argparse.ArgumentTypeError(f"{text!r} is no port; use 0 to 65535")
  return int(text)


def _bound(host: str, port: int) -> socket.socket:
  """Returns a socket with that address; raises OSError."""
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  opened = socket.socket(family)
  opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    opened.bind((host, port))
  except OSError as error:
    opened.close()
    raise OSError(f"{host}:{port} cannot be used: {error.strerror}; use another --port.") from error
  return opened
