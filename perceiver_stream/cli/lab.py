"""Run a table of the one-stream laboratory and write its page.

  perceiver-stream lab cadence                      # about half an hour on two CPU cores
  perceiver-stream lab cadence --size=full          # longer streams, larger models: for a GPU
  perceiver-stream lab cadence --source=doom        # another stream, or a folder of your videos
  perceiver-stream lab --list

The page is docs/lab/TABLE.md, or in --output. Finished trials are stored in --folder: a stopped
table resumes with the same command, and tables share common trials.
"""

import sys

from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.lab import grid, pages
from perceiver_stream.lab.tables import TABLES
from perceiver_stream.lab.trials import SIZES
from perceiver_stream.utils.options import make_parser, parse
from perceiver_stream.utils.paths import user_path


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("table", nargs="?", choices=sorted(TABLES))
  parser.add_argument("--size", choices=sorted(SIZES), default="default")
  parser.add_argument(
    "--source", default="", help="source of footage: balls, maze, doom, a folder …"
  )
  parser.add_argument("--workers", type=int, default=1, help="parallel trials")
  parser.add_argument("--folder", default="runs/lab", help="folder of results and footage")
  parser.add_argument("--output", default="docs/lab", help="folder to write the page to")
  parser.add_argument("--list", action="store_true", help="only list the tables")
  args = parse(parser, {"--to": "--output"})
  if args.list or not args.table:
    print("\n".join(f"{name:24}{table.title}" for name, table in TABLES.items()))
    return
  try:
    with readable_errors():
      table = TABLES[args.table].on(args.source) if args.source else TABLES[args.table]
      size = table.size(args.size)
      results = grid.run(table.trials, size, user_path(args.folder), args.workers)
      made = pages.Made(args.table, args.size, args.source)
      pages.write(made, size, table, results, user_path(args.output))
  except KeyboardInterrupt:
    sys.exit(f"Stopped; finished trials are in {args.folder}, and the same command resumes.")
  print((user_path(args.output) / f"{made.name}.md").read_text())
