"""The objective of all methods: views of each window, a network, and the loss of one method.

A row that lacks an observation of the method, or spans two recordings, does not count; nor does a
window with fewer than two rows that do. What a method needs between windows (statistics of batch norms,
a slow network, queues, labels) is the state, which checkpoints hold.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_stream.models.base import Model
from perceiver_stream.models.self_supervised import methods, views
from perceiver_stream.models.self_supervised.config import Config as TowersConfig
from perceiver_stream.models.self_supervised.methods import simclr
from perceiver_stream.models.self_supervised.network import Towers
from perceiver_stream.nn.debiased_batch_norm import NormMode
from perceiver_stream.nn.losses.coclr import momentum_update
from perceiver_stream.reporting.score_keys import ScoreKey
from perceiver_stream.training.objectives.base import (
  Aux,
  Objective,
  Score,
  check_window,
  flag,
  whole_rows,
)
from perceiver_stream.training.objectives.teacher import (
  MONITORED,
  collapse_scores,
  first_teacher,
)
from perceiver_stream.types import Observation

TRAIN, EVAL = NormMode(is_training=True), NormMode(is_training=False)


@dataclass(kw_only=True)
class Config(views.Config):
  """Windows, views and the method.

  Attributes:
    window: Ticks between updates: the moment that all views show.
    method: Config of a method; its type chooses the method.
    shuffled: If True, sound and captions are those of another recording: the control.
    healthy_rank: Effective rank of a healthy run, for the alarm of partial collapse; 0: not tested.
  """

  window: int = 16
  method: Any = field(default_factory=simclr.Config)
  shuffled: bool = False
  healthy_rank: float = 0.0

  def validate(self) -> None:
    """Checks the fields; raises ValueError."""
    check_window("self_supervised", self.window)
    methods.make(self.method)


class State(NamedTuple):
  """The state from window to window.

  Attributes:
    norms: Statistics of the batch norms of the network.
    slow: Parameters of the slow network; () without one.
    slow_norms: Statistics of its batch norms, of its own passes.
    memory: Of the method.
    windows: Windows learnt from.
  """

  norms: PyTree
  slow: PyTree
  slow_norms: PyTree
  memory: PyTree
  windows: Int[Array, ""]


class SelfSupervised(Objective):
  """Loss and scores of a method; `method@0` is its loss, beside that of a network that knows nothing.

  The numbers of `nn.losses.collapse`, of its embeddings, are scores too.
  """

  name, config_type = "self_supervised", Config
  labels = {"method": ("method", "loss"), **MONITORED}

  def __init__(self, model: Model, config: Config):
    super().__init__(model, config)
    self.method = methods.make(config.method)
    self.needs = self.method.needs
    embed = lambda views, mode: self.method.embed(Towers(model.config, mode), views)  # noqa: E731
    features = lambda clips: self.method.clip_features(Towers(model.config, EVAL), clips)  # noqa: E731
    self._network = hk.transform_with_state(embed)
    self._features = hk.transform_with_state(features)

  @classmethod
  def check_model(cls, model: Model) -> str | None:
    """Returns why a model has no towers for a method, a sentence; None if it has."""
    return None if isinstance(model.config, TowersConfig) else "It has no towers for a method."

  def init_params(self, rng: Array, observation: Observation) -> PyTree:
    """Returns the parameters of the method's network."""
    del observation
    return self._network.init(rng, self.method.views(self._blank(2)), TRAIN)[0]

  def initial_state(self, params: PyTree, batch_size: int = 1, rng: Array | None = None) -> State:
    """Returns the state before the first window; statistics of batch norms are zeros."""
    rng = jax.random.key(0) if rng is None else rng
    norms, outputs = self._shapes(params, batch_size)
    zeros = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), norms)  # noqa: E731
    has_slow = self.method.momentum is not None
    memory = self.method.first_memory(outputs, rng)
    slow = (first_teacher(params), zeros()) if has_slow else ((), ())
    return State(zeros(), *slow, memory, jnp.zeros((), jnp.int32))

  def loss(
    self, params: PyTree, state: State, window: Observation, rng: Array | None = None
  ) -> tuple[Float[Array, ""], Aux]:
    """Returns the loss of the method, with its other results."""
    if rng is None:
      raise ValueError("self_supervised: views are random; give a key as rng.")
    keys = jax.random.split(rng, 3)
    moments = self._moments(window, keys[0])
    valid, seen = moments.valid, self.method.views(moments)
    outputs, norms = self._network.apply(params, state.norms, keys[1], seen, TRAIN)
    slow, slow_outputs, slow_norms = state.slow, {}, state.slow_norms
    if self.method.momentum is not None:
      slow = momentum_update(jax.lax.stop_gradient(state.slow), params, self.method.momentum)
      arguments = keys[2], self.method.slow_views(seen), TRAIN
      found = self._network.apply(slow, slow_norms, *arguments)
      slow_outputs, slow_norms = jax.lax.stop_gradient(found)
    outcome = self.method.loss(outputs, slow_outputs, state.memory, valid)
    enough = jnp.any(valid)
    after = State(norms, slow, slow_norms, outcome.memory, state.windows + 1)
    after = jax.tree.map(lambda new, old: jnp.where(enough, new, old), after, state)
    loss = jnp.where(enough, outcome.loss, 0.0)
    found = after, self._scores(outcome, loss, valid), {}
    return loss, Aux(*jax.lax.stop_gradient(found))

  def watched_state(self, before: State, after: State) -> State:
    """Returns the state as it was: all of it is learnt."""
    del after
    return before

  def clip_features(self, params: PyTree, state: State, window: Observation) -> Array:
    """Returns features `[B, D]` of the clips of a window `[W, B, ...]`, with running statistics.

    The clips are not augmented.
    """
    clips = self._moments(window, None, ("pixels",)).clip()
    return self._features.apply(params, state.norms, None, clips)[0]

  def embed(self, params: PyTree, state: State, window: Observation) -> dict[str, Array]:
    """Returns the outputs of the network for views that are not augmented, with running statistics.

    Raises:
      ValueError: The method draws its views at random.
    """
    seen = self.method.views(self._moments(window, None))
    return dict(self._network.apply(params, state.norms, None, seen, EVAL)[0])

  def _moments(
    self, window: Observation, rng: Array | None, needs: tuple[str, ...] | None = None
  ) -> views.Moments:
    needs = self.method.needs if needs is None else needs
    if missing := sorted(set(needs) - set(window)):
      raise ValueError(
        f"self_supervised: method {self.method.name} reads {list(needs)}, but the window has no "
        f"{missing}; add it to the stream's modalities, or choose another method."
      )
    valid = whole_rows(window, needs)
    least = 1 if rng is None else 2  # one row has no negatives
    valid = valid & (jnp.sum(valid.astype(jnp.int32)) >= least)
    has = {name: valid & _whole(window, name) for name in self.method.optional}
    names = (*needs, *self.method.optional)
    return views.Moments(
      self.config,
      views.filled(window, names, valid),
      valid,
      rng,
      has,
      shuffled=self.config.shuffled and rng is not None,
    )

  def _scores(
    self, outcome: methods.Outcome, loss: Array, valid: Bool[Array, " B"]
  ) -> dict[str, Score]:
    each = lambda x: jnp.broadcast_to(x, (1, valid.size))  # noqa: E731
    score = Score(each(loss), {"uniform": each(outcome.uniform)}, valid[None])
    watched = collapse_scores(outcome.shown[:, None], valid, score.valid, self.config.healthy_rank)
    return {str(ScoreKey("method", 0)): score} | watched

  def _blank(self, num_rows: int) -> views.Moments:
    """Returns moments of zeros; parameters and state do not depend on their sizes."""
    c = self.config
    window = {
      "pixels": jnp.zeros((c.window, num_rows, c.side, c.side, 3)),
      "audio": jnp.zeros((c.window, num_rows, c.hop)),
      "caption": jnp.zeros((c.window, num_rows, 2), jnp.int32),
      "label": jnp.zeros((c.window, num_rows), jnp.int32),
    }
    names = (*self.method.needs, *self.method.optional)
    return self._moments({name: window[name] for name in names}, jax.random.key(0))

  def _shapes(self, params: PyTree, num_rows: int) -> tuple[PyTree, dict[str, Any]]:
    """Returns the shapes of the statistics of batch norms and of the network's outputs."""

    def run() -> tuple[PyTree, Any]:
      seen = self.method.views(self._blank(num_rows))
      key = jax.random.key(0)
      _, norms = self._network.init(key, seen, TRAIN)
      return norms, self._network.apply(params, norms, key, seen, TRAIN)[0]

    return jax.eval_shape(run)


def _whole(window: Observation, name: str) -> Bool[Array, " B"]:
  """Returns True for rows with an optional observation at every tick; False if the window has none."""
  if name not in window:
    return jnp.zeros(window["pixels"].shape[1], bool)
  return jnp.all(flag(window, name), axis=0)
