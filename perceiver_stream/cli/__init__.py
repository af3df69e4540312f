"""The command line: `perceiver-stream COMMAND ...`, one module for each command.

A command is a module of this package with a function `main()`, which reads `sys.argv`, and a
docstring: its help, with the first line as its entry in the list. Adding its name to `COMMANDS`
registers it. A module is imported only when its command runs, so listing commands needs neither jax
nor a video decoder.
"""

import ast
import importlib
import pathlib
import sys
from collections.abc import Sequence

from perceiver_stream.utils.allocator import restart_with_huge_pages
from perceiver_stream.utils.suggest import did_you_mean
from perceiver_stream.version import __version__

PROGRAM = "perceiver-stream"
COMMANDS = (
  "train",
  "live",
  "serve",
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
LEARNING = ("train", "lab")  # in live commands, the kernel's search for huge pages stops ticks


def start() -> None:
  """Runs the command of this process; those that learn with memory in huge pages."""
  if sys.argv[1:2] and sys.argv[1] in LEARNING:
    restart_with_huge_pages()
  main()


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
    sys.argv = [f"{PROGRAM} {name}", *rest]  # shown by argparse and in error messages
    importlib.import_module(f"{__name__}.{name}").main()
  else:
    print(
      f"{PROGRAM}: there is no command {name!r}.{did_you_mean(name, COMMANDS)} "
      f"The commands are {', '.join(COMMANDS)}.",
      file=sys.stderr,
    )
    sys.exit(2)


def overview() -> str:
  """Returns the list of commands, one line each."""
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
