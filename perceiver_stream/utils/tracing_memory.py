"""Rarer garbage collection while JAX traces.

A trace makes millions of objects, nearly all without cycles or kept with the program. Python's
collector, which looks through them at every 700 new ones, takes a quarter of the time of a start
whose programs need not be compiled.
"""

import gc
from collections.abc import Mapping
from typing import Any

RARE = 100_000  # new objects between two collections while something is traced


class Collector:
  """Raises the collector's threshold with each trace; the first collection without one resets it.

  So at most `RARE` new objects wait, and only once, after the last trace.
  """

  def __init__(self):
    self.usual, self.traced = gc.get_threshold(), False

  def start(self) -> None:
    """Starts listening to JAX and to the collector; objects that exist now are not looked at again."""
    import jax

    gc.freeze()
    jax.monitoring.register_event_duration_secs_listener(self.on_event)
    gc.callbacks.append(self.on_collection)

  def on_event(self, event: str, duration_secs: float, **about: Any) -> None:
    """Makes collections rare when a trace has ended; inner functions are traced one by one."""
    del duration_secs, about
    if event.endswith("/jaxpr_trace_duration"):
      self.traced = True
      gc.set_threshold(RARE, *self.usual[1:])

  def on_collection(self, phase: str, info: Mapping[str, int]) -> None:
    """Resets the threshold where nothing was traced since the last collection."""
    del info
    if phase == "stop":
      if not self.traced:
        gc.set_threshold(*self.usual)
      self.traced = False
