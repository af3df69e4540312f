"""Costs of T ticks of `stream_perceiver`: time, compile time, program size and memory.

  python benchmarks/unroll.py

References: a Python loop over T inside `jit` (its program and compile time grow with T; most of the
time here is compiling it for T = 64); `step`, tick by tick; learning without remat.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np

import perceiver_stream
from perceiver_stream.models.base import Model
from perceiver_stream.training import FuturePrediction, ObjectiveConfig

MAX_SHARE = 0.6  # of free memory that a program may set aside to be run at all


def blank(model: Model, *leading: int) -> dict[str, np.ndarray]:
  """Returns observations of zeros `[*leading, ...]`, of all inputs of the model."""
  specs = {name: modality.spec for name, modality in model.modalities.items()}
  return {n: np.zeros((*leading, *spec.shape), spec.dtype) for n, spec in specs.items()}


def config_of(name: str, **changes: Any) -> Any:
  """Returns the config of a model of the zoo; `nano` reads pixels only, to compile in seconds."""
  config = perceiver_stream.config(name)
  if name.endswith("/nano"):
    changes |= {"modalities": {"pixels": config.modalities["pixels"]}, "displacements": (1,)}
  return dataclasses.replace(config, **changes)


def started(name: str) -> tuple[Model, Any, Any]:
  """Returns the model, its parameters, and its state before the first tick."""
  model = perceiver_stream.build(config_of(name))
  params = model.init(jax.random.PRNGKey(0), blank(model, 1))
  return model, params, model.initial_state(params, 1)


# --- programs


def looped(model: Model) -> Callable:
  """Returns `unroll` as a Python loop over the ticks."""

  def loop(params: Any, state: Any, observations: dict[str, jax.Array]) -> tuple[Any, Any]:
    outputs = []
    for tick in range(next(iter(observations.values())).shape[0]):
      output, state = model.step(params, state, {n: x[tick] for n, x in observations.items()})
      outputs.append(output)
    return jax.tree.map(lambda *x: jnp.stack(x), *outputs), state

  return loop


def programs(name: str, lengths: list[int], loops: list[int], repeats: int) -> list[list[Any]]:
  model, params, state = started(name)
  without = partial(model.unroll, displacements=())
  asked: list[tuple[str, Callable, int]] = [("step", model.step, 1)]
  asked += [("unroll", model.unroll, ticks) for ticks in lengths]
  asked += [("unroll, latents only", without, ticks) for ticks in lengths[-1:]]
  asked += [("Python loop", looped(model), ticks) for ticks in loops]
  made, calls = {}, {}
  for kind, function, ticks in asked:
    inputs = blank(model, 1) if kind == "step" else blank(model, ticks, 1)
    made[kind, ticks] = common.program(function, params, state, inputs)
    calls[f"{kind} {ticks}"] = partial(made[kind, ticks].call, params, state, inputs)
  seconds = {n: s.wall for n, s in common.medians(calls, repeats).items()}
  first = made["unroll", lengths[0]]
  per_tick = seconds["step 1"]
  return [
    [
      kind,
      ticks,
      found.trace_s + found.compile_s,
      (found.trace_s + found.compile_s) / (first.trace_s + first.compile_s),
      found.instructions,
      found.instructions / first.instructions,
      1e3 * seconds[f"{kind} {ticks}"] / ticks,
      seconds[f"{kind} {ticks}"] / ticks / per_tick,
      found.temp_bytes / common.MB,
      found.output_bytes / common.MB,
    ]
    for (kind, ticks), found in made.items()
  ]


# --- memory of inference


def watch_by_step(name: str, lengths: list[int]) -> list[int]:
  """Returns the growth of the process in bytes after each number of ticks."""
  model, params, state = started(name)
  call = common.program(model.step, params, state, blank(model, 1)).call
  observation = blank(model, 1)
  _, state = jax.block_until_ready(call(params, state, observation))
  grown, ticks = [], 0
  with common.Peak() as peak:
    for length in lengths:
      for _ in range(length - ticks):
        _, state = jax.block_until_ready(call(params, state, observation))
      ticks = length
      grown.append(peak.so_far)
  return grown


def watch_by_unroll(name: str, length: int, use_predictions: bool) -> int:
  """Returns the growth of the process in bytes in one call of `unroll`."""
  model, params, state = started(name)
  function = model.unroll if use_predictions else partial(model.unroll, displacements=())
  observations = blank(model, length, 1)
  call = common.program(function, params, state, observations).call
  with common.Peak() as peak:
    jax.block_until_ready(call(params, state, observations))
  return peak.grown


def watching(name: str, lengths: list[int], inside: bool) -> list[list[Any]]:
  by_step = common.fresh(watch_by_step, {"name": name, "lengths": lengths}, inside=inside)
  rows = [["step", n, grown] for n, grown in zip(lengths, by_step, strict=True)]
  for length in lengths[1:]:
    for kind, use_predictions in (("unroll", True), ("unroll, latents only", False)):
      asked = {"name": name, "length": length, "use_predictions": use_predictions}
      rows.append([kind, length, common.fresh(watch_by_unroll, asked, inside=inside)])
  beside = dict(zip(lengths, by_step, strict=True))
  return [[k, n, grown / common.MB, grown / max(beside[n], 1)] for k, n, grown in rows]


# --- memory of learning


def learn(name: str, window: int, remat: bool, remat_decode: bool) -> dict[str, Any]:
  """Returns the cost of the gradient of one window."""
  _, params, state = started(name)
  model = perceiver_stream.build(config_of(name, remat=remat))
  objective = FuturePrediction(model, ObjectiveConfig(window=window, remat_decode=remat_decode))
  gradient = jax.value_and_grad(objective.loss, has_aux=True)
  inputs = (params, state, blank(model, objective.num_ticks, 1))
  found = common.program(gradient, *inputs)
  taken = {"ticks": objective.num_ticks, "temp": found.temp_bytes, "ms": None, "grown": None}
  if found.temp_bytes + found.output_bytes < MAX_SHARE * common.free_bytes():
    with common.Peak() as peak:
      jax.block_until_ready(found.call(*inputs))
    seconds = common.medians({"gradient": lambda: found.call(*inputs)}, 1)["gradient"].wall
    taken |= {"ms": 1e3 * seconds, "grown": peak.grown}
  return taken


def learning(
  name: str, windows: list[int], kinds: dict[str, tuple[bool, bool]], inside: bool
) -> list[list[Any]]:
  rows = []
  for window in windows:
    stored: dict[str, Any] = {}
    for kind, (remat, decode) in kinds.items():
      asked = {"name": name, "window": window, "remat": remat, "remat_decode": decode}
      found = common.fresh(learn, asked, inside=inside)
      stored = stored or found
      ratio = lambda key: found[key] and stored[key] and found[key] / stored[key]  # noqa: B023, E731
      temp, grown = found["temp"] / common.MB, found["grown"] and found["grown"] / common.MB
      per_tick = found["ms"] and found["ms"] / window
      row = [window, found["ticks"], kind, temp, ratio("temp"), grown, ratio("grown")]
      rows.append([*row, per_tick, ratio("ms")])
  return rows


# --- bytes of state


def sizes(names: list[str]) -> list[list[Any]]:
  rows = []
  for name in names:
    model = perceiver_stream.build(name)
    tick = blank(model, 1)
    params = jax.eval_shape(model.init, jax.random.PRNGKey(0), tick)
    state = jax.eval_shape(model.initial_state, params)
    state_b, params_b, tick_b = map(total_bytes, (state, params, tick))
    kb = [x / 1e3 for x in (state_b, total_bytes(state.latents), tick_b)]
    rows.append([name, *kb, state_b / tick_b, params_b / common.MB, state_b / params_b])
  return rows


def total_bytes(tree: Any) -> int:
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def main(argv: list[str] | None = None) -> None:
  options = common.arguments_of(argv, __doc__ or "", globals())
  about = common.machine()
  family = "stream_perceiver"
  name, lengths, loops, fed = f"{family}/tiny", [8, 64, 512], [8, 64], [8, 64, 512]
  windows, variants = [8, 64, 256], ["nano", "tiny", "small", "base"]
  kinds = {
    "all stored": (False, False),
    "recurrence recomputed": (True, False),
    "and decoding": (True, True),
  }
  if options.tiny:
    name, lengths, loops, fed = f"{family}/nano", [2], [2], [1]
    windows, variants, kinds = [1], ["nano"], {"all stored": (False, False)}
  program_columns = ["by", "T", "trace + compile s", f"x T = {lengths[0]}", "instructions"]
  program_columns += [f"x T = {lengths[0]}", "ms a tick", "x step", "temp MB", "results MB"]
  learn_columns = ["window", "ticks", "what", "temp MB", "x stored", "growth MB", "x stored"]
  learn_columns += ["ms a tick trained", "x stored"]
  state_columns = ["model", "state kB", "of it latents kB", "one tick of input kB", "state x tick"]
  state_columns += ["parameters MB", "state x parameters"]
  tables = [
    common.Table(
      f"Programs for T ticks ({name})",
      program_columns,
      programs(name, lengths, loops, 1 if options.tiny else 3),
      "One row of images and sound; every tick predicts all displacements. Compile time and "
      "instructions are relative to those of the shortest `unroll`. Temp is XLA's temporary memory.",
    ),
    common.Table(
      f"Inference: growth of the process with the length of the stream ({name})",
      ["by", "ticks", "growth MB", "x step"],
      watching(name, fed, options.tiny),
      "Peak resident memory minus that after compiling (and, for `step`, one tick), in a "
      "fresh process.",
    ),
    common.Table(
      f"Learning: memory by window ({name})",
      learn_columns,
      learning(name, windows, kinds, options.tiny),
      "Loss and gradient of one window + 16 ticks, in a fresh process. Growth is resident memory "
      "minus that after compiling; a dash: not run, too little free memory.",
    ),
    common.Table(
      "Bytes of state, one row", state_columns, sizes([f"{family}/{v}" for v in variants])
    ),
  ]
  common.publish("unroll", options, tables, about)


if __name__ == "__main__":
  main()
