"""HTTP replies with the headers that keep a page to itself."""

import json
from typing import Any

from perceiver_stream.utils.optional import require

HEADERS = {
  "Cache-Control": "no-store",
  "Content-Security-Policy": (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
  ),
  "Cross-Origin-Resource-Policy": "same-origin",
  "Permissions-Policy": "camera=(self), microphone=(self)",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
}


def reply(
  content: bytes | dict[str, Any],
  kind: str = "application/json",
  *,
  status: int = 200,
  download: str = "",
) -> Any:
  """Returns a response; `download` is the name under which a browser stores it."""
  responses = require("starlette.responses", "live")
  body = content if isinstance(content, bytes) else json.dumps(content).encode()
  headers = dict(HEADERS)
  if download:
    headers["Content-Disposition"] = f'attachment; filename="{download}"'
  return responses.Response(body, status, headers, kind)


def text_reply(text: str, status: int) -> Any:
  """Returns a response of plain text."""
  return reply(text.encode(), "text/plain", status=status)
