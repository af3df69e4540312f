"""Command-line options: one spelling for all commands; old spellings work for one version."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

OUTPUT = "--output"
NONE: Mapping[str, str] = {}


def current_names(arguments: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
  """Returns arguments with options under their current names; prints old ones to stderr.

  >>> current_names(["--out=a", "b"], {"--out": "--output"})
  ['--output=a', 'b']

  Args:
    arguments: Command line without the script's name.
    renamed: New names, keyed by old ones.
  """
  found = []
  for argument in arguments:
    name, equals, value = argument.partition("=")
    if name in renamed:
      _say_renamed(name, renamed[name])
    found.append(renamed.get(name, name) + equals + value)
  return found


def make_parser(description: str | None) -> argparse.ArgumentParser:
  """Returns a parser whose help keeps the line breaks of `description`."""
  return argparse.ArgumentParser(
    description=description, formatter_class=argparse.RawDescriptionHelpFormatter
  )


def add_model(parser: argparse.ArgumentParser) -> None:
  """Adds the positional argument `model`: what `inference.load` takes."""
  parser.add_argument("model", help="folder of a run, file of weights, or name of the zoo")


def add_video(parser: argparse.ArgumentParser) -> None:
  """Adds the positional argument `video`: what a `streams.video.Config` takes as its path."""
  what = "a file with video, a folder of them or of images, or a pattern"
  parser.add_argument("video", help=what)


def parse(
  parser: argparse.ArgumentParser, renamed: Mapping[str, str] = NONE, *, last: bool = False
) -> argparse.Namespace:
  """Returns the parsed arguments of a command; `--help` and errors end the process as in argparse.

  Args:
    parser: Parser without the old names.
    renamed: New names of options, keyed by old ones.
    last: `--output` was once the last positional argument; it is then required.
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
  """Returns the parsed arguments of a command, and the unknown ones in order."""
  return parser.parse_known_args(current_names(sys.argv[1:], renamed))


def _say_renamed(old: str, new: str) -> None:
  script = os.path.basename(sys.argv[0])
  print(f"{script}: {old} is now {new}; version 0.2 removes it.", file=sys.stderr)
