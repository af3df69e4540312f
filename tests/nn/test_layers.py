import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.nn import MLP, ConvStack, LayerNorm, Linear, Precision, RMSNorm
from perceiver_stream.nn.conv import Conv2D
from perceiver_stream.nn.layers import gelu

X = np.random.default_rng(0).normal(size=(2, 5, 12)).astype(np.float32)


def tanh_gelu(x):
  return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def leaf(params, path):
  module, name = path.rsplit("/", 1)
  return np.asarray(params[module][name], np.float64)


@pytest.mark.parametrize("eps", [1e-6, 1e-5, 1e-4])
@pytest.mark.parametrize("use_offset", [False, True])
def test_layer_norm(run, eps, use_offset):
  x = X * 1e-2  # small, so that eps shows
  actual, params, _ = run(
    lambda: LayerNorm(eps=eps, use_offset=use_offset, name="norm"), jnp.asarray(x)
  )
  y = x.astype(np.float64)
  y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + eps)
  y = y * leaf(params, "norm/scale") + (leaf(params, "norm/offset") if use_offset else 0)
  np.testing.assert_allclose(actual, y, atol=1e-5)
  assert ("offset" in params["norm"]) == use_offset


def test_rms_norm(run):
  actual, params, _ = run(lambda: RMSNorm(name="norm"), jnp.asarray(X))
  y = X / np.sqrt(np.mean(X.astype(np.float64) ** 2, -1, keepdims=True) + 1e-6)
  np.testing.assert_allclose(actual, y * leaf(params, "norm/scale"), atol=1e-5)


def test_mlp_uses_the_tanh_gelu(run):
  actual, params, _ = run(lambda: MLP(7, output_dim=3, name="mlp"), jnp.asarray(X))
  hidden = tanh_gelu(X @ leaf(params, "mlp/hidden/w") + leaf(params, "mlp/hidden/b"))
  expected = hidden @ leaf(params, "mlp/output/w") + leaf(params, "mlp/output/b")
  np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize(
  "make",
  [
    lambda: Linear(4, name="m"),
    lambda: LayerNorm(name="m"),
    lambda: RMSNorm(name="m"),
    lambda: MLP(8, name="m"),
  ],
)
def test_bfloat16_goes_in_and_out_and_parameters_stay_float32(run, make):
  exact, params, apply = run(make, jnp.asarray(X))
  half = apply(params, jnp.asarray(X, jnp.bfloat16))
  assert half.dtype == jnp.bfloat16
  assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
  np.testing.assert_allclose(np.asarray(half, np.float32), exact, atol=0.1)


def test_weights_are_drawn_with_the_documented_deviation():
  f = hk.transform(lambda x: Linear(400, name="linear")(x))
  w = f.init(jax.random.key(0), jnp.zeros((1, 100)))["linear"]["w"]
  assert float(jnp.std(w)) == pytest.approx(0.1, rel=0.02)
  assert float(jnp.max(jnp.abs(w))) < 2.001 * 0.1 / 0.8796


def numpy_conv(x, w, stride):
  """'SAME' convolution as a loop over output pixels."""
  size = [-(-n // s) for n, s in zip(x.shape[1:3], stride, strict=True)]
  pads = []
  for n, out, s, k in zip(x.shape[1:3], size, stride, w.shape[:2], strict=True):
    total = max((out - 1) * s + k - n, 0)
    pads.append((total // 2, total - total // 2))
  x = np.pad(x, ((0, 0), *pads, (0, 0)))
  y = np.zeros((x.shape[0], *size, w.shape[-1]))
  for i, j in np.ndindex(*size):
    a, b = i * stride[0], j * stride[1]
    y[:, i, j] = np.einsum("bhwc,hwck->bk", x[:, a : a + w.shape[0], b : b + w.shape[1]], w)
  return y


@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (7, 2), ((1, 3), (2, 1))])
def test_conv_is_same_padded(run, kernel, stride):
  x = np.random.default_rng(1).normal(size=(2, 8, 9, 3)).astype(np.float32)
  make = lambda: Conv2D(4, kernel=kernel, stride=stride, name="conv")  # noqa: E731
  actual, params, _ = run(make, jnp.asarray(x))
  stride = (stride, stride) if isinstance(stride, int) else stride
  expected = numpy_conv(x, leaf(params, "conv/w"), stride) + leaf(params, "conv/b")
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_conv_without_bias_has_none(run):
  _, params, _ = run(lambda: Conv2D(4, use_bias=False, name="conv"), jnp.zeros((1, 4, 4, 3)))
  assert set(params["conv"]) == {"w"}


def test_conv_stack_has_no_activation_after_the_last_layer(run):
  x = np.random.default_rng(2).normal(size=(1, 6, 6, 3)).astype(np.float32)
  actual, params, _ = run(lambda: ConvStack((4, 5), (1, 2), name="stack"), jnp.asarray(x))
  y = numpy_conv(x, leaf(params, "stack/conv_0/w"), (1, 1)) + leaf(params, "stack/conv_0/b")
  y = numpy_conv(tanh_gelu(y), leaf(params, "stack/conv_1/w"), (2, 2))
  np.testing.assert_allclose(actual, y + leaf(params, "stack/conv_1/b"), atol=1e-5)
  assert actual.shape == (1, 3, 3, 5)


def test_conv_stack_names_the_list_that_is_too_short(run):
  with pytest.raises(ValueError, match=r"ConvStack 'stack': 2 channels \(4, 5\) but 1 strides"):
    run(lambda: ConvStack((4, 5), (1,), name="stack"), jnp.zeros((1, 4, 4, 3)))
  with pytest.raises(ValueError, match="but 3 kernels"):
    run(lambda: ConvStack((4,), (1,), kernels=(3, 3, 3), name="stack"), jnp.zeros((1, 4, 4, 3)))


def test_precision_casts_and_refuses():
  assert Precision(compute="bfloat16").cast(jnp.ones(3, bool)).dtype == jnp.bfloat16
  with pytest.raises(ValueError, match="compute dtype 'int8' is unknown; use one of"):
    Precision(compute="int8").validate()


def test_the_backward_pass_of_gelu_keeps_its_input_alone():
  def kept(f):
    x = jnp.ones((2, 3, 4, 5))
    return sum(leaf.size for leaf in jax.tree.leaves(jax.vjp(f, x)[1])) / x.size

  assert kept(gelu) == 1 < kept(jax.nn.gelu)
