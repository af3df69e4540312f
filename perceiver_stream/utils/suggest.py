"""Says which name was meant: unknown names and config keys are refused with the nearest one."""

import difflib
from collections.abc import Iterable


def nearest(name: str, valid: Iterable[str]) -> str:
  """Returns ` Did you mean 'x'?` with the valid name most like `name`, or nothing.

  >>> nearest("adamv", ["sgd", "adamw"])
  " Did you mean 'adamw'?"
  """
  found = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.4)
  return f" Did you mean {found[0]!r}?" if found else ""


def check_name(what: str, name: str, valid: Iterable[str]) -> None:
  """Raises ValueError unless `name` is one of `valid`; `what` says which argument it is."""
  valid = list(valid)
  if name not in valid:
    raise ValueError(
      f"{what}={name!r} is not known.{nearest(name, valid)} Valid: {', '.join(map(str, valid))}."
    )
