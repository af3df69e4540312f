"""Momentum: does it hurt if consecutive clips are similar?"""

from perceiver_stream.lab.comparing import Effect
from perceiver_stream.lab.rules import Rule, optimizer
from perceiver_stream.lab.tables.base import Table
from perceiver_stream.lab.trials import Trial

_OPTIMIZERS = {
  "SGD": optimizer("sgd"),
  "SGD, momentum 0.9": optimizer("sgd", 0.9),
  "RMSProp": optimizer("rmsprop"),
  "AdamW, b1 = 0": optimizer("adamw", 0.0),
  "AdamW, b1 = 0.5": optimizer("adamw", 0.5),
  "AdamW, b1 = 0.9": optimizer("adamw", 0.9),
}
_SHUFFLED = ("RMSProp", "AdamW, b1 = 0.9")
_CLAIM = "CVPR 2024, S0 figure 5; sizes not known"

TABLE = Table(
  title="Momentum on one stream",
  about="Published (*Learning from one continuous video stream*, CVPR 2024): in order, "
  "momentum hurts; RMSProp does better than AdamW, and a lower b1 recovers part of "
  "it. Every optimiser is run with the same number of learning rates.",
  trials={name: Trial(rule=Rule(optimizer=o)) for name, o in _OPTIMIZERS.items()}
  | {
    f"{name}, shuffled": Trial(rule=Rule(optimizer=_OPTIMIZERS[name], shuffled=True))
    for name in _SHUFFLED
  },
  effects=[
    Effect(
      about=f"{first} does better than {second} ({_CLAIM})",
      first=first,
      second=second,
      where=where,
      lower=True,
    )
    for first, second in (
      ("RMSProp", "AdamW, b1 = 0.9"),
      ("AdamW, b1 = 0", "AdamW, b1 = 0.9"),
      ("AdamW, b1 = 0.5", "AdamW, b1 = 0.9"),
      ("SGD", "SGD, momentum 0.9"),
    )
    for where in ("in_stream", "out_of_stream")
  ],
)
