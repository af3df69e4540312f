"""Length: models trained on clips of four frames, run for a hundred times as long."""

from perceiver_stream.lab.comparing import Effect
from perceiver_stream.lab.tables import models
from perceiver_stream.lab.tables.base import Table

TABLE = Table(
  title="Length generalisation",
  about="All are trained on clips of T = 4 frames, each from the initial state. Out of the "
  "stream they are run for 404 frames, 101 T, without a reset, or reset every T. "
  "Published (TRecViT 2024): a net of gated LRUs trained on 64 frames stays usable "
  "at 96, where a transformer with learned positions does not (26.4 against 15.1 dB).",
  trials=models.remembering({"run for 101 T": "held out", "reset every T": "never"}),
  effects=[
    Effect(
      about=f"{name} loses without resets",
      first=f"{name}, run for 101 T",
      second=f"{name}, reset every T",
      where="out_of_stream",
      lower=False,
    )
    for name in models.REMEMBERING
  ],
  changes=models.TABLE.changes,
  remarks=[
    "A ratio below 1: memory of more than four frames helps, although the training never "
    "covered it. A clip net (*vit*, *unet*) cannot be run for longer at all."
  ],
)
