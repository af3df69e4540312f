"""A stream, model and objective small enough to train in milliseconds, with the real contracts."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream.training.config import ExperimentConfig
from perceiver_stream.training.objectives import Aux, ObjectiveConfig, Score
from perceiver_stream.training.objectives import Objective as Base
from perceiver_stream.training.parts import Parts

DIM, HOP, AHEAD = 3, 4, 1


@dataclass
class Plain:
  """Stands where a model or stream config would."""

  def validate(self):
    pass


class Windows:
  """Windows `[HOP + AHEAD, rows, DIM]` of a noisy rotation; `bad` ones hold NaN."""

  def __init__(self, rows=1, total=12, bad=()):
    self.rows, self.total, self.bad = rows, total, bad

  def __iter__(self):
    return Iterator(self)


class Iterator:
  def __init__(self, source):
    self.source, self.at = source, 0

  def __iter__(self):
    return self

  def __next__(self):
    if self.at == self.source.total:
      raise StopIteration
    at, self.at = self.at, self.at + 1
    return self.window(at)

  def get_state(self):
    return {"at": self.at}

  def set_state(self, state):
    self.at = state["at"]

  def window(self, at):
    ticks = at * HOP + np.arange(HOP + AHEAD)
    x = np.stack([np.sin(0.3 * ticks * (i + 1)) for i in range(DIM)], -1)[:, None]
    noise = np.random.default_rng(at).normal(size=(HOP + AHEAD, self.source.rows, DIM))
    x = (x + 0.1 * noise).astype(np.float32)
    if at in self.source.bad:
      x[2] = np.nan
    return {
      "x": x,
      "is_first": np.zeros(x.shape[:2], bool),
      "timestamp_s": np.broadcast_to(ticks[:, None] / 25, x.shape[:2]),
    }


class Movies(Windows):
  """Windows of a square moving over 16 × 16 pixels, and a tone; no overlap unless `ahead`."""

  def __init__(self, total=4, ticks=8, ahead=0, end=1000):
    super().__init__(1, total)
    self.ticks, self.ahead, self.end = ticks, ahead, end

  def __iter__(self):
    return MovieIterator(self)


class MovieIterator(Iterator):
  def window(self, at):
    ticks = at * self.source.ticks + np.arange(self.source.ticks + self.source.ahead)
    pixels = np.full((len(ticks), 1, 16, 16, 3), 30, np.uint8)
    for i, t in enumerate(ticks):
      pixels[i, 0, 4:9, t % 12 : t % 12 + 4] = (200, 120, 60)
    times = (ticks[:, None] * 640 + np.arange(640)) / 16000
    return {
      "pixels": pixels,
      "audio": 0.3 * np.sin(2 * np.pi * 440 * times, dtype=np.float32)[:, None],
      "is_first": (ticks == 0)[:, None],
      "ended": (ticks >= self.source.end)[:, None],
      "timestamp_s": ticks[:, None] / 25,
    }


class Beside:
  """A baseline without a state, from a function of the window."""

  def __init__(self, function):
    self.function = function

  def __call__(self, window):
    return self.function(window)

  def state(self):
    return {"nothing": np.zeros(1)}

  def restore(self, state):
    assert set(state) == {"nothing"}


class State(NamedTuple):
  h: Any
  count: Any


class Objective(Base):
  """Predicts the next `x` from a leaky average; noise on the state uses up `rng`."""

  config = ObjectiveConfig(window=HOP)

  def __init__(self):
    pass  # without a model

  def init_params(self, rng, observation):
    del observation
    return {"in": {"w": 0.3 * jax.random.normal(rng, (DIM, DIM)), "b": jnp.zeros(DIM)}}

  def initial_state(self, params, batch_size=1, rng=None):
    del params, rng
    return State(jnp.zeros((batch_size, DIM)), jnp.zeros((batch_size,), jnp.int32))

  def loss(self, params, state, window, rng=None):
    def tick(h, x):
      h = 0.5 * h + x @ params["in"]["w"] + jnp.broadcast_to(params["in"]["b"], x.shape)
      return h, h

    _, states = jax.lax.scan(tick, state.h, window["x"])
    h = states[HOP - 1]
    target, source = window["x"][AHEAD:], window["x"][:-AHEAD]
    error = jnp.mean(jnp.square(states[:-AHEAD] - target), -1)
    copy = jnp.mean(jnp.square(source - target), -1)
    noise = 1e-3 * jax.random.normal(rng, ())
    loss = jnp.mean(error) + noise * jnp.sum(params["in"]["b"])
    score = Score(error, {"copy": copy}, jnp.ones(error.shape, bool))
    return loss, Aux(State(h, state.count + 1), {"x@1": score}, {"x@1": states[:-AHEAD]})


def make_config(run_dir, **fields):
  config = ExperimentConfig(model=None, stream=None, run_dir=str(run_dir), **fields)
  config.checkpoints.every = 3
  config.logging.use_tensorboard = config.logging.use_report = False
  config.optimizer.learning_rate = 0.02
  return config


def make_parts(config, windows=None, baselines=None, modalities=None):
  windows = windows or Windows(config.num_rows)
  observation = {"x": np.zeros((config.num_rows, DIM), np.float32)}
  metrics = {"x": "mse"}
  return Parts(config, Objective(), windows, observation, metrics, baselines, modalities or {})
