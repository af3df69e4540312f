"""Write the latents of a frozen model over a video to sharded files.

  perceiver-stream latents runs/online_tiny LONG.mp4 --output=latents/long
  perceiver-stream latents runs/online_tiny LONG.mp4 --output=latents/long --dtype=float16

latents/long then contains latents-00000.npz, … with `latents` [T, 1, L, D], `timestamp_s` and
`is_first` [T, 1], and index.json. Memory does not grow with the length of the video. ctrl-C stops
after the shard; the same command resumes, and the files are the same as without a stop. In Python,
`inference.read_shards("latents/long")` reads them in order. The model is that of a run, of a file
of weights, or a name of the zoo (bundled weights, or random ones with a warning).

If latents have positions (stream_perceiver/tiny_positions), shards also hold `position` (x, y in
[0, 1]), `velocity`, `visible`, `confidence`, `age` and `id` [T, 1, P, ...]; a latent that starts
again has a new id. --csv writes them as a table with a row for each latent and tick.
"""

from perceiver_stream import inference
from perceiver_stream.files.codec import to_dict
from perceiver_stream.inference.cli import readable_errors, watching
from perceiver_stream.inference.latents import write_table
from perceiver_stream.training.signals import stop_on_signals
from perceiver_stream.utils.addresses import hidden_in
from perceiver_stream.utils.options import add_model, add_video, make_parser, parse


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  add_model(parser)
  add_video(parser)
  parser.add_argument("--output", help="folder to write to (required)")
  parser.add_argument("--shard_ticks", type=int, default=256, help="minimum ticks in a shard")
  parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
  parser.add_argument("--csv", default="", help="also write positions to this table, in the end")
  args = parse(parser, last=True)
  with readable_errors(), stop_on_signals() as stop:
    loaded = inference.load(args.model)
    windows, stream = watching(loaded, args.video)
    done = inference.extract_latents(
      loaded,
      windows,
      args.output,
      windows_per_shard=-(-args.shard_ticks // 8),
      dtype=args.dtype,
      identity={"stream": hidden_in(to_dict(stream))},
      should_stop=lambda: bool(stop),
    )
    if args.csv:
      print(f"{args.csv}: {write_table(done.folder, args.csv)} rows.")
  end = "" if done.finished else " Stopped; the same command resumes."
  print(f"{done.folder}: {done.ticks} ticks in {done.shards} shards.{end}")
