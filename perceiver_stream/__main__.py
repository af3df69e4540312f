"""The command `perceiver-stream`; also `python -m perceiver_stream COMMAND ...`, where it is not on the path."""

import sys

from perceiver_stream.cli import main
from perceiver_stream.utils.allocator import restart_with_huge_pages

LEARNING = ("train", "live", "lab")  # commands with a training step


def start() -> None:
  """Runs the command of this process; those that learn with memory in huge pages."""
  if sys.argv[1:2] and sys.argv[1] in LEARNING:
    restart_with_huge_pages()
  main()


if __name__ == "__main__":
  start()
