"""What objectives share that read something out of a model that watches, and need not learn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from perceiver_stream import zoo
from perceiver_stream.models.base import Model
from perceiver_stream.models.mapping import check_names, flatten
from perceiver_stream.models.point_readout import Sight
from perceiver_stream.training.objectives.base import reconstructs_motion
from perceiver_stream.types import IS_FIRST, Observation, valid_key
from perceiver_stream.zoo.loading import blank_tick, shapes


@dataclass(kw_only=True)
class FrozenConfig:
  """What the configs share of objectives that read something out of a frozen model.

  Attributes:
    weights: Of the model that watches: a file, or the name of bundled weights; "" is random
      weights, the control.
    finetune: Whether the model learns too, from what is read out of it: gradients flow back through
      the ticks of a window.
  """

  weights: str = ""
  finetune: bool = False


def split(learner: Any, params: PyTree) -> tuple[PyTree, PyTree]:
  """Returns the parameters of the model that watches, and those of the read-out.

  Args:
    learner: With `params`, the model's own, and `finetune`.
    params: What learns: the read-out's, and if `finetune` the model's beside them.
  """
  if not learner.finetune:
    return learner.params, params
  model = {name: params[name] for name in learner.params}
  return model, {name: x for name, x in params.items() if name not in model}


def first_params(learner: Any, readout: PyTree) -> PyTree:
  """Returns what learns before the first step: a fresh read-out, with the model if `finetune`.

  The model's are copies, as a step may write into what it is given.
  """
  return {**jax.tree.map(jnp.array, learner.params), **readout} if learner.finetune else readout


def first_sight(
  model: Model, params: PyTree, observation: Observation, *, flow: bool = False
) -> Sight:
  """Returns what a read-out sees of the state after a first tick, `[B, ...]`."""
  rows = next(iter(observation.values())).shape[0]
  once = {n: jnp.asarray(observation[n])[None] for n in model.modalities if n in observation}
  sight, _ = look(model, params, model.initial_state(params, rows), once, flow=flow)
  return jax.tree.map(lambda x: x[0], sight)


def look(
  model: Model,
  params: PyTree,
  state: PyTree,
  observations: Mapping[str, Any],
  *,
  flow: bool = False,
) -> tuple[Sight, PyTree]:
  """Returns what a read-out sees of the states of T ticks, and the state after them.

  Frames are those that the state remembers under "pixels", if it does. `flow` also decodes how
  each place has moved.

  Raises:
    ValueError: `flow`, and the model does not reconstruct motion.
  """
  states, after = model.observe(params, state, observations)
  latents = model.latents(params, states)
  memory = getattr(states, "memory", {}).get("pixels")
  frames = (memory.last, memory.previous) if memory is not None else (None, None)
  return Sight(latents, *frames, flow_of(model, params, states) if flow else None), after


def flow_of(model: Model, params: PyTree, states: PyTree) -> Float[Array, "T B H W 2"]:
  """Returns where each place was one tick before, (x, y) pixels, as decoded from the latents.

  Raises:
    ValueError: The model does not reconstruct motion.
  """
  if not reconstructs_motion(model):
    raise ValueError(
      "read-out: use_flow=True reads the motion that the model decodes, and this one reconstructs "
      "none; use one trained with pixels.Config.reconstruct_motion, or use_flow=False."
    )
  ticks, rows = jax.tree.leaves(states)[0].shape[:2]
  flat = jax.tree.map(lambda x: x.reshape(ticks * rows, *x.shape[2:]), states)
  flow = model.predict(params, flat, (0,))["pixels_flow"][:, 0]
  return flow.reshape(ticks, rows, *flow.shape[1:])


def seen(model: Model, window: Observation) -> dict[str, Any]:
  """Returns what of a window the model watches, labels left out."""
  inputs = [name for name, m in model.modalities.items() if m.config.use_input]
  names = {IS_FIRST, *inputs, *map(valid_key, inputs)}
  return {name: value for name, value in window.items() if name in names}


def frozen(model: Model, weights: str) -> PyTree:
  """Returns parameters for a model that will watch.

  Args:
    model: As fitted to the stream.
    weights: A file, or the name of bundled weights; "" makes random ones, the control.

  Raises:
    ValueError: They are those of another model; the names that differ are listed.
  """
  if not weights:
    return model.init(jax.random.key(0), blank_tick(model))
  _, params = zoo.load(weights)
  check_names(flatten(params), shapes(model), source=f"{weights}, to watch this stream")
  return params


def check_sees(model: Model) -> str:
  """Returns why nothing can be read out of a model's states, or nothing."""
  if "pixels" not in model.modalities or not model.modalities["pixels"].config.use_input:
    return "it does not watch pixels"
  return "" if max(model.displacements, default=0) > 0 else "its state is not carried on"
