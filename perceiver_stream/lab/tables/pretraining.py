"""Pretraining: which objective is the best start for one stream?"""

from perceiver_stream.lab.comparing import Effect
from perceiver_stream.lab.masking import MASKINGS
from perceiver_stream.lab.rules import PRESETS
from perceiver_stream.lab.tables.base import Table
from perceiver_stream.lab.trials import Trial

_BABY = PRESETS["baby learning"]

TABLE = Table(
  title="Pretraining objectives",
  about="Published (CVPR 2024, ViT, pixel error in / out of the stream): from scratch .074 "
  "/ .105, ImageNet MAE .040 / .044, guided future prediction .036 / .043. Here all "
  "are pretrained on shuffled batches of other worlds, then trained in order by "
  "RMSProp with N = 16: guided and so on is *baby learning*. *Standard* is AdamW "
  "with N = 1 after masked prediction.",
  trials={"none": Trial(rule=_BABY)}
  | {name: Trial(rule=_BABY, pretraining=name) for name in MASKINGS}
  | {"standard": Trial(rule=PRESETS["standard"], pretraining="masked")},
  effects=[
    Effect(
      about=f"{first} does better than {second}",
      first=first,
      second=second,
      where=where,
      lower=True,
      published=published,
    )
    for first, second, where, published in (
      ("guided", "none", "in_stream", "0.49"),
      ("guided", "none", "out_of_stream", "0.41"),
      ("guided", "vanilla", "in_stream", ""),
      ("guided", "vanilla", "out_of_stream", ""),
      ("guided", "masked", "in_stream", "0.90, of MAE"),
      ("guided", "masked", "out_of_stream", "0.98, of MAE"),
    )
  ],
  remarks=[
    "Our definitions: *vanilla* is the task itself; *guided* adds a tenth of the target's "
    "patches of 8 × 8 to the input; *masked* sets three quarters of the clip's to black; "
    "*masked future* is RVM's: a twentieth of the target is given, and only the rest "
    "counts. The paper names the objectives without defining them, and starts from real "
    "videos."
  ],
)
