"""Checkpoints of two small trees."""

import jax.numpy as jnp
from training_fakes import State

from perceiver_stream.training.checkpoints import CheckpointConfig, Checkpoints
from perceiver_stream.training.run_folder import CHECKPOINTS


def trees(value=1.0):
  return {
    "params": {"net/~/linear": {"w": jnp.full((2, 3), value), "b": jnp.zeros(3, jnp.bfloat16)}},
    "learner": State(
      jnp.full((1, 2), value), {"n": jnp.array(7, jnp.int32), "on": jnp.array(True)}
    ),
  }


def save(folder, numbers, scores=None, **config):
  store = Checkpoints(folder, CheckpointConfig(**config))
  for number in numbers:
    score = (scores or {}).get(number, 0.0)
    store.save(number, trees(float(number)), {"stream": {"at": number}}, score)
  store.wait()
  store.close()
  return folder / CHECKPOINTS


def restore(folder, **kwargs):
  store = Checkpoints(folder, CheckpointConfig())
  try:
    return store.restore(trees(), **kwargs)
  finally:
    store.close()
