"""Writes report.html of a run, at any time: also while it is running.

  python scripts/report.py runs/online_tiny

The page holds everything in one file: learning curves beside the baselines, film strips (input,
target, prediction, decoded flow, error), sound as spectrograms, and the config.
"""

import argparse

from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.reporting.report import write_report


def main() -> None:
  """Reports on what the arguments say."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("run_dir", help="folder of a run")
  args = parser.parse_args()
  with readable_errors():
    print(write_report(args.run_dir))


if __name__ == "__main__":
  main()
