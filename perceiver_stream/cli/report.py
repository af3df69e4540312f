"""Write report.html of a run, also during training.

  perceiver-stream report runs/online_tiny

The page is one file: learning curves with the baselines, film strips (input, target, prediction,
decoded flow, error), sound as spectrograms, and the config.
"""

from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.reporting.report import write_report
from perceiver_stream.utils.options import make_parser


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  parser.add_argument("run_dir", help="folder of a run")
  args = parser.parse_args()
  with readable_errors():
    print(write_report(args.run_dir))
