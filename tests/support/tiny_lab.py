"""A learner and clips so small that compiling is all that takes time."""

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream.lab.footage import Clips
from perceiver_stream.lab.learners import Learner, Prediction

SIDE, TICKS, CLIPS = 8, 2, 12


def flow_of(params, frames):
  """Returns a flow that parameters have a say in."""
  return (frames @ params["w"])[..., :2]


def colour_learner(memory=False, says_flow=False):
  """Returns a linear map of every pixel's channels; with memory, of the mean frame before too."""

  def init(rng, frames, is_first):
    del is_first
    channels = frames.shape[-1]
    return {"w": 0.1 * jax.random.normal(rng, (channels, 3)), "v": 0.1 * jnp.ones((3, 3))}

  def paint(params, state, frames, is_first):
    del is_first
    painted = frames @ params["w"]
    if memory:
      shown = jnp.broadcast_to(state[None], painted.shape)
      painted, state = painted + shown @ params["v"], frames[-1, ..., :3]
    return Prediction(painted, flow_of(params, frames) if says_flow else None), state

  fresh = lambda params, rows: jnp.zeros((rows, SIDE, SIDE, 3)) if memory else ()  # noqa: E731
  return Learner(init=init, initial_state=fresh, predict_frames=paint)


def clips(seed=0, num=CLIPS, rows=1):
  """Returns noise to see and to paint."""
  rng = np.random.default_rng(seed)
  shape = (num, TICKS, rows)
  picture = lambda: rng.integers(0, 256, (*shape, SIDE, SIDE, 3)).astype(np.uint8)  # noqa: E731
  return Clips(picture(), picture(), np.ones(shape, bool), np.zeros(shape, bool))
