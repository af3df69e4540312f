"""Other streams: does order hurt more if the world drifts?"""

from perceiver_stream.lab.comparing import Effect
from perceiver_stream.lab.rules import Rule, optimizer
from perceiver_stream.lab.tables.base import Table
from perceiver_stream.lab.trials import Trial

_ADAM = optimizer("adamw", 0.9)
_SOURCES = ("world", "drifting", "balls", "maze")
_RULES = {
  "in order": Rule(optimizer=_ADAM),
  "shuffled": Rule(optimizer=_ADAM, shuffled=True),
  "replay of 5 %": Rule(optimizer=_ADAM, replay=1, long=50),
}

TABLE = Table(
  title="Four kinds of streams",
  about="Synthetic scenes with cuts; one long scene whose light drifts; bouncing balls "
  "with rotating hues; a maze with day and night. Published (*Lifelong learning of "
  "video diffusion models*, 2025, on its own balls and maze): without replay, "
  "learning in order is worse, more so where the stream is not stationary; with it, "
  "about as good as shuffled.",
  trials={
    f"{source}: {name}": Trial(source=source, rule=rule)
    for source in _SOURCES
    for name, rule in _RULES.items()
  },
  effects=[
    Effect(
      about=about,
      first=f"{source}: {first}",
      second=f"{source}: {second}",
      where="out_of_stream",
      lower=lower,
    )
    for source in _SOURCES
    for about, first, second, lower in (
      (f"{source}: in order is worse than shuffled", "in order", "shuffled", False),
      (f"{source}: replay does better than plain order", "replay of 5 %", "in order", True),
    )
  ],
  changes={"default": {"stream_ticks": 4004, "num_rates": 3}},
  remarks=[
    "Held-out streams are of the same kind and begin at their own hue, light or hour. A "
    "step with replay uses two clips, and so costs twice as much."
  ],
)
