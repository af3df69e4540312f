"""Golden files of encoders of clips: parameters by published names, outputs, loss and gradients."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from golden import Golden, files

from perceiver_stream.models.mapping import Detected, published_names
from perceiver_stream.zoo import clip_encoders


class ClipGolden(Golden):
  """One pair of files of a clip encoder; every array is an input, a parameter, or compared."""

  def load(self, config, prefix: str, rules, ignore: str = "") -> clip_encoders.Loaded:
    """Returns the encoder with the file's parameters below a prefix."""
    return clip_encoders.from_published(
      self.part(prefix), Detected(config, rules, ignore), "golden"
    )


def paths_of(kind: str) -> list:
  """Returns a pytest parameter, a path, for each file of a kind."""
  return files(kind, pathlib.Path)


def exported(tree, rules) -> dict[str, np.ndarray]:
  """Returns the arrays of a tree under their published names."""
  flat = {f"{module}/{leaf}": v for module, leaves in tree.items() for leaf, v in leaves.items()}
  result = {}
  for ours, there in published_names(tree, rules).items():
    value = np.asarray(flat[ours])
    result[there.name] = (value.transpose(there.axes) if there.axes else value).reshape(there.shape)
  return result


def train_step(loaded: clip_encoders.Loaded, clips, labels):
  """Returns logits, loss, gradients and statistics of one batch in training, cross-entropy."""
  encoder, params, statistics = loaded

  def loss(params):
    outputs, after = encoder.apply(params, statistics, clips, True)
    assert outputs.logits is not None
    log_probabilities = jax.nn.log_softmax(outputs.logits)
    picked = jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)
    return -jnp.mean(picked), (outputs, after)

  (value, (outputs, after)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
  return outputs, value, grads, after


def channels_last(clips: np.ndarray) -> jax.Array:
  """Returns torch's `[B, C, T, H, W]` as `[B, T, H, W, C]`."""
  return jnp.moveaxis(jnp.asarray(clips), 1, -1)
