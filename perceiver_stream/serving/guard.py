"""Access to the server: hosts, origins, the token, and the number of clients."""

import hmac
import ipaddress
import secrets
from typing import Any
from urllib.parse import urlsplit

LOCAL = ("127.0.0.1", "localhost", "::1")


class Guard:
  """Decides from the headers and the query of a request; holds no connection.

  Attributes:
    token: In the printed URL; whoever has it may watch, steer and send.
  """

  def __init__(self, host: str = LOCAL[0], max_clients: int = 8, token: str = ""):
    """Makes one.

    Args:
      host: That the server binds; requests must be addressed to it, or to this machine. A wildcard
        (`0.0.0.0`, `::`) admits every IP address: only names can be bound again by DNS.
      max_clients: Connections at a time.
      token: Default: a new random one.
    """
    self.token = token or secrets.token_urlsafe(24)
    self._hosts, self._any_address = {host.lower(), *LOCAL}, is_wildcard(host)
    self._max_clients, self.clients = max_clients, 0

  def refusal(self, connection: Any, *, needs_token: bool = True) -> str:
    """Returns why a request is refused, a sentence; "" if it is not.

    Args:
      connection: A request or WebSocket of Starlette.
      needs_token: False for what anybody on this machine may see.
    """
    host = connection.headers.get("host", "")
    try:
      name = urlsplit(f"//{host}").hostname
    except ValueError:
      name = None
    if not self._is_known(name):  # another name that leads here: DNS rebinding
      return "This server is addressed by another name; use the printed address."
    origin = connection.headers.get("origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
      return "Pages of another origin may not use this server."
    if needs_token and not self._has_token(connection):
      return "The token is wrong or missing; use the printed address."
    return ""

  def _is_known(self, name: str | None) -> bool:
    return name in self._hosts or (self._any_address and _address(name) is not None)

  def _has_token(self, connection: Any) -> bool:
    bearer = connection.headers.get("authorization", "").removeprefix("Bearer ")
    given = connection.query_params.get("token", bearer)
    return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

  def enter(self) -> bool:
    """Counts a client; returns False if there are too many. Call `leave` after True."""
    if self.clients >= self._max_clients:
      return False
    self.clients += 1
    return True

  def leave(self) -> None:
    """Counts a client less."""
    self.clients -= 1


def is_wildcard(host: str) -> bool:
  """Returns True if a server that binds this host listens on all addresses of the machine."""
  address = _address(host)
  return address is not None and address.is_unspecified


def _address(host: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
  """Returns the IP address that a host states; None if it is a name."""
  try:
    return ipaddress.ip_address(host or "")
  except ValueError:
    return None
