"""Encoders of clips with parameters from numpy, and clips for them: no program to compile."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_stream.models.clips import ClipEncoder
from perceiver_stream.zoo import clip_encoders


@functools.cache
def shared(name: str) -> clip_encoders.Loaded:
  """Returns a drawn encoder of the zoo; its programs are compiled once for all test modules."""
  return drawn(clip_encoders.build(name))


def drawn(encoder: ClipEncoder, seed: int = 0) -> clip_encoders.Loaded:
  """Returns the encoder with random parameters and statistics, of which none is zero."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name, noise = path[-1].key, rng.normal(size=leaf.shape).astype(np.float32)
    if np.issubdtype(leaf.dtype, np.integer):
      return jnp.full(leaf.shape, 3, leaf.dtype)
    if name in ("scale", "variance") or "var_ema" in path[-2].key:
      return jnp.asarray(1 + 0.2 * np.tanh(noise))
    fan_in = max(np.prod(leaf.shape[:-1]), 1) if name == "w" else 25
    return jnp.asarray(noise / np.sqrt(fan_in))

  template = clip_encoders.template(encoder)
  return clip_encoders.Loaded(encoder, *jax.tree_util.tree_map_with_path(draw, template))


def random_clips(
  encoder: ClipEncoder, rows: int = 2, *, longer: int = 0, seed: int = 1
) -> jax.Array:
  """Returns clips of the encoder's size in [0, 1], by some frames longer."""
  s = encoder.spec
  shape = (rows, s.num_frames + longer, s.height, s.width, s.channels)
  return jnp.asarray(np.random.default_rng(seed).random(shape, np.float32))
