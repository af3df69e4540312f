"""Summaries of the models of the zoo, from shapes alone: no parameter is created."""

import math
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import PyTree

from perceiver_stream import zoo
from perceiver_stream.zoo import bundled, clip_encoders, loading, point_trackers

SLOTS = 64  # of trackers of points, in the size of their state


@dataclass(frozen=True, kw_only=True)
class Summary:
  """Summary of a model.

  Attributes:
    name: `"family/variant"`.
    parameters: Number of parameters.
    state_bytes: Size of the recurrent state of one stream; of an encoder of clips that is causal,
      the memory of its steps, None if it only reads whole clips; of a tracker, with `SLOTS` slots.
    inputs: Shape of one tick of each input modality; of an encoder of clips, `{"clips": ...}`.
    weights: "bundled" with the package, a "released file" that `load` reads, or "none".
    equals_released: "yes" if the tests compare its architecture with released code, "no" if they
      do not, "ours" if there is no released code.
  """

  name: str
  parameters: int
  state_bytes: int | None
  inputs: dict[str, tuple[int, ...]]
  weights: str
  equals_released: str


def summarize(name: str) -> Summary:
  """Returns the summary of a model of the zoo, or of an encoder of clips.

  Raises:
    ValueError: There is no such model; the message suggests the nearest name.
  """
  if name in clip_encoders.names():
    return _summarize_encoder(name)
  if name in point_trackers.names():
    return _summarize_tracker(name)
  model = zoo.build(name)
  family, variant = zoo.family(model.config), name.split("/")[1]
  params = loading.template(model)
  state = jax.eval_shape(model.initial_state, params)
  released = "released file" if variant in family.released else "none"
  equal = "yes" if variant in family.equals_released else "no"
  return Summary(
    name=name,
    parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(params)),
    state_bytes=_num_bytes(state),
    inputs={n: tuple(m.spec.shape) for n, m in model.modalities.items() if m.config.use_input},
    weights="bundled" if name in bundled.names() else released,
    equals_released=equal if family.card.code else "ours",
  )


def _summarize_encoder(name: str) -> Summary:
  encoder, variant = clip_encoders.build(name), name.split("/")[1]
  family, spec = clip_encoders.family(encoder.config), encoder.spec
  params, statistics = clip_encoders.template(encoder)
  size = None
  if encoder.causal:
    frames = jax.ShapeDtypeStruct((1, spec.height, spec.width, spec.channels), np.float32)
    size = _num_bytes(jax.eval_shape(encoder.initial_state, params, statistics, frames))
  equal = "yes" if variant in family.equals_released else "no"
  return Summary(
    name=name,
    parameters=clip_encoders.num_parameters(encoder),
    state_bytes=size,
    inputs={"clips": (spec.num_frames, spec.height, spec.width, spec.channels)},
    weights="released file" if variant in family.released else "none",
    equals_released=equal if family.card.code else "ours",
  )


def _summarize_tracker(name: str) -> Summary:
  tracker, variant = point_trackers.build(name), name.split("/")[1]
  family = point_trackers.family(tracker.config)
  return Summary(
    name=name,
    parameters=point_trackers.num_parameters(tracker),
    state_bytes=point_trackers.state_bytes(tracker, SLOTS),
    inputs={"pixels": (tracker.height, tracker.width, 3), "queries": (SLOTS, 2)},
    weights="released file" if variant in family.released else "none",
    equals_released="yes" if variant in family.equals_released else "no",
  )


def _num_bytes(state: PyTree) -> int:
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))
