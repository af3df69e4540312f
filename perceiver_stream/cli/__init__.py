"""The command line: `perceiver-stream COMMAND ...`, one module for each command.

A command is a module here with a docstring, which is its help and whose first line is its entry in
the list, and a function `main()`, which reads `sys.argv`. Its name in `COMMANDS` adds it. A module is
imported only when its command runs, so the list of commands needs neither jax nor a video decoder.
"""

import ast
import importlib
import pathlib
import sys
from collections.abc import Sequence

from perceiver_stream.utils.suggest import did_you_mean
from perceiver_stream.version import __version__

PROGRAM = "perceiver-stream"
COMMANDS = (
  "train",
  "report",
  "evaluate",
  "predict",
  "track",
  "flow",
  "animate",
  "latents",
  "autoencode",
  "classify",
  "models",
  "convert",
  "export",
  "shards",
  "media",
  "lab",
)


def main(arguments: Sequence[str] | None = None) -> None:
  """Runs a command; without one, prints the list of commands.

  Args:
    arguments: The command and its arguments; default: those of this process.
  """
  name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
  if name in ("-h", "--help", "help"):
    print(overview())
  elif name == "--version":
    print(f"{PROGRAM} {__version__}")
  elif name in COMMANDS:
    sys.argv = [f"{PROGRAM} {name}", *rest]  # argparse and error messages name the command by it
    importlib.import_module(f"{__name__}.{name}").main()
  else:
    print(
      f"{PROGRAM}: there is no command {name!r}.{did_you_mean(name, COMMANDS)} "
      f"The commands are {', '.join(COMMANDS)}.",
      file=sys.stderr,
    )
    sys.exit(2)


def overview() -> str:
  """Returns the list of commands with a line on each."""
  lines = (f"  {name:<12}{summary(name)}" for name in COMMANDS)
  return "\n".join(
    (
      f"usage: {PROGRAM} COMMAND [ARGUMENTS]\n",
      "Recurrent Perceiver models that learn from one continuous stream of video and sound.\n",
      *lines,
      f"\n`{PROGRAM} COMMAND --help` describes a command.",
    )
  )


def summary(name: str) -> str:
  """Returns the first line of a command's help, without importing its module."""
  source = pathlib.Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
  return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].rstrip(".")
