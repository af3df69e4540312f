"""Train a model online on one stream, in order, in one pass.

  perceiver-stream train --config=online:tiny --config.stream.path=MY.mp4
  perceiver-stream train --config=synthetic:nano --config.max_windows=100     # needs no files
  perceiver-stream train --config=MY_CONFIG.py:tiny
  perceiver-stream train --resume=runs/online_tiny
  perceiver-stream train --resume=runs/online_tiny --config.max_windows=9000  # and further

--config is NAME:VARIANT, the name of a config of the package or a Python file with
get_config(variant), and a variant: usually `nano` for tests, `tiny` for a CPU, `small` and `base`
for a GPU. Every field of the config is a flag: --config.optimizer.learning_rate=3e-4,
--config.optimizer.cadence=4, --config.objective.window=16, --config.num_rows=2. An unknown name is
an error; the message suggests the nearest name.

ctrl-C (or SIGTERM) finishes the window, saves, and prints the command that resumes; the result is
that of a run that was never stopped. The same command on the same run_dir resumes, too.

run_dir then contains report.html, metrics.jsonl (each prediction is scored before the update that
uses its target; copying and flow extrapolation are baselines), summary.json, config.json, strips/,
checkpoints/ and tensorboard/ (to show it: tensorboard --logdir runs).

Many devices: --config.mesh.data, .fsdp and .latents set the number of devices that share rows,
parameters and latents. Many processes: the same command in each; SLURM or JAX_COORDINATOR_ADDRESS,
JAX_NUM_PROCESSES and JAX_PROCESS_ID locate the others, or --find_processes uses jax's detection.
"""

import faulthandler

from perceiver_stream import training
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.training import distributed
from perceiver_stream.training.flags import CONFIG_HELP, load_config, resume_config
from perceiver_stream.utils.options import make_parser, parse_known


def main() -> None:
  """Runs the command."""
  parser = make_parser(__doc__)
  source = parser.add_mutually_exclusive_group(required=True)
  source.add_argument("--config", metavar="NAME:VARIANT", help=CONFIG_HELP)
  source.add_argument("--resume", metavar="RUN_DIR", help="folder of a run to resume")
  parser.add_argument(
    "--find_processes",
    action="store_true",
    help="use jax's detection of processes (TPU pod, Open MPI)",
  )
  args, overrides = parse_known(parser)
  faulthandler.enable()
  with readable_errors():
    load, of = (resume_config, args.resume) if args.resume else (load_config, args.config)
    config = load(of, overrides)
    distributed.start(find=args.find_processes)
    summary = training.train(config)
  if summary.finished and distributed.leads():
    print(f"Done after {summary.windows} windows; all files are in {summary.run_dir}.")
