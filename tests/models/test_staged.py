"""Nets that are lists of layers: pictures in, pictures out, and what does not fit."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_stream.models import unet, vit

UNET = unet.Config(channels=(2, 3), output_dim=2)
ADD = unet.Config(channels=(2, 3), join="add", num_blocks=2, output_dim=2)
VIT = vit.Config(patch=4, dim=8, num_layers=1, num_heads=2, mlp_dim=8, output_dim=2)
NETS = {
  "unet": (lambda x: unet.unet(UNET, x), unet.staged(UNET, 8, 12)),
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
  assert pictures.shape == (2, 8, 12, 2)
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
