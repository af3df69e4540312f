"""Garbage is collected rarely while JAX traces, and as usual afterwards."""

import gc

import pytest

from perceiver_stream.utils.tracing_memory import RARE, Collector

TRACED = "/jax/core/compile/jaxpr_trace_duration"


@pytest.fixture
def collector():
  usual = gc.get_threshold()
  yield Collector()
  gc.set_threshold(*usual)


def test_traces_make_collections_rare_until_one_without_a_trace(collector):
  usual = gc.get_threshold()
  collector.on_event(TRACED, 0.1, fun_name="f")
  assert gc.get_threshold() == (RARE, *usual[1:])
  for phase in ("start", "stop"):
    collector.on_collection(phase, {})
  assert gc.get_threshold()[0] == RARE  # something was traced before it
  for phase in ("start", "stop"):
    collector.on_collection(phase, {})
  assert gc.get_threshold() == usual


def test_the_next_trace_makes_them_rare_again(collector):
  collector.on_event(TRACED, 0.1)
  for _ in range(2):
    collector.on_collection("stop", {})
  collector.on_event(TRACED, 0.1)
  assert gc.get_threshold()[0] == RARE


@pytest.mark.parametrize("event", ["/jax/core/compile/backend_compile_duration", "/other"])
def test_other_events_change_nothing(collector, event):
  usual = gc.get_threshold()
  collector.on_event(event, 1.0)
  assert gc.get_threshold() == usual
