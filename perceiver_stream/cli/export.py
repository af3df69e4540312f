"""Write the trained model of a run to one file, of weights or a program.

  perceiver-stream export runs/world_tiny --output=world.safetensors
  perceiver-stream export runs/tracking_tiny --output=tracker.safetensors --note="how it was trained"
  perceiver-stream export runs/world_tiny --output=world --hub=OWNER/NAME
  perceiver-stream export runs/world_tiny --output=world.npz --format=jax --platforms=cpu,cuda

A .safetensors file has parameters, config and card; `perceiver_stream.load(FILE)` reads the model. A path
without an ending is a folder with model.safetensors, config.json and README.md; --hub uploads it.
For a run that trained a read-out on a frozen model it has both; `perceiver-stream track --model=FILE`
tracks points with a point read-out.

With --format=jax the file has the model's `step` as a program, its parameters and the state before
the first tick: it runs where only jax and NumPy are installed (docs/checkpoints.md shows how). The
model is that of a run, a file, or a name of the zoo.
"""

from perceiver_stream.inference import model_loading, pretrained
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.inference.jax_export import export_step
from perceiver_stream.utils.options import make_parser, parse


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("run", help="folder of a run; for --format=jax also a file or a name")
  parser.add_argument(
    "--output", required=True, help="file to write: .safetensors, or .npz for jax; or a folder"
  )
  parser.add_argument("--note", default="", help="for the card: how it was trained")
  parser.add_argument(
    "--name", default="", help="of the zoo: its config, if the run's differs but its weights fit"
  )
  parser.add_argument(
    "--hub", default="", help="OWNER/NAME on the Hugging Face Hub to upload to; if new, public"
  )
  parser.add_argument("--format", choices=("safetensors", "jax"), default="safetensors")
  parser.add_argument("--batch_size", type=int, default=1, help="of a program: streams at a time")
  parser.add_argument("--platforms", default="cpu", help="of a program: cpu,cuda,rocm,tpu or some")
  args = parse(parser, {"--to": "--output"})
  with readable_errors():
    if args.format == "safetensors":
      about = pretrained.export(args.run, args.output, args.note, args.name, args.hub)
      print(f"{args.output}: {about}")
      return
    if other := [f"--{n}={getattr(args, n)}" for n in ("name", "hub") if getattr(args, n)]:
      raise ValueError(
        f"{', '.join(other)} is for --format=safetensors; export that first, and then its file."
      )
    loaded = model_loading.load(args.run)
    export_step(
      loaded.model,
      loaded.params,
      args.output,
      batch_size=args.batch_size,
      platforms=args.platforms.split(","),
      note=args.note,
    )
    print(f"{args.output}: {loaded.about}")
