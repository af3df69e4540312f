"""State carried through the stream, or reset at every clip."""

from perceiver_stream.lab.comparing import Effect
from perceiver_stream.lab.tables import models
from perceiver_stream.lab.tables.base import Table

TABLE = Table(
  title="State: carried or reset",
  about="Gradients pass through four frames. Does a longer memory help? Published: "
  "continuous state is one of the parts that made online action detection better "
  "(COAD 2025: out-of-stream recall 69.1 to 71.6 to 76.0, all parts together).",
  trials=models.remembering({"carried": "always", "reset": "never"}),
  effects=[
    Effect(
      about=f"{name} does better with its state carried",
      first=f"{name}, carried",
      second=f"{name}, reset",
      where=where,
      lower=True,
    )
    for name in models.REMEMBERING
    for where in ("in_stream", "out_of_stream")
  ],
  changes=models.TABLE.changes,
)
