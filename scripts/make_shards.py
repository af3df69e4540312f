"""Writes any stream, hours of video say, to shards: seekable files that read back exactly, and fast.

  python scripts/make_shards.py --config=configs/online.py:tiny --config.stream.path=VIDEOS --output=shards/walk
  python scripts/make_shards.py --config=configs/vizdoom.py:tiny --config.stream.max_ticks=63000 --output=shards/doom
  python scripts/train.py --config=configs/shards.py:tiny --config.stream.path=shards/walk

The stream is that of an experiment's config, with all its flags. Videos are decoded by `--processes`
at once, a file each, and stay in order; of other streams `--parts` rows are written side by side.
Killed at any moment, the same command goes on: finished shards are kept, those that are missing or
cut off are made again. What comes out does not depend on any of that.
"""

import functools
import sys

from absl import app, flags

from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.streams import shard_writer
from perceiver_stream.training.flags import define_config, parse_flags

CONFIG = define_config("Python file with get_config(variant), as configs/online.py:tiny.")
OUTPUT = flags.DEFINE_string("output", "", "Folder to write to.")
PROCESSES = flags.DEFINE_integer("processes", 1, "Processes at work, each on a part.", 1)
PARTS = flags.DEFINE_integer("parts", 0, "Rows to write; 0: one per file, else 1.", 0)
SHARD_TICKS = flags.DEFINE_integer("shard_ticks", 4096, "Ticks in a shard.", 1)


def main(argv: list[str]) -> None:
  """Writes what the flags say."""
  if argv[1:]:
    sys.exit(
      f"make_shards.py: {argv[1]!r} is not understood; flags look like --output=shards/walk."
    )
  with readable_errors():
    if CONFIG.value is None or not OUTPUT.value:
      raise ValueError("give --config=configs/online.py:tiny and --output=FOLDER.")
    CONFIG.value.validate()
    index = shard_writer.write(
      CONFIG.value.stream,
      OUTPUT.value,
      num_parts=PARTS.value,
      shard_ticks=SHARD_TICKS.value,
      processes=PROCESSES.value,
    )
  ticks = sum(shard.ticks for shard in index.shards)
  size = sum(shard.num_bytes for shard in index.shards)
  print(
    f"{OUTPUT.value}: {ticks} ticks ({ticks / index.rate_hz:.0f} s) of {', '.join(sorted(index.specs))} "
    f"in {len(index.shards)} shards, {size / 1e6:.0f} MB."
  )


if __name__ == "__main__":
  app.run(main, flags_parser=functools.partial(parse_flags, renamed={"--to": "--output"}))
