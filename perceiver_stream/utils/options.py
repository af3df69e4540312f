"""Options of the commands: one spelling for all; the old ones work for one version."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

OUTPUT = "--output"
NONE: Mapping[str, str] = {}


def current_names(arguments: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
  """Returns arguments with options under today's names; says on stderr which ones are old.

  >>> current_names(["--out=a", "b"], {"--out": "--output"})
  ['--output=a', 'b']

  Args:
    arguments: Of the command line, without the script's name.
    renamed: New names by old ones.
  """
  found = []
  for argument in arguments:
    name, equals, value = argument.partition("=")
    if name in renamed:
      _say_renamed(name, renamed[name])
    found.append(renamed.get(name, name) + equals + value)
  return found


def make_parser(description: str | None) -> argparse.ArgumentParser:
  """Returns a parser whose help shows a docstring as it is written."""
  return argparse.ArgumentParser(
    description=description, formatter_class=argparse.RawDescriptionHelpFormatter
  )


def parse(
  parser: argparse.ArgumentParser, renamed: Mapping[str, str] = NONE, *, last: bool = False
) -> argparse.Namespace:
  """Returns the arguments of a command; `--help` and mistakes end it as usual.

  Args:
    parser: Without the old names.
    renamed: New names of options by old ones.
    last: Whether `--output`, which is then required, was once the last argument without a name.
  """
  arguments = current_names(sys.argv[1:], renamed)
  if not last:
    return parser.parse_args(arguments)
  parser.add_argument("once_output", nargs="?", help=argparse.SUPPRESS)
  args = parser.parse_intermixed_args(arguments)
  if args.output is None and args.once_output is not None:
    _say_renamed(f"the last argument, {args.once_output!r},", f"{OUTPUT}={args.once_output}")
    args.output = args.once_output
  elif args.once_output is not None:
    parser.error(f"unrecognized arguments: {args.once_output}")
  if args.output is None:
    parser.error(f"the following arguments are required: {OUTPUT}")
  return args


def parse_known(
  parser: argparse.ArgumentParser, renamed: Mapping[str, str] = NONE
) -> tuple[argparse.Namespace, list[str]]:
  """Returns the arguments of a command and those that the parser does not know, in order."""
  return parser.parse_known_args(current_names(sys.argv[1:], renamed))


def _say_renamed(old: str, new: str) -> None:
  script = os.path.basename(sys.argv[0])
  print(f"{script}: {old} is now {new}; version 0.2 will not know it.", file=sys.stderr)
