"""Writes what a run has learnt into one .safetensors file: parameters, config and card.

  python scripts/export.py runs/world_tiny --output=world.safetensors
  python scripts/export.py runs/tracking_tiny --output=tracker.safetensors --note="how it was trained"

`perceiver_stream.load(FILE)` reads the model. A run that learnt to read something out of a frozen
model writes both: `perceiver_stream.inference.pretrained.load_tracker(FILE)`, `scripts/track.py`.
"""

import argparse

from perceiver_stream.inference import pretrained
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.utils.options import parse


def main() -> None:
  """Writes what the arguments say."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("run", help="folder of a run of scripts/train.py")
  parser.add_argument("--output", required=True, help="file to write, ends in .safetensors")
  parser.add_argument("--note", default="", help="for the card: how it was trained")
  args = parse(parser, {"--to": "--output"})
  with readable_errors():
    print(f"{args.output}: {pretrained.export(args.run, args.output, args.note)}")


if __name__ == "__main__":
  main()
