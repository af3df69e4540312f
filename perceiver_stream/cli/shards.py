"""Write a stream to shards: seekable files that are fast to read.

  perceiver-stream shards --config=online:tiny --config.stream.path=VIDEOS --output=shards/walk
  perceiver-stream shards --config=vizdoom:tiny --config.stream.max_ticks=63000 --output=shards/doom
  perceiver-stream train --config=shards:tiny --config.stream.path=shards/walk

The stream is that of an experiment's config, with all its flags, and reads back exactly.
--processes videos are decoded in parallel, one file each, and stay in order; other streams are
written as --parts rows. If it is killed, the same command resumes: finished shards are kept,
missing or truncated ones are written again. The result does not depend on the number of processes
or on interruptions.
"""

from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.streams import shard_writer
from perceiver_stream.training.flags import CONFIG_HELP, load_config
from perceiver_stream.utils.options import make_parser, parse_known


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("--config", metavar="NAME:VARIANT", required=True, help=CONFIG_HELP)
  parser.add_argument("--output", required=True, help="folder to write to")
  parser.add_argument("--processes", type=int, default=1, help="parallel processes, one part each")
  parser.add_argument("--parts", type=int, default=0, help="rows to write; 0: one per file, else 1")
  parser.add_argument("--shard_ticks", type=int, default=4096, help="ticks in a shard")
  args, overrides = parse_known(parser, {"--to": "--output"})
  with readable_errors():
    config = load_config(args.config, overrides)
    config.validate()
    index = shard_writer.write(
      config.stream,
      args.output,
      num_parts=args.parts,
      shard_ticks=args.shard_ticks,
      processes=args.processes,
    )
  ticks = sum(shard.ticks for shard in index.shards)
  size = sum(shard.num_bytes for shard in index.shards)
  print(
    f"{args.output}: {ticks} ticks ({ticks / index.rate_hz:.0f} s) of "
    f"{', '.join(sorted(index.specs))} in {len(index.shards)} shards, {size / 1e6:.0f} MB."
  )
