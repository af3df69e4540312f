"""Nets that are lists of layers: pictures in, pictures out, and what does not fit."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.execution.nets import densenet, heatmap, inception, unet, vit
from perceiver_stream.nn.conv import pool

UNET = unet.Config(channels=(2, 3), output_dim=2)
ADD = unet.Config(channels=(2, 3), join="add", num_blocks=2, output_dim=2)
VIT = vit.Config(patch=4, dim=8, num_layers=1, num_heads=2, mlp_dim=8, output_dim=2)
DENSE = densenet.Config(stem_channels=3, growth=2, blocks=(2, 1), bottleneck=0, num_keypoints=2)
INCEPTION = inception.Config(
  stem=(3, 3), modules=((2, 2, 2, 2, 2, 1),), halve_before=(), num_keypoints=2
)
NETS = {
  "unet": (lambda x: unet.unet(UNET, x), unet.staged(UNET, 8, 12)),
  "densenet": (lambda x: densenet.densenet(DENSE, x), densenet.staged(DENSE, 8, 12)),
  "inception": (lambda x: inception.inception(INCEPTION, x), inception.staged(INCEPTION, 8, 12)),
  "unet_add": (
    lambda x: unet.unet(ADD, x),
    unet.staged(ADD, 8, 12),
  ),
  "vit": (
    lambda x: vit.vit(VIT, x),
    vit.staged(VIT, 8, 12),
  ),
}


@pytest.mark.parametrize("name", NETS)
def test_pictures_in_pictures_out(name):
  """Rows do not mix, every parameter matters, and parameters bear their layer's name."""
  function, staged = NETS[name]
  net = hk.without_apply_rng(hk.transform(function))
  frames = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
  params = jax.jit(net.init)(jax.random.key(1), frames)
  row = jnp.array([1.0, 0.0])[:, None, None, None]

  @jax.jit
  def pulled(params, frames):
    pictures, back = jax.vjp(net.apply, params, frames)
    noise = jax.random.normal(jax.random.key(2), pictures.shape)
    return pictures, back(noise * jnp.broadcast_to(row, noise.shape))

  pictures, (gradients, seen) = pulled(params, frames)
  stride = {"densenet": DENSE.stride, "inception": INCEPTION.stride}.get(name, 1)
  assert pictures.shape == (2, 8 // stride, 12 // stride, 2)
  assert np.any(seen[0] != 0) and not np.any(seen[1] != 0)
  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
    assert np.any(gradient != 0), jax.tree_util.keystr(path)
  assert {module.split("/")[0] for module in params} == {layer.name for layer in staged.layers}
  assert staged.outputs == (staged.layers[-1].name,)


def test_a_unet_hands_every_level_across_and_a_vit_none():
  assert NETS["unet_add"][1].shortcuts == {"unet_down_0_1"}
  assert NETS["unet_add"][1].layers[-3].reads == ("unet_down_1_1", "unet_down_0_1")
  assert not NETS["vit"][1].shortcuts


@pytest.mark.parametrize(
  ("make", "told"),
  [
    (lambda: unet.Config(channels=()), "must all be 1 or more"),
    (lambda: unet.Config(join="mix"), "join='mix' is not one of"),
    (lambda: unet.staged(UNET, 8, 13), "8×13 cannot be halved 1 times; use multiples of 2"),
    (lambda: densenet.Config(blocks=()), r"and blocks=\(\) must all be 1 or more"),
    (lambda: densenet.Config(compression=0.0), "compression=0.0; use 0 or more, and a share"),
    (lambda: densenet.staged(DENSE, 8, 10), "8×10 cannot be halved 2 times; .* fewer blocks"),
    (lambda: inception.Config(stem=()), r"stem=\(\), 3 modules and num_keypoints=1 must"),
    (lambda: inception.Config(modules=((1, 2, 3, 4, 5, 0),), halve_before=()), "give six widths"),
    (lambda: inception.Config(halve_before=(3,)), r"halve_before=\(3,\) must name modules from 0"),
    (lambda: inception.Config(wide="7x7"), "wide='7x7' is not one of"),
    (lambda: inception.staged(INCEPTION, 8, 10), "halved 2 times; .* fewer stem or halve_before"),
    (lambda: pool(jnp.zeros((1, 2, 2, 1)), "sum"), "kind='sum' is not one of"),
    (lambda: vit.Config(num_heads=5), "dim=384 is not a multiple of num_heads=5"),
    (lambda: vit.Config(num_layers=0), "must all be 1 or more"),
    (lambda: vit.staged(vit.Config(), 16, 20), "16×20 are not a whole number of patches of 16"),
  ],
)
def test_what_does_not_fit_is_told(make, told):
  with pytest.raises(ValueError, match=told):
    make()


def test_frames_of_another_shape_are_other_frames():
  """The default net answers any size that its levels divide."""
  net = hk.transform(lambda x: unet.unet(UNET, x))
  params = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  shape = jax.eval_shape(net.apply, params, None, jnp.zeros((3, 16, 4, 3))).shape
  assert shape == (3, 16, 4, 2)


# --- heat maps


def test_points_come_back_out_of_their_maps():
  """(x, y) in pixels, also between cells; every map sums to 1, and its point has the least loss."""
  points = jnp.array([[[6.0, 10.0], [14.0, 2.0]], [[11.0, 9.0], [8.0, 6.0]]])
  maps = heatmap.gaussian(points, 4, 5, 4, 0.5)
  np.testing.assert_allclose(jnp.sum(maps, axis=(1, 2)), 1, rtol=1e-5)
  logits = jnp.log(maps)
  np.testing.assert_allclose(heatmap.argmax(logits, 4)[0], points[0])
  np.testing.assert_allclose(heatmap.soft_argmax(logits, 4)[1, 0], points[1, 0], atol=0.6)
  np.testing.assert_allclose(heatmap.probabilities(logits), maps, rtol=1e-4, atol=1e-6)
  pull = jax.grad(heatmap.loss)(logits, maps)
  np.testing.assert_allclose(pull, 0, atol=1e-6)


def test_hidden_points_do_not_count():
  maps = jax.random.normal(jax.random.key(0), (1, 2, 3, 2))
  targets = heatmap.gaussian(jnp.array([[[1.0, 1.0], [jnp.nan, 0.0]]]), 2, 3, 1)
  seen = jnp.array([[True, False]])
  loss, pull = jax.value_and_grad(heatmap.loss)(maps, targets, seen)
  np.testing.assert_allclose(loss, heatmap.loss(maps[..., :1], targets[..., :1]), rtol=1e-6)
  assert np.all(np.isfinite(pull)) and not np.any(pull[..., 1])
  assert heatmap.loss(maps, targets, ~jnp.ones_like(seen)) == 0


def test_pooling_leaves_out_what_is_not_there():
  x = jnp.arange(-9.0, 0.0).reshape(1, 3, 3, 1)
  np.testing.assert_array_equal(pool(x, "mean")[0, ..., 0], [[-7, -5.5], [-2.5, -1]])
  np.testing.assert_array_equal(pool(x, "max", window=3, stride=1)[0, 0, :, 0], [-5, -4, -4])
