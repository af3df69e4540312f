"""Update cadence: the gradients of N clips, then one step."""

from perceiver_stream.lab.comparing import Effect
from perceiver_stream.lab.rules import Rule, optimizer
from perceiver_stream.lab.tables.base import Table
from perceiver_stream.lab.trials import Trial

_CADENCES = (1, 4, 16, 64)
_PUBLISHED = (  # ratios of errors to those of N = 1, UNet / ViT
  ("out_of_stream", True, {4: "0.54 / 0.82", 16: "0.49 / 0.61", 64: "0.44 / 0.58"}),
  ("in_stream", False, {4: "1.06 / 1.06", 16: "1.03 / 1.11", 64: "1.08 / 1.34"}),
)

TABLE = Table(
  title="Update cadence",
  about="Published (*Learning from one continuous video stream*, CVPR 2024): stepping on the mean "
  "gradient of N clips makes learners better out of the stream and worse in it. Pixel errors there, "
  "UNet / ViT, N = 1, 4, 16, 64: in the stream .036/.035, .038/.037, .037/.039, .039/.047; out of "
  "it .095/.076, .051/.062, .047/.046, .042/.044.",
  trials={
    f"N = {n}": Trial(rule=Rule(optimizer=optimizer("rmsprop", cadence=n))) for n in _CADENCES
  },
  effects=[
    Effect(
      about=f"N = {n} does {'better' if lower else 'worse'} than N = 1",
      first=f"N = {n}",
      second="N = 1",
      where=where,
      lower=lower,
      published=published,
    )
    for where, lower, found in _PUBLISHED
    for n, published in found.items()
  ],
)
