"""Grids read and answered without being written out give what written-out tokens give."""

import dataclasses

import haiku as hk
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream import zoo
from perceiver_stream.models.perceiver_io import flow as perceiver_flow
from perceiver_stream.models.perceiver_io.autoencoder import Autoencoder
from perceiver_stream.models.perceiver_io.factored_attention import grid_of
from perceiver_stream.models.perceiver_io.flow import FlowPerceiver
from perceiver_stream.models.perceiver_io.halves import FourierConfig

RNG = np.random.default_rng(3)
SHAPE = (3, 4, 5)


def normal(*shape):
  return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def written_out(grid, batch_size):
  """Returns all tokens of a grid."""
  shape = (batch_size, len(grid.rows), len(grid.cells))
  tokens = np.zeros((*shape, grid.width), np.float32)
  features, rows, cells = grid.columns
  tokens[..., features] = 0 if grid.features is None else grid.features
  tokens[..., rows], tokens[..., cells] = np.asarray(grid.rows)[:, None], grid.cells
  return tokens.reshape(batch_size, -1, grid.width)


@pytest.mark.parametrize("num_row_axes", [0, 1, 2, 3])
@pytest.mark.parametrize("positions", [FourierConfig(num_bands=3), FourierConfig(sine_only=True)])
def test_a_grid_has_the_tokens_of_features_beside_positions(positions, num_row_axes):
  features, shared = normal(2, *SHAPE, 2), normal(3)
  grid = grid_of(features, positions.axes(SHAPE), shared, num_row_axes)
  table = positions.grid(SHAPE)
  assert sorted(np.concatenate(grid.columns)) == list(range(grid.width))
  tokens = written_out(grid, 2)
  np.testing.assert_array_equal(tokens[..., :2], features.reshape(2, 60, 2))
  np.testing.assert_allclose(tokens[0, :, 2:-3], table, atol=1e-6)
  np.testing.assert_array_equal(tokens[..., -3:], np.broadcast_to(shared, (2, 60, 3)))
  deviation = np.sqrt(tokens.var(axis=-1) + 1e-5).reshape(2, *map(len, (grid.rows, grid.cells)))
  np.testing.assert_allclose(grid.inverse_deviation() * deviation, 1, atol=1e-5)


@pytest.mark.parametrize("as_released", [True, False])
def test_axes_of_points_are_their_features(as_released):
  positions = FourierConfig(num_bands=4, max_resolution=(8, 9, 10), as_released=as_released)
  grid = grid_of(None, positions.axes(SHAPE, "left"), jnp.zeros(0), 2)
  expected = positions.points(SHAPE, np.arange(60))
  np.testing.assert_allclose(written_out(grid, 1)[0], expected, atol=1e-5)


def randomised(params):
  """Returns parameters of which none is a zero or a one."""
  leaves, tree = jax.tree.flatten(params)
  return jax.tree.unflatten(tree, [x + 0.1 * normal(*x.shape) for x in leaves])


def flow():
  config = zoo.config("perceiver_flow/nano")
  frames = jnp.tanh(normal(2, 2, config.height, config.width, 3))
  short = hk.without_apply_rng(hk.transform(lambda x: FlowPerceiver(config)(x)))

  def written(x):
    network = FlowPerceiver(config)
    tokens = network.tokens(x)
    return network.decode(network.encode(tokens), tokens).reshape(x.shape[0], *x.shape[2:4], 2)

  params = randomised(jax.jit(short.init)(jax.random.key(0), frames))
  return params, frames, short.apply, hk.without_apply_rng(hk.transform(written)).apply


def test_flow_and_its_gradient_are_those_of_written_out_tokens():
  params, frames, short, long = flow()
  np.testing.assert_allclose(
    jax.jit(short)(params, frames), jax.jit(long)(params, frames), atol=2e-4
  )
  slope = lambda f: jax.jit(jax.grad(lambda p: jnp.mean(jnp.square(f(p, frames)))))(params)  # noqa: E731
  for one, other in zip(*map(jax.tree.leaves, (slope(short), slope(long))), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-3 * max(1e-3, float(jnp.abs(other).max())))


def test_the_program_never_holds_all_tokens_or_logits():
  config = perceiver_flow.Config()
  frames = jax.ShapeDtypeStruct((1, 2, 368, 496, 3), jnp.float32)
  network = hk.without_apply_rng(hk.transform(lambda x: FlowPerceiver(config)(x)))
  params = jax.eval_shape(network.init, jax.random.key(0), frames)
  made = [0]

  def visit(jaxpr):
    for equation in jaxpr.eqns:
      made.extend(4 * v.aval.size for v in equation.outvars if v.aval.shape)
      for inner in jax.extend.core.jaxprs_in_params(equation.params):
        visit(inner)

  visit(jax.make_jaxpr(network.apply)(params, frames).jaxpr)
  assert max(made) < 4 * 182_528 * 322 / 4  # a quarter of the tokens


def autoencoder(label_prob):
  config = zoo.config("perceiver_autoencoder/nano")
  probs = config.mask_probs | {"label": label_prob}
  config = dataclasses.replace(config, mask_probs=probs, decode_chunk=50, audio_gain=1.0)
  inputs = {
    "image": normal(2, config.num_frames, config.height, config.width, 3),
    "audio": normal(2, config.samples, 1),
    "label": normal(2, config.num_classes),
  }
  make = lambda: Autoencoder(config)  # noqa: E731
  network = hk.without_apply_rng(hk.transform(lambda x: make()(x)))
  return make, randomised(jax.jit(network.init)(jax.random.key(0), inputs)), inputs


@pytest.mark.parametrize("label_prob", [0.0, 1.0])
def test_a_clip_gives_the_latents_and_answers_of_written_out_tokens(label_prob):
  make, params, inputs = autoencoder(label_prob)

  def both(inputs):
    network = make()
    latents = network.encode(network.tokens(inputs))
    points = {
      "image": np.asarray([7, 0, 300, 7]),
      "audio": np.asarray([3]),
      "label": np.zeros(1, int),
    }
    short = network.decode(latents, points)
    long = {n: network._decode_points(latents, n, p) for n, p in points.items()}
    return (network.encode_inputs(inputs), short), (latents, long)

  short, long = jax.jit(hk.transform(both).apply)(params, None, inputs)
  for one, other in zip(*map(jax.tree.leaves, (short, long)), strict=True):
    np.testing.assert_allclose(one, other, atol=3e-4)


def test_a_whole_clip_is_its_points():
  make, params, inputs = autoencoder(1.0)

  def both(inputs):
    network = make()
    latents = network.encode_inputs(inputs)
    count = int(np.prod(network.config.query_shapes["image"]))
    every = {"image": np.arange(count)}
    backwards = {"image": np.arange(count)[::-1]}
    return network.decode(latents, every)["image"], network.decode(latents, backwards)["image"]

  every, backwards = jax.jit(hk.transform(both).apply)(params, None, inputs)
  np.testing.assert_allclose(every, backwards[:, ::-1], atol=1e-5)
