"""Models, at equal parameters and equal frames seen."""

from collections.abc import Mapping

from perceiver_stream.lab.comparing import Effect
from perceiver_stream.lab.learners import LEARNERS
from perceiver_stream.lab.rules import Rule, optimizer
from perceiver_stream.lab.tables.base import Table
from perceiver_stream.lab.tasks import Task
from perceiver_stream.lab.trials import Trial

AHEAD = Task(displacement=1)
RULE = Rule(optimizer=optimizer("rmsprop"))
WITHOUT_MEMORY = ("vit", "unet", "frame_by_frame")
REMEMBERING = ("image_rnn", "conv3d", "trecvit", "rvm", "stream_perceiver")
OVER_PIXELS = ("video_autoencoder", "conv_lstm")  # so much slower; see their own table


def recurrent(name: str, carry: str = "always") -> Trial:
  """Returns the trial of a model with memory."""
  return Trial(learner=name, task=AHEAD, rule=RULE, carry=carry)


def remembering(kinds: Mapping[str, str]) -> dict[str, Trial]:
  """Returns trials of models with memory by its use, as named by `kinds`."""
  return {
    f"{name}, {kind}": recurrent(name, carry)
    for name in REMEMBERING
    for kind, carry in kinds.items()
  }


TABLE = Table(
  title="Models on one stream",
  about="Models at about the same number of parameters: all read the same frames once, "
  "four at a time, and predict one tick ahead. Those with memory carry it from clip "
  "to clip. *vit* and *unet* read a whole clip as one image, so all but the last of "
  "their four targets are in their input. Published (RVM 2025, SSv2, models of 34 "
  "M): a gated core beats attention over several frames, and that beats one frame.",
  trials={
    name: Trial(learner=name, task=AHEAD, rule=RULE) if name in WITHOUT_MEMORY else recurrent(name)
    for name in LEARNERS
    if name not in OVER_PIXELS
  },
  effects=[
    Effect(
      about=about,
      first=first,
      second=second,
      where="out_of_stream",
      lower=True,
    )
    for about, first, second in (
      ("a gated core (RVM) does better than single frames", "rvm", "frame_by_frame"),
      ("a gated LRU (TRecViT) does better than single frames", "trecvit", "frame_by_frame"),
      ("TRecViT does better than an image encoder with an RNN", "trecvit", "image_rnn"),
      ("stream_perceiver does better than RVM's core (ours to show)", "stream_perceiver", "rvm"),
      ("stream_perceiver does better than TRecViT's (ours to show)", "stream_perceiver", "trecvit"),
    )
  ],
  changes={"default": {"stream_ticks": 4004, "num_rates": 3}},
  remarks=[
    "All are small sizes of the families in `perceiver_stream.models`, with the loss of "
    "this laboratory, not the published one. *unet* works on cells of 4 × 4 pixels. Only "
    "*stream_perceiver* starts from copying its input."
  ],
)
