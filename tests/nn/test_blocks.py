import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn import MLP, Attention, CrossBlock, LayerNorm, ParallelBlock, SelfBlock

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(2, 5, 12)), jnp.float32)
Y = jnp.asarray(RNG.normal(size=(2, 7, 6)), jnp.float32)
MASK = jnp.asarray(RNG.random((2, 7)) < 0.5).at[:, 0].set(True)
MAKE = {
  "self": lambda: SelfBlock(3, mlp_dim=24, name="block"),
  "cross": lambda: CrossBlock(2, mlp_dim=24, name="block"),
  "parallel": lambda: ParallelBlock(2, qkv_dim=8, mlp_dim=24, name="block"),
}


def part(params, prefix):
  """Parameters of one submodule, under that submodule's own name."""
  at = f"block/{prefix}"
  return {k[len("block/") :]: v for k, v in params.items() if k == at or k.startswith(at + "/")}


def apply_part(run_module, params, *args):
  f = hk.without_apply_rng(hk.transform(lambda *a: run_module()(*a)))
  return jax.jit(f.apply)(params, *args)


@pytest.mark.parametrize("eps", [1e-6, 1e-5])
def test_self_block_is_its_equation(run, eps):
  make = lambda: SelfBlock(3, mlp_dim=24, qk_dim=6, v_dim=9, eps=eps, name="block")  # noqa: E731
  actual, params, _ = run(make, X)
  sub = lambda make, name, *a: apply_part(make, part(params, name), *a)  # noqa: E731
  n = sub(lambda: LayerNorm(eps=eps, name="attention_norm"), "attention_norm", X)
  attention = lambda: Attention(3, qk_dim=6, v_dim=9, output_dim=12, name="attention")  # noqa: E731
  x = X + sub(attention, "attention", n, n)
  n = sub(lambda: LayerNorm(eps=eps, name="mlp_norm"), "mlp_norm", x)
  x = x + sub(lambda: MLP(24, name="mlp"), "mlp", n)
  np.testing.assert_allclose(actual, x, atol=1e-6)


@pytest.mark.parametrize("use_residual", [False, True])
def test_cross_block_is_its_equation(run, use_residual):
  make = lambda: CrossBlock(  # noqa: E731
    2, mlp_dim=24, qk_dim=6, use_residual=use_residual, eps=1e-5, name="block"
  )
  actual, params, _ = run(make, X, Y, MASK)
  sub = lambda make, name, *a: apply_part(make, part(params, name), *a)  # noqa: E731
  norm = lambda name, x: sub(lambda: LayerNorm(eps=1e-5, name=name), name, x)  # noqa: E731
  attention = lambda: Attention(2, qk_dim=6, output_dim=12, name="attention")  # noqa: E731
  x = sub(attention, "attention", norm("query_norm", X), norm("input_norm", Y), MASK)
  x = X + x if use_residual else x
  x = x + sub(lambda: MLP(24, name="mlp"), "mlp", norm("mlp_norm", x))
  np.testing.assert_allclose(actual, x, atol=1e-6)


def test_parallel_block_is_its_equation(run):
  actual, params, _ = run(MAKE["parallel"], X, Y, MASK)
  sub = lambda make, name, *a: apply_part(make, part(params, name), *a)  # noqa: E731
  norm = lambda name, x: sub(lambda: LayerNorm(use_offset=False, name=name), name, x)  # noqa: E731

  def attention(name, *args):
    make = lambda: Attention(  # noqa: E731
      2, qk_dim=8, output_dim=12, use_qkv_bias=False, qk_norm=True, name=name
    )
    return sub(make, name, *args)

  n = norm("attention_norm", X)
  x = X + attention("self_attention", n, n) + attention("cross_attention", n, Y, MASK)
  x = x + sub(lambda: MLP(24, name="mlp"), "mlp", norm("mlp_norm", x))
  np.testing.assert_allclose(actual, x, atol=1e-6)


def test_parallel_block_drops_either_path(run):
  _, params, _ = run(MAKE["parallel"], X)
  assert not any("cross_attention" in name for name in params)
  cross_only = lambda: ParallelBlock(2, qkv_dim=8, mlp_dim=24, use_self=False, name="block")  # noqa: E731
  _, params, _ = run(cross_only, X, Y)
  assert not any("self_attention" in name for name in params)


@pytest.mark.parametrize("kind", ["cross", "parallel"])
def test_hidden_inputs_have_no_influence(run, kind):
  seen, params, apply = run(MAKE[kind], X, Y, MASK)
  changed = jnp.where(MASK[..., None], Y, 100.0)
  np.testing.assert_array_equal(apply(params, X, changed, MASK), seen)
  assert np.abs(apply(params, X, changed) - seen).max() > 1e-3


@pytest.mark.parametrize("kind", MAKE)
def test_every_parameter_gets_a_finite_gradient(run, kind):
  inputs = (X,) if kind == "self" else (X, Y)
  _, params, apply = run(MAKE[kind], *inputs)
  grads = jax.grad(lambda p: jnp.sum(jnp.sin(apply(p, *inputs))))(params)
  for path, g in jax.tree_util.tree_leaves_with_path(grads):
    name = jax.tree_util.keystr(path)
    assert np.isfinite(g).all(), name
    if "'key'" not in name and not ("key" in name and "'b'" in name):
      assert np.abs(g).max() > 0, name


@pytest.mark.parametrize("kind", MAKE)
def test_bfloat16_is_near_and_rows_are_independent(run, kind):
  inputs = (X,) if kind == "self" else (X, Y)
  exact, params, apply = run(MAKE[kind], *inputs)
  half = apply(params, *(x.astype(jnp.bfloat16) for x in inputs))
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(half, np.float32), exact, atol=0.15)
  np.testing.assert_allclose(apply(params, *(x[1:] for x in inputs)), exact[1:], atol=1e-6)
