"""Write report.html of a run, also during training.

  perceiver-stream report runs/online_tiny

  perceiver-stream report runs/rooms_tiny_odometry --rerun=path.rrd

The page is one file: learning curves with the baselines, film strips (input, target, prediction,
decoded flow, error), sound as spectrograms, and the config; of a run
that learns camera motion also the camera's path, which --rerun writes for the Rerun viewer.
"""

from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.reporting import camera_path
from perceiver_stream.reporting.report import write_report
from perceiver_stream.utils.options import make_parser
from perceiver_stream.utils.paths import user_path


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("run_dir", help="folder of a run")
  parser.add_argument("--rerun", default="", help="recording of the camera's path to write, .rrd")
  args = parser.parse_args()
  with readable_errors():
    print(write_report(args.run_dir))
    if args.rerun:
      print(camera_path.write_rerun(user_path(args.run_dir), args.rerun))
