"""Score a frozen model and the baselines on a stream.

  perceiver-stream evaluate runs/online_tiny --path=OTHER.mp4
  perceiver-stream evaluate stream_perceiver/tiny_world --path=MY.mp4 --max_windows=50 --output=out.json

The model is that of a run, with its newest parameters, of a file of weights, or a name of the zoo
(bundled weights, or random ones with a warning). It processes the video in order with its state;
predictions at each of its displacements are compared with the later observations. Baselines: copy
is the last frame, extrap the last frame extrapolated by optical flow, mix the mean of both,
fitted_mix a mix with weights that are fitted as the stream advances; recent_mean and past_mean are
the mean of the last 8 ticks and of all earlier ones (sound, depth). The table has PSNR in dB for
images (higher is better) and the modality's error otherwise (lower is better); the best value of
each line is bold.
"""

import json

from perceiver_stream import inference, training
from perceiver_stream.inference.cli import experiment_for, readable_errors
from perceiver_stream.inference.evaluating import table
from perceiver_stream.utils.options import add_model, make_parser, parse
from perceiver_stream.utils.paths import user_path


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  add_model(parser)
  parser.add_argument(
    "--path", default="", help="file, folder or pattern; default: the run's stream"
  )
  parser.add_argument("--max_windows", type=int, default=0, help="windows to evaluate; 0: all")
  parser.add_argument("--num_rows", type=int, default=1, help="parallel streams")
  parser.add_argument("--output", default="", help="JSON file to which scores are also written")
  args = parse(parser, {"--json": "--output"})
  with readable_errors():
    loaded = inference.load(args.model)
    parts = training.make_parts(experiment_for(loaded, args.path, args.num_rows))
    scores = inference.evaluate(parts, loaded.params, args.max_windows)
  print(f"{loaded.about}:\n\n{table(scores, parts.metric_names)}")
  if args.output:
    user_path(args.output).write_text(json.dumps(scores, indent=2) + "\n")
