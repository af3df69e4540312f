"""Learns online from one continuous stream, in order, once, and can be stopped at any moment.

  python scripts/train.py --config=configs/online.py:tiny                     # the demo's videos
  python scripts/train.py --config=configs/online.py:tiny --config.stream.path=MY.mp4
  python scripts/train.py --config=configs/synthetic.py:nano --config.max_windows=100
  python scripts/train.py --resume=runs/online_tiny                           # go on
  python scripts/train.py --resume=runs/online_tiny --config.max_windows=9000 # and further

A config file holds variants (`:nano` for trying out, `:tiny` for a CPU, `:small` and `:base` for a
GPU), and any of its fields can be set: --config.optimizer.learning_rate=3e-4,
--config.optimizer.cadence=4, --config.objective.window=16, --config.num_rows=2. A name that the
config does not have is refused with the nearest one.

ctrl-C (or SIGTERM) finishes the window, saves, and prints the command that goes on; the result is
that of a run that never stopped. The same command on the same run_dir goes on, too.

In run_dir afterwards: report.html, metrics.jsonl (each prediction scored before the update that
sees its target, beside copying and flow extrapolation), summary.json, config.json, strips/,
checkpoints/, tensorboard/ (show it with: tensorboard --logdir runs).

Many devices: --config.mesh.data, .fsdp and .latents say how many share rows, parameters and latents.
Many processes (docs/launch.md): the same command in each; SLURM or JAX_COORDINATOR_ADDRESS,
JAX_NUM_PROCESSES and JAX_PROCESS_ID say where the others are, or --find_processes asks jax.
"""

import sys

from absl import app, flags

from perceiver_stream import training
from perceiver_stream.inference.cli import readable_errors
from perceiver_stream.training import distributed
from perceiver_stream.training.flags import define_config, parse_flags

CONFIG = define_config("Python file with get_config(variant), as configs/online.py:tiny.")
FIND = flags.DEFINE_bool(
  "find_processes", False, "Let jax look for the others (TPU pod, Open MPI)."
)
flags.DEFINE_string("resume", "", "Folder of a run to go on with, instead of --config.")


def main(argv: list[str]) -> None:
  """Trains what the flags say."""
  if argv[1:]:
    sys.exit(f"train.py: {argv[1]!r} is not understood; flags look like --config.seed=1.")
  with readable_errors():
    if CONFIG.value is None:
      raise ValueError("give either --config=configs/online.py:tiny or --resume=RUN_DIR.")
    distributed.start(find=FIND.value)
    summary = training.train(CONFIG.value)
  if summary.finished and distributed.leads():
    print(f"Done after {summary.windows} windows; everything is in {summary.run_dir}.")


if __name__ == "__main__":
  app.run(main, flags_parser=parse_flags)
