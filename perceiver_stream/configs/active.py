"""An agent that pays for what it observes (A2MT) on a clock and images (`streams.countdown`).

Variants: `nano` (tests), `adaptive` (only the clock tells when an image matters), `control` (the same
ticks matter in every episode, so that a fixed schedule is as good).

  perceiver-stream train --config=active:adaptive
  python benchmarks/acquisition.py
"""

from perceiver_stream.models.a2mt import objective
from perceiver_stream.models.a2mt.variants import FAMILY
from perceiver_stream.streams import countdown
from perceiver_stream.training import ExperimentConfig, OptimizerConfig

PRICES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)  # of an image; the clock is cheap
CLOCK = 0.01


def get_config(variant: str = "adaptive") -> ExperimentConfig:
  is_nano = variant == "nano"
  if variant not in ("nano", "adaptive", "control"):
    raise ValueError(f"active: variant {variant!r} is none of nano, adaptive, control.")
  model = FAMILY.variants["nano" if is_nano else "tiny"]()
  windows = 700
  return ExperimentConfig(
    model=model,
    stream=countdown.Config(ticks_per_recording=model.num_ticks, random_zeros=variant != "control"),
    objective=objective.Config(
      window=model.num_ticks,
      prices={"clock": (CLOCK,), "pixels": PRICES},
      masking_windows=1 if is_nano else 35 * windows // 100,
      rising_windows=1 if is_nano else 35 * windows // 100,
    ),
    optimizer=OptimizerConfig(
      learning_rate=3e-3, schedule="cosine", warmup_steps=50, decay_steps=windows
    ),
    use_baselines=False,
    num_rows=4 if is_nano else 64,
    max_windows=windows,
    run_dir=f"runs/active_{variant}",
  )
