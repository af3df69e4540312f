"""One process of a run, for tests: `python launched.py '{"run_dir": "...", "max_windows": 4}'`.

A small recurrent model of the real contracts learns the synthetic world; `mesh` says how it lies on
the devices, the environment where other processes are. Prints how the run ended, as JSON.
"""

import json
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream import streams, training
from perceiver_stream.evaluation.baselines import FrameBaselines
from perceiver_stream.nn import shard_axis
from perceiver_stream.training import checkpoints, distributed
from perceiver_stream.training.baselines import BaselineSet
from perceiver_stream.training.loop import Run
from perceiver_stream.training.mesh import make_mesh, own_rows
from perceiver_stream.training.objectives import Aux, ObjectiveConfig, Score
from perceiver_stream.training.objectives import Objective as Base
from perceiver_stream.training.parts import Parts
from perceiver_stream.training.signals import StopRequest

ROWS, HOP, AHEAD, SIDE, LATENTS, DIM = 4, 4, 2, 8, 8, 64


class State(NamedTuple):
  latents: Any
  count: Any


class Objective(Base):
  config = ObjectiveConfig(window=HOP)

  def __init__(self):
    pass  # without a model

  def init_params(self, rng, observation):
    del observation
    keys, shapes = jax.random.split(rng, 3), [(3 * SIDE**2, DIM), (DIM, DIM), (DIM, 3 * SIDE**2)]
    made = [0.1 * jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    return dict(zip(("read", "mix", "write"), made, strict=True))

  def initial_state(self, params, batch_size=1, rng=None):
    del params, rng
    start = jnp.linspace(-1, 1, LATENTS)[None, :, None]
    return State(
      jnp.broadcast_to(start, (batch_size, LATENTS, DIM)), jnp.zeros(batch_size, jnp.int32)
    )

  def loss(self, params, state, window, rng=None):
    del rng
    x = window["pixels"].astype(jnp.float32) / 255
    seen = x.reshape(*x.shape[:2], -1)

    def tick(latents, x):
      read = jnp.broadcast_to((x @ params["read"])[:, None], latents.shape)
      latents = shard_axis(jnp.tanh(latents @ params["mix"] + read))
      return latents, latents

    _, latents = jax.lax.scan(tick, state.latents, seen)
    source, target = seen[-HOP - AHEAD : -AHEAD], seen[-HOP:]
    told = source + jnp.mean(latents[-HOP - AHEAD : -AHEAD], axis=2) @ params["write"]
    valid = ~window["ended"][-HOP:]
    error = jnp.mean(jnp.square(told - target), -1)
    loss = jnp.sum(jnp.where(valid, error, 0)) / jnp.maximum(1, jnp.sum(valid))
    copy = jnp.mean(jnp.square(source - target), -1)
    scores = {f"pixels@{AHEAD}": Score(error, {"copy": copy}, valid)}
    shaped = {f"pixels@{AHEAD}": told.reshape(*told.shape[:2], SIDE, SIDE, 3)}
    return loss, Aux(State(latents[HOP - 1], state.count + 1), scores, shaped)


def make_config(run_dir, mesh=None, **fields):
  config = training.ExperimentConfig(
    model=None, stream=None, num_rows=ROWS, run_dir=str(run_dir), **fields
  )
  config.mesh = training.MeshConfig(**(mesh or {}))
  config.optimizer.learning_rate, config.optimizer.eps = 1e-3, 1e-3  # small differences stay small
  config.checkpoints.every, config.logging.strips_every = 100, 4
  config.logging.use_tensorboard = config.logging.use_report = False
  return config


def make_parts(config):
  """As `training.make_parts`; rows 2 and 3 end ten ticks before the others."""
  rows = own_rows(make_mesh(config.mesh, ROWS), ROWS)
  ticks = lambda row: 30 if row < 2 else 20  # noqa: E731
  opened = []
  for row in rows:
    world = streams.synthetic.Config(
      height=SIDE, width=SIDE, modalities=("pixels",), max_ticks=ticks(row)
    )
    opened += streams.open_rows(world, ROWS, [row])
  windows = streams.windows(opened, HOP, AHEAD, goes_on=jax.process_count() > 1)
  frames = {"pixels": lambda: FrameBaselines((AHEAD,), SIDE, SIDE)}
  return Parts(
    config,
    Objective(),
    streams.prefetch(windows, 2),
    {name: np.zeros((ROWS, *shape), kind) for name, shape, kind in SEEN},
    {"pixels": "mse"},
    BaselineSet(frames, HOP, distributed.Rows(rows, ROWS)),
  )


SEEN = (("pixels", (SIDE, SIDE, 3), np.uint8), ("ended", (), np.bool_))


def main(stop_at=0, **fields):
  """Trains; at window `stop_at` the last process alone is asked to stop."""
  distributed.start()
  config = make_config(**fields)
  stop = StopRequest()
  with checkpoints.Checkpoints(config.run_dir, config.checkpoints) as saved:
    run = Run(make_parts(config), saved)
    learn = run.learner.learn

    def learn_and_stop(window, **options):
      if run.number + 1 == stop_at and jax.process_index() == jax.process_count() - 1:
        stop.reason = "SIGTERM"
      return learn(window, **options)

    run.learner.learn = learn_and_stop
    summary = run.go(stop)
    run.close()
  params = jax.tree.leaves(run.learner.state.params)
  held = [sum(x.addressable_data(0).nbytes for x in params), sum(x.nbytes for x in params)]
  print(json.dumps(summary._asdict() | {"held": held, "rows": run.rows.own}))


if __name__ == "__main__":
  main(**json.loads(sys.argv[1]))
