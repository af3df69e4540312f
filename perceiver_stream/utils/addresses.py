"""Network addresses in texts for people: without credentials."""

import re
from collections.abc import Mapping
from typing import Any

_PASSWORD = re.compile(r"(?<=://)[^/?#\s]*@")  # up to the last @: a password may have some
_QUERY = re.compile(r"(://[^?\s]*)\?\S*")


def hidden(text: str) -> str:
  """Returns a text without the users, passwords and queries of the addresses in it.

  >>> hidden("rtsp://me:secret@camera/1?token=5")
  'rtsp://***@camera/1?***'
  """
  return _QUERY.sub(r"\1?***", _PASSWORD.sub("***@", text))


def hidden_in(value: Any) -> Any:
  """Returns a JSON value with `hidden` applied to each text in its lists and objects."""
  if isinstance(value, str):
    return hidden(value)
  if isinstance(value, Mapping):
    return {key: hidden_in(one) for key, one in value.items()}
  return [hidden_in(one) for one in value] if isinstance(value, list | tuple) else value
