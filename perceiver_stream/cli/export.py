"""Write the trained model of a run to one .safetensors file.

  perceiver-stream export runs/world_tiny --output=world.safetensors
  perceiver-stream export runs/tracking_tiny --output=tracker.safetensors --note="how it was trained"

The file has parameters, config and card; `perceiver_stream.load(FILE)` reads the model. For a run
that trained a read-out on a frozen model it has both; `perceiver-stream track --model=FILE` tracks
points with a point read-out.
"""

from perceiver_stream.inference import pretrained
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.utils.options import make_parser, parse


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("run", help="folder of a run")
  parser.add_argument("--output", required=True, help="file to write, ends in .safetensors")
  parser.add_argument("--note", default="", help="for the card: how it was trained")
  args = parse(parser, {"--to": "--output"})
  with readable_errors():
    print(f"{args.output}: {pretrained.export(args.run, args.output, args.note)}")
