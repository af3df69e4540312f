"""Attention by relative positions: what it may depend on, and that it is the formula."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from trees import shaken

from perceiver_stream.nn import RelativeCrossBlock
from perceiver_stream.nn.relative import RelativeAttention

ROWS, QUERIES, TOKENS, WIDTH, HEADS = 2, 3, 5, 8, 2
some = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape)  # noqa: E731
X, Y = some(0, ROWS, QUERIES, WIDTH), some(1, ROWS, TOKENS, WIDTH)
AT, PLACES = 0.3 * some(2, ROWS, QUERIES, 2), 0.5 * some(3, ROWS, TOKENS, 2)
NOWHERE = jnp.full_like(AT, jnp.nan)


@functools.cache
def built(kind: str):
  def call(*args):
    if kind == "block":
      return RelativeCrossBlock(HEADS, qk_dim=WIDTH, mlp_dim=16, name="net")(*args)
    return RelativeAttention(HEADS, qk_dim=WIDTH, output_dim=6, name="net")(*args)

  function = hk.without_apply_rng(hk.transform(call))
  params = shaken(function.init(jax.random.key(0), X, Y, AT, PLACES), 0.3)
  return params, jax.jit(function.apply)


def test_only_differences_of_positions_matter():
  params, apply = built("attention")
  move = jnp.asarray([0.37, -0.21]).reshape(1, 1, 2)
  one = apply(params, X, Y, AT, PLACES)
  np.testing.assert_allclose(one, apply(params, X, Y, AT + move, PLACES + move), atol=1e-4)
  assert not np.allclose(one, apply(params, X, Y, AT + move, PLACES), atol=1e-2)


def test_it_is_the_formula():
  params, apply = built("attention")
  p = {
    f"{m.removeprefix('net').strip('/')}/{n}": np.asarray(v, np.float64)
    for m, x in params.items()
    for n, v in x.items()
  }
  heads = lambda x, name: (np.asarray(x) @ p[f"{name}/w"]).reshape(*x.shape[:2], HEADS, -1)  # noqa: E731

  def normed(x, name):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * p[f"{name}/scale"]

  q = normed(heads(X, "query"), "query_norm") / np.sqrt(WIDTH // HEADS)
  k, v = normed(heads(Y, "key"), "key_norm"), heads(Y, "value")
  apart = np.asarray(PLACES)[:, None] - np.asarray(AT)[:, :, None]  # [B, Q, N, 2]
  phases = np.concatenate([apart * np.pi * 2**i for i in range(4)], -1)
  waves = np.concatenate([np.cos(phases), np.sin(phases)], -1)
  logits = np.einsum("bqmf,bnmf->bmqn", q, k)
  logits += np.einsum("bqmf,bqnf->bmqn", heads(X, "query_position"), waves)
  logits -= np.exp(p["/sharpness"])[:, None, None] * (apart**2).sum(-1)[:, None]
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  found = [np.einsum("bmqn,bnmf->bqmf", weights, v), np.einsum("bmqn,bqnf->bqmf", weights, waves)]
  found = np.concatenate(found, -1).reshape(ROWS, QUERIES, -1) @ p["output/w"] + p["output/b"]
  np.testing.assert_allclose(apply(params, X, Y, AT, PLACES), found, atol=1e-4)


def test_without_a_position_distance_does_not_matter():
  params, apply = built("attention")
  far = PLACES.at[:, 0].add(40.0)  # whole periods of all waves
  np.testing.assert_allclose(
    apply(params, X, Y, NOWHERE, PLACES), apply(params, X, Y, NOWHERE, far), atol=1e-3
  )
  assert not np.allclose(apply(params, X, Y, AT, PLACES), apply(params, X, Y, AT, far), atol=1e-2)


def test_untrained_queries_read_what_is_near():
  call = lambda *a: RelativeAttention(1, qk_dim=4, output_dim=4, name="net")(*a)  # noqa: E731
  function = hk.without_apply_rng(hk.transform(call))
  places = jnp.linspace(-1, 1, TOKENS)[None, :, None] * jnp.ones((ROWS, 1, 2))
  params = function.init(jax.random.key(0), 0 * X, Y, AT, places)
  at = places[:, 1:4]
  near = function.apply(params, 0 * X, Y, at, places)
  changed = function.apply(params, 0 * X, Y.at[:, 1].add(1.0), at, places)
  effect = np.abs(near - changed).mean((0, 2))
  assert effect[0] > 5 * effect[1] > 5 * effect[2]


def test_masked_and_unplaced_tokens():
  params, apply = built("block")
  mask = jnp.ones((ROWS, TOKENS), bool).at[:, 2].set(False)
  places = PLACES.at[:, 4].set(jnp.nan)
  one = apply(params, X, Y, AT, places, mask)
  assert one.shape == X.shape and np.isfinite(one).all()
  two = apply(params, X, Y.at[:, 2].set(9.0), AT, places.at[:, 2].set(0.0), mask)
  np.testing.assert_allclose(one, two, atol=1e-5)
  assert not np.allclose(one, apply(params, X, Y.at[:, 4].set(9.0), AT, places, mask), atol=1e-3)


def test_gradients_are_finite_with_missing_positions():
  params, apply = built("block")
  places, at = PLACES.at[:, 4].set(jnp.nan), AT.at[:, 0].set(jnp.nan)
  loss = lambda p, x: jnp.sum(jnp.square(apply(p, x, Y, at, places)))  # noqa: E731
  for gradient in jax.tree.leaves(jax.grad(loss, (0, 1))(params, X)):
    assert np.isfinite(gradient).all() and np.any(gradient)
