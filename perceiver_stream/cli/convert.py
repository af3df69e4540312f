"""Convert published weights to one .safetensors file.

  perceiver-stream convert moog_ego4d_backbone.npz --output=moog.safetensors
  perceiver-stream convert rvm_small.npz --output=rvm.safetensors --set height=128 width=128
  perceiver-stream convert path/to/hugging_face_folder --output=flow.safetensors

Reads the flat .npz files of MooG and RVM, DeepMind's Perceiver pickles, Hugging Face Perceivers
(.safetensors with config.json in the same folder), and the files of encoders of clips and of trackers
that `perceiver-stream models` lists. Nothing in a file is executed. The output has
parameters, config and card.
"""

import argparse
import ast
from typing import Any

import perceiver_stream
from perceiver_stream import zoo
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.utils.options import make_parser, parse
from perceiver_stream.zoo import clip_encoders, point_trackers


def assignment(text: str) -> tuple[str, Any]:
  """Returns the name and the value of `name=value`."""
  name, _, value = text.partition("=")
  try:
    return name, ast.literal_eval(value)
  except (ValueError, SyntaxError):
    raise argparse.ArgumentTypeError(f"'{text}' is not name=value, e.g. height=128") from None


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("source", help="file of published weights, or Hugging Face folder")
  parser.add_argument("--output", help="file to write, ends in .safetensors (required)")
  parser.add_argument(
    "--set",
    nargs="+",
    type=assignment,
    default=[],
    metavar="NAME=VALUE",
    help="fields of the config that the source does not contain, e.g. height=128 width=128",
  )
  args = parse(parser, last=True)
  if not args.output.endswith(".safetensors"):
    parser.error(f"output '{args.output}' must end in .safetensors")
  with readable_errors():
    if clip_encoders.is_encoder(args.source):
      _convert_encoder(args)
      return
    if point_trackers.is_tracker(args.source):
      _convert_tracker(args)
      return
    model, params = perceiver_stream.load(args.source, **dict(args.set))
    zoo.save(args.output, model, params)
    arrays = zoo.flatten(params).values()
    family = zoo.family(model.config).name
    print(f"{args.output}: {family}, {sum(x.size for x in arrays):,} parameters in {len(arrays)}")


def _convert_encoder(args: argparse.Namespace) -> None:
  loaded = clip_encoders.load(args.source, **dict(args.set))
  clip_encoders.save(args.output, loaded)
  arrays = zoo.flatten(loaded.params).values()
  name = clip_encoders.family(loaded.encoder.config).name
  print(f"{args.output}: {name}, {sum(x.size for x in arrays):,} parameters in {len(arrays)}")


def _convert_tracker(args: argparse.Namespace) -> None:
  tracker, params = point_trackers.load(args.source, **dict(args.set))
  point_trackers.save(args.output, tracker, params)
  arrays = zoo.flatten(params).values()
  name = point_trackers.family(tracker.config).name
  print(f"{args.output}: {name}, {sum(x.size for x in arrays):,} parameters in {len(arrays)}")
