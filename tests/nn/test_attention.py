import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn import Attention, attend
from perceiver_stream.nn.attention import _attend_in_blocks

B, Q, N, M, F, G = 2, 13, 29, 3, 4, 5


def arrays(seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  shapes = [(B, Q, M, F), (B, N, M, F), (B, N, M, G)]
  return [rng.normal(size=s).astype(dtype) for s in shapes]


def masks():
  rng = np.random.default_rng(1)
  rows = rng.random((B, N)) < 0.5
  pairs = rng.random((B, Q, N)) < 0.5
  pairs[0, 3] = False  # a query that sees nothing
  rows[1] = False  # a row that sees nothing
  return {"none": None, "rows": rows, "pairs": pairs}


def numpy_attention(queries, keys, values, mask):
  queries, keys, values = (x.astype(np.float64) for x in (queries, keys, values))
  output = np.zeros((*queries.shape[:3], values.shape[-1]))
  for b, q, m in np.ndindex(*queries.shape[:3]):
    seen = np.ones(keys.shape[1], bool)
    if mask is not None:
      seen = mask[b] if mask.ndim == 2 else mask[b, q]
    if seen.any():
      logits = keys[b, seen, m] @ queries[b, q, m] / np.sqrt(queries.shape[-1])
      weights = np.exp(logits - logits.max())
      output[b, q, m] = weights / weights.sum() @ values[b, seen, m]
  return output


@pytest.mark.parametrize("logits_bytes", [2**27, 4 * B * M * N * 4, 4 * B * M * 64])
@pytest.mark.parametrize("mask", masks())
def test_attend_equals_numpy(mask, logits_bytes):
  inputs, mask = arrays(), masks()[mask]
  expected = numpy_attention(*inputs, mask)
  given = None if mask is None else jnp.asarray(mask)
  whole = jax.jit(functools.partial(attend, logits_bytes=logits_bytes))
  actual = whole(*map(jnp.asarray, inputs), given)
  np.testing.assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize("blocks", [(4, 7), (5, 29), (16, 32), (1, 1)])
@pytest.mark.parametrize("mask", masks())
def test_blocks_of_any_size_give_the_same(mask, blocks):
  inputs, mask = arrays(2), masks()[mask]
  given = None if mask is None else jnp.asarray(mask)
  actual = _attend_in_blocks(*map(jnp.asarray, inputs), given, *blocks)
  np.testing.assert_allclose(actual, numpy_attention(*inputs, mask), atol=2e-6)


@pytest.mark.parametrize("mask", masks())
def test_gradients_of_blocked_and_whole_attention_agree(mask):
  inputs, mask = [jnp.asarray(x) for x in arrays(3)], masks()[mask]
  mask = None if mask is None else jnp.asarray(mask)
  target = jnp.asarray(np.random.default_rng(4).normal(size=(B, Q, M, G)), jnp.float32)
  whole = lambda *x: jnp.sum(attend(*x, mask) * target)  # noqa: E731
  blocked = lambda *x: jnp.sum(_attend_in_blocks(*x, mask, 4, 7) * target)  # noqa: E731
  expected = jax.jit(jax.grad(whole, (0, 1, 2)))(*inputs)
  actual = jax.jit(jax.grad(blocked, (0, 1, 2)))(*inputs)
  for a, e in zip(actual, expected, strict=True):
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, e, atol=5e-6)


def test_gradient_equals_finite_differences():
  q, k, v = (jnp.asarray(x) for x in arrays(5))
  loss = lambda q: jnp.sum(jnp.sin(attend(q, k, v)))  # noqa: E731
  direction = jnp.asarray(np.random.default_rng(6).normal(size=q.shape), jnp.float32)
  slope = float(jnp.sum(jax.grad(loss)(q) * direction))
  step = 1e-2
  numeric = float(loss(q + step * direction) - loss(q - step * direction)) / (2 * step)
  assert numeric == pytest.approx(slope, rel=1e-2, abs=1e-3)


def test_large_logits_do_not_overflow():
  q, k, v = (jnp.asarray(x) for x in arrays(7))
  whole = attend(q * 1e4, k * 1e2, v)
  blocked = _attend_in_blocks(q * 1e4, k * 1e2, v, None, 4, 7)
  assert np.isfinite(whole).all()
  np.testing.assert_allclose(blocked, whole, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("logits_bytes", [2**27, 4 * B * M * 64])
def test_half_precision_keeps_its_dtype_and_is_near(dtype, logits_bytes):
  inputs = arrays(8)
  actual = attend(*(jnp.asarray(x, dtype) for x in inputs), logits_bytes=logits_bytes)
  assert actual.dtype == dtype
  expected = numpy_attention(*inputs, None)
  np.testing.assert_allclose(np.asarray(actual, np.float32), expected, atol=3e-2)


def test_blocked_attention_never_makes_the_whole_logits():
  def largest(n):
    shape = jax.ShapeDtypeStruct((1, n, 1, 8), jnp.float32)
    f = functools.partial(attend, logits_bytes=2**16)
    return jax.jit(f).lower(shape, shape, shape).compile().memory_analysis().temp_size_in_bytes

  assert largest(4096) < 0.25 * 4 * 4096**2


def test_masked_keys_have_no_influence():
  q, k, v = (jnp.asarray(x) for x in arrays(9))
  mask = jnp.asarray(masks()["rows"]).at[1, 4].set(True)
  noise = jnp.where(mask[..., None, None], 0.0, 1e6)
  np.testing.assert_array_equal(
    attend(q, k, v, mask), attend(q, k + noise, v + jnp.broadcast_to(noise, v.shape), mask)
  )


def test_batch_rows_are_independent():
  q, k, v = (jnp.asarray(x) for x in arrays(10))
  both = attend(q, k, v)
  np.testing.assert_allclose(both[1:], attend(q[1:], k[1:], v[1:]), atol=1e-6)


def heads_by_hand(params, name, x, num_heads):
  layer = params[f"attention/{name}"]
  y = x @ layer["w"] + (layer["b"] if "b" in layer else 0)
  return np.asarray(y).reshape(*y.shape[:2], num_heads, -1)


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
def test_module_is_projections_around_attend(run, qk_norm, use_bias):
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(B, Q, 6)), rng.normal(size=(B, N, 7))
  x, y = x.astype(np.float32), y.astype(np.float32)
  make = lambda: Attention(  # noqa: E731
    2, qk_dim=8, v_dim=10, output_dim=3, use_qkv_bias=use_bias, qk_norm=qk_norm, name="attention"
  )
  actual, params, _ = run(make, jnp.asarray(x), jnp.asarray(y))
  params = jax.tree.map(np.asarray, params)
  q, k, v = (heads_by_hand(params, n, z, 2) for n, z in (("query", x), ("key", y), ("value", y)))
  if qk_norm:
    rms = lambda z: z / np.sqrt(np.mean(z**2, -1, keepdims=True) + 1e-6)  # noqa: E731
    q = rms(q) * params["attention/query_norm"]["scale"]
    k = rms(k) * params["attention/key_norm"]["scale"]
  gathered = numpy_attention(q, k, v, None).reshape(B, Q, 10)
  out = params["attention/output"]
  np.testing.assert_allclose(actual, gathered @ out["w"] + out["b"], atol=1e-5)
  assert ("b" in params["attention/query"]) == use_bias


def test_module_widths_default_as_documented(run):
  x, y = jnp.zeros((1, 2, 6)), jnp.zeros((1, 3, 4))
  _, params, _ = run(lambda: Attention(2, name="attention"), x, y)
  shapes = {name: value["w"].shape for name, value in params.items()}
  assert shapes == {
    "attention/query": (6, 6),
    "attention/key": (4, 6),
    "attention/value": (4, 6),
    "attention/output": (6, 6),
  }


def test_heads_that_do_not_divide_are_explained(run):
  with pytest.raises(ValueError, match="Attention 'attention': query width 6 is not a multiple of"):
    run(lambda: Attention(4, name="attention"), jnp.zeros((1, 2, 6)), jnp.zeros((1, 2, 6)))


def test_mask_of_the_wrong_length_is_explained():
  q, k, v = (jnp.asarray(x) for x in arrays())
  mask = jnp.ones((B, Q + 1, N), bool)
  with pytest.raises(ValueError, match="mask .* does not fit queries"):
    _attend_in_blocks(q, k, v, mask, 4, 7)


@pytest.mark.parametrize("mask", masks())
def test_one_head_after_another_gives_the_same(mask, monkeypatch):
  inputs, mask = [jnp.asarray(x) for x in arrays(4)], masks()[mask]
  given = None if mask is None else jnp.asarray(mask)
  monkeypatch.setattr("perceiver_stream.nn.attention.TILE_BYTES", 4 * N * 5)
  by_head = jax.jit(lambda *x: attend(*x, given))  # a new function: nothing is cached
  text = str(jax.make_jaxpr(by_head)(*inputs))
  assert "scan" in text and f"f32[{B},{M},{Q},{N}]" not in text
  expected = numpy_attention(*map(np.asarray, inputs), mask)
  np.testing.assert_allclose(by_head(*inputs), expected, atol=2e-6)

  def slope(f):
    return jax.grad(lambda q: jnp.sum(jnp.square(f(q, *inputs[1:]))))(inputs[0])

  monkeypatch.setattr("perceiver_stream.nn.attention.TILE_BYTES", 2**30)
  at_once = slope(lambda *x: attend(*x, given))
  np.testing.assert_allclose(slope(by_head), at_once, atol=1e-5)
