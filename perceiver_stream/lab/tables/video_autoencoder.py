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
  about="The spatio-temporal video autoencoder (Pătrăucean et al. 2016, 1511.06309) foretells the flow "
  "that brings the next frame out of the last; nobody tells it how things move. Published: it "
  "foretells frames better than a ConvLSTM that says them directly, its flow is of use to move labels "
  "on, and a Huber penalty makes the flow smooth (weights of 0.001 to 0.01 in the released code; "
  "numbers are not known to us).",
  trials={name: _trial("video_autoencoder", w) for w, name in _BY_WEIGHT.items()}
  | {_DIRECT: _trial("conv_lstm")},
  effects=[
    *(
      _lower(f"it foretells frames better than {other}", _FLOW, name, where)
      for other, name in (("copying", "copy"), ("without flow", _DIRECT))
      for where in ("in_stream", "out_of_stream")
    ),
    *(_lower("its flow is better than none", _FLOW, "no flow", w) for w in ("epe_things", "epe")),
    *(
      _lower(
        "labels are better moved along its flow than left alone", _FLOW, "no flow", f"lost@{k}"
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
    "All learn from the squared error of pixels, as everything here; the release learns from that of "
    "their differences to neighbours. *Without flow* is the same net, whose ConvLSTM says how the "
    "features of the last frame change in place of how they move: it too starts from painting the "
    "last frame, which makes it a harder rival than the paper's. The penalty is a term of the loss, of "
    "slope 1 beyond 0.001 pixels; the release adds its gradient only, of a size not known to us.",
    "The stream is of bouncing balls on a ground of one colour, where any flow paints the same: the "
    "error of *things* is over the balls. Features are those of single pixels, of the same width in "
    "all. There is no pooling, and encoder and decoder see no neighbours: where they do, as in the "
    "paper, they undo any constant flow, so that it is learnt up to a shift.",
    "Labels that are moved along the truth are lost too: ground that a ball uncovers has not moved, so "
    "it keeps the ball's label. Flow that fetches other ground there does better.",
    "*DIS* is OpenCV's, in full resolution. The row that sees the next frame knows what the learners "
    "have to foretell.",
  ],
)
