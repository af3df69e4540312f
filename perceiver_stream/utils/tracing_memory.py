"""Less frequent garbage collection while JAX traces.

A trace creates millions of objects; nearly all are acyclic or stay alive with the program. Python's
collector scans them after every 700 new ones, which takes a quarter of the start-up time when no
program has to be compiled.
"""

import gc
from collections.abc import Mapping
from typing import Any

RARE = 100_000  # new objects between two collections during tracing


class Collector:
  """Raises the collector's threshold at each trace; the first collection without one resets it.

  At most `RARE` new objects are left uncollected, and only once, after the last trace.
  """

  def __init__(self):
    self.usual, self.traced = gc.get_threshold(), False

  def start(self) -> None:
    """Registers with JAX and the collector; objects that exist now are not scanned again."""
    import jax

    gc.freeze()
    jax.monitoring.register_event_duration_secs_listener(self.on_event)
    gc.callbacks.append(self.on_collection)

  def on_event(self, event: str, duration_secs: float, **about: Any) -> None:
    """Raises the threshold when a trace has ended; inner functions are traced one by one."""
    del duration_secs, about
    if event.endswith("/jaxpr_trace_duration"):
      self.traced = True
      gc.set_threshold(RARE, *self.usual[1:])

  def on_collection(self, phase: str, info: Mapping[str, int]) -> None:
    """Resets the threshold if nothing was traced since the last collection."""
    del info
    if phase == "stop":
      if not self.traced:
        gc.set_threshold(*self.usual)
      self.traced = False
