"""A pipeline on devices against its simulator, in a process of its own; see `test_devices`.

Alone it looks at rows of 1, 2 and 4 devices, with fresh shortcuts, and of 2 with slow clocks; with the variables of
`training.distributed` set, at one row over all processes, each with its part, without.
"""

import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream.execution import DevicePipeline, Pipeline, gradients, partition
from perceiver_stream.execution.nets import convchain

TICKS, ROWS, SIDE, RATE = 8, 2, 6, 0.1
SLOW = (1, 2, 1, 2)  # clocks of the stages
STAGED = convchain.staged(
  convchain.Config(channels=(3, 3, 3), shortcut="concat", taps=2, output_dim=2), SIDE, SIDE
)
RNG = np.random.default_rng(0)  # nothing of jax before the processes have met
FRAMES = {"frames": RNG.normal(size=(TICKS, ROWS, SIDE, SIDE, 3)).astype(np.float32)}
TARGETS = RNG.normal(size=(TICKS, ROWS, SIDE, SIDE, 2)).astype(np.float32)


def loss(answer, target):
  return jnp.mean(jnp.square(answer["head"] - target))


def simulated(made, params, clocks):
  """Returns the answers, and parameters and losses after a window of Sideways."""
  pipeline, rule = Pipeline(made, clocks), gradients("sideways", made, loss, clocks=clocks)
  answers, _ = jax.jit(pipeline.unroll)(params, pipeline.initial(params, ROWS), FRAMES)

  def tick(carry, now):
    told, registers = rule.step(params, carry[0], {"frames": now[0]}, now[1])
    return (registers, jax.tree.map(jnp.add, carry[1], told.gradients)), told.loss

  first = rule.initial(params, ROWS), jax.tree.map(jnp.zeros_like, params)
  (_, found), losses = jax.jit(lambda: jax.lax.scan(tick, first, (FRAMES["frames"], TARGETS)))()
  return answers["head"], moved(params, found), losses


def moved(params, found):
  return jax.tree.map(lambda p, g: np.asarray(p) - np.float32(RATE) * np.asarray(g), params, found)


def on_devices(made, params, devices, clocks):
  """Returns the same from a row of devices; parts that are not in this process are None."""
  row = DevicePipeline(made, devices, loss, clocks)
  packed, frames = row.put_params(params), row.put_frames(FRAMES)
  answers, _ = row.unroll(packed, row.initial(params, ROWS), frames)
  targets = row.put_targets(TARGETS)
  found, losses, _ = row.learn(packed, row.initial(params, ROWS), frames, targets)
  has_last = devices[-1].process_index == jax.process_index()
  found = row.get_params(found)
  after = moved({name: params[name] for name in found}, found)
  late = np.asarray(losses.addressable_shards[-1].data[0]) if has_last else None
  return row.answers(answers)["head"] if has_last else None, after, late


def differences(made, params, expected, devices, clocks=()):
  """Returns the largest difference of answers, parameters and losses, and the parameters held."""
  answers, after, losses = on_devices(made, params, devices, clocks)
  largest = lambda a, b: float(np.max(np.abs(np.asarray(a) - np.asarray(b))))  # noqa: E731
  worst = [0.0 if answers is None else largest(answers, expected[0])]
  pairs = zip(
    jax.tree.leaves(after), jax.tree.leaves({n: expected[1][n] for n in after}), strict=True
  )
  worst.append(max(largest(a, b) for a, b in pairs))
  worst.append(0.0 if losses is None else largest(losses, expected[2]))
  return worst, sorted(after)


def main():
  if "JAX_COORDINATOR_ADDRESS" in os.environ:
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    address, count, index = (os.environ[name] for name in names)
    jax.distributed.initialize(address, int(count), int(index))
  alone = jax.process_count() == 1
  made = partition(STAGED, fresh=alone)
  params = jax.jit(made.init)(jax.random.key(0))
  params = jax.tree.map(lambda x: np.asarray(x) + np.float32(0.1), params)
  expected, found = simulated(made, params, ()), {}
  for number in (1, 2, 4) if alone else (jax.device_count(),):
    told = differences(made, params, expected, jax.devices()[:number])
    found[f"{number} {'fresh' if alone else 'aligned'}"] = told
  if alone:
    expected = simulated(made, params, SLOW)
    found["2 slow"] = differences(made, params, expected, jax.devices()[:2], SLOW)
  print(json.dumps(found))


if __name__ == "__main__":
  sys.exit(main())
