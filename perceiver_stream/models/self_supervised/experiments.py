"""Self-supervised methods on clips with classes (`streams.pulses`): one variant for each method.

Variants: the names of the methods (a CPU, minutes), `nano_NAME` (tests); `nano` is `nano_moco`, `tiny` is
`simclr`.

  perceiver-stream train --config=self_supervised:moco
"""

from perceiver_stream.models.self_supervised import METHODS, objective
from perceiver_stream.models.self_supervised.variants import FAMILY
from perceiver_stream.streams import pulses
from perceiver_stream.training import ExperimentConfig, OptimizerConfig
from perceiver_stream.utils.suggest import check_choice

OTHER_NAMES = {"nano": "nano_moco", "tiny": "simclr"}
VARIANTS = (*OTHER_NAMES, *METHODS, *(f"nano_{name}" for name in METHODS))
SIDE, WINDOW, UPDATES = 16, 16, 200


def get_config(variant: str = "tiny") -> ExperimentConfig:
  check_choice("self_supervised variant", variant, VARIANTS)
  name = OTHER_NAMES.get(variant, variant)
  is_nano = name.startswith("nano_")
  method = METHODS[name.removeprefix("nano_")]
  config = method.nano() if is_nano else method.config_type()
  modalities = tuple(dict.fromkeys((*method.needs, *method.optional, "label")))
  return ExperimentConfig(
    model=FAMILY.variants["nano" if is_nano else "tiny"](),
    stream=pulses.Config(
      height=SIDE,
      width=SIDE,
      ticks_per_recording=WINDOW,
      modalities=modalities,
      swell=0.5,
      **method.stream,
    ),
    objective=objective.Config(window=WINDOW, side=SIDE, method=config, augment=not is_nano),
    optimizer=OptimizerConfig(
      learning_rate=3e-3,
      schedule="cosine",
      warmup_steps=20,
      decay_steps=UPDATES,
      final_fraction=0.01,
      weight_decay=1e-4,
    ),
    use_baselines=False,
    num_rows=4 if is_nano else 32,
    max_windows=UPDATES,
    run_dir=f"runs/self_supervised_{variant}",
  )
