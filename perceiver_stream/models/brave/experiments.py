"""BraVe on clips whose class shows slowly in images and at once in sound (`streams.pulses`).

Variants: `nano` (tests), `tiny` (a CPU).

  perceiver-stream train --config=brave:tiny
"""

from perceiver_stream.models.brave import objective
from perceiver_stream.models.brave.variants import FAMILY
from perceiver_stream.streams import pulses
from perceiver_stream.training import ExperimentConfig, OptimizerConfig

WINDOW = {"nano": 6, "tiny": 16}


def get_config(variant: str = "tiny") -> ExperimentConfig:
  window = WINDOW[variant]
  return ExperimentConfig(
    model=FAMILY.variants[variant](),
    stream=pulses.Config(ticks_per_recording=window),
    objective=objective.Config(window=window, augment=variant != "nano"),
    optimizer=OptimizerConfig(
      name="lars",
      learning_rate=0.05,
      schedule="cosine",
      warmup_steps=20,
      decay_steps=600,
      final_fraction=0.0,
      weight_decay=1e-4,
      trust_coefficient=0.02,
      gradient_factors={".*predictor.*": 10.0},
      lars_mask="as_released",
    ),
    use_baselines=False,
    num_rows=4 if variant == "nano" else 32,
    max_windows=600,
    run_dir=f"runs/brave_{variant}",
  )
