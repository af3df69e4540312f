"""Flow and label propagation of the spatio-temporal video autoencoder."""

from perceiver_stream.lab import motion
from perceiver_stream.lab.comparing import Effect
from perceiver_stream.lab.tables import models
from perceiver_stream.lab.tables.base import Table
from perceiver_stream.lab.trials import Trial

_SMOOTHNESS = (0.0, 0.001, 0.01)
_FLOW, _DIRECT = "flow", "without flow"
_BY_WEIGHT = {w: f"{_FLOW}, smoothness {w:g}" if w else _FLOW for w in _SMOOTHNESS}


def _trial(learner: str, smoothness: float = 0.0) -> Trial:
  return Trial(
    learner=learner,
    source="moving",
    task=models.AHEAD,
    rule=models.RULE,
    carry="always",
    smoothness=smoothness,
  )


def _lower(about: str, first: str, second: str, where: str) -> Effect:
  return Effect(about=about, first=first, second=second, where=where, lower=True)


TABLE = Table(
  title="Flow and labels by a video autoencoder",
  about="The spatio-temporal video autoencoder (Pătrăucean et al. 2016, 1511.06309) "
  "predicts the flow that warps the last frame to the next; there are no motion "
  "labels. Published: it predicts frames better than a ConvLSTM that predicts them "
  "directly, its flow propagates labels, and a Huber penalty makes the flow smooth "
  "(weights of 0.001 to 0.01 in the released code; numbers are not known to us).",
  trials={name: _trial("video_autoencoder", w) for w, name in _BY_WEIGHT.items()}
  | {_DIRECT: _trial("conv_lstm")},
  effects=[
    *(
      _lower(f"it predicts frames better than {other}", _FLOW, name, where)
      for other, name in (("copying", "copy"), ("without flow", _DIRECT))
      for where in ("in_stream", "out_of_stream")
    ),
    *(_lower("its flow is better than none", _FLOW, "no flow", w) for w in ("epe_things", "epe")),
    *(
      _lower(
        "labels are better when moved along its flow than when static",
        _FLOW,
        "no flow",
        f"lost@{k}",
      )
      for k in motion.AFTER
    ),
    *(
      _lower(about, name, _FLOW, where)
      for w, name in _BY_WEIGHT.items()
      if w
      for about, where in (
        (f"a penalty of {w:g} makes it smoother", "roughness"),
        (f"a penalty of {w:g} makes it better", "epe_things"),
        (f"a penalty of {w:g} makes it better", "epe"),
      )
    ),
  ],
  changes={
    "default": {
      "widths": {"video_autoencoder": 16, "conv_lstm": 17},  # as many parameters
      "stream_ticks": 3004,
      "held_out": (8, 132),
      "num_rates": 2,
      "parts": 2,
    }
  },
  remarks=[
    "All are trained with the squared error of pixels, as everywhere here; the release "
    "uses that of their differences to neighbours. *Without flow* is the same net with a "
    "ConvLSTM that predicts the change of the last frame's features instead of their "
    "motion: it too starts from copying the last frame, which makes it a stronger baseline "
    "than the paper's. The penalty is a term of the loss, of slope 1 beyond 0.001 pixels; "
    "the release adds its gradient only, of a size not known to us.",
    "The stream is of bouncing balls on a background of one colour, where every flow gives "
    "the same image: the error of *objects* is over the balls. Features are those of "
    "single pixels, of the same width in all. There is no pooling, and encoder and decoder "
    "read no neighbours: otherwise, as in the paper, they can undo any constant flow, "
    "which is then learned only up to a shift.",
    "Labels that are moved along the true flow get errors too: background that a ball "
    "uncovers has not moved, so it keeps the ball's label. A flow that takes other "
    "background there scores better.",
    "*DIS* is OpenCV's, in full resolution. The row that reads the next frame has the "
    "target of the learners as input.",
  ],
)
