"""Nearest valid name, for messages about unknown names and config keys."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, valid: Iterable[str], cutoff: float = 0.4) -> str:
  """Returns ` Did you mean 'x'?` with the valid name most like `name`, or nothing.

  >>> did_you_mean("adamv", ["sgd", "adamw"])
  " Did you mean 'adamw'?"

  Args:
    name: Name that was given.
    valid: Valid names.
    cutoff: Minimum similarity in [0, 1]; see `difflib.get_close_matches`.
  """
  found = difflib.get_close_matches(name, list(valid), n=1, cutoff=cutoff)
  return f" Did you mean {found[0]!r}?" if found else ""


def check_choice(what: str, name: str, valid: Iterable[str]) -> None:
  """Raises ValueError unless `name` is one of `valid`; `what` names the argument."""
  valid = list(valid)
  if name not in valid:
    hint = did_you_mean(name, valid)
    raise ValueError(f"{what}={name!r} is not known.{hint} Valid: {', '.join(map(str, valid))}.")
