"""What RVM promises beyond the released numbers: positions, masks, its objective."""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_stream import zoo
from perceiver_stream.models import rvm
from perceiver_stream.models.rvm import objective as masked_future
from perceiver_stream.nn import sincos_1d

RNG = np.random.default_rng(0)
CONFIG = zoo.config("rvm/nano")


def frames(ticks=6, rows=2):
  return jnp.asarray(RNG.integers(0, 256, (ticks, rows, 16, 16, 3)), jnp.uint8)


@functools.cache
def built():
  model = zoo.build(CONFIG)
  return model, model.init(jax.random.key(0), {"pixels": frames()[0]})


def test_positions_are_exact_on_the_base_grid_and_interpolated_elsewhere():
  np.testing.assert_array_equal(rvm.position_table((4, 6), (4, 6), 8), sincos_1d(24, 8))
  seen = []
  jax.jit(lambda: seen.append(rvm.position_table((4, 4), (8, 8), 8)))()
  fine = seen[0].reshape(8, 8, 8)
  assert isinstance(fine, np.ndarray)
  coarse = sincos_1d(16, 8).reshape(4, 4, 8)
  # Twice as fine: means of 2×2 cells are near the coarse cells, away from the border.
  means = fine.reshape(4, 2, 4, 2, 8).mean((1, 3))
  slow = slice(4, 8)  # channels that change slowly enough to be interpolated
  np.testing.assert_allclose(means[1:3, 1:3, slow], coarse[1:3, 1:3, slow], atol=0.05)


def test_masks_hide_what_they_should():
  order = rvm.draw_orders(jax.random.key(0), 3, 16)
  assert (np.sort(order, axis=1) == np.arange(16)).all()
  assert len({tuple(row) for row in np.asarray(order).tolist()}) == 3
  shared = rvm.draw_orders(jax.random.key(0), 3, 16, shared=True)
  assert (shared == shared[:1]).all()
  mask = rvm.mask_of(order, 4)
  for row in range(3):
    assert set(np.flatnonzero(mask[row] == 0)) == set(np.asarray(order[row, :4]).tolist())


def test_the_share_of_visible_patches_is_rounded_down():
  visible = lambda ratio: dataclasses.replace(CONFIG, mask_ratio=ratio).num_visible()  # noqa: E731
  assert [visible(r) for r in (0.75, 0.95, 0.9, 1.0, 0.0)] == [4, 0, 1, 0, 16]


def test_only_visible_patches_of_the_target_are_looked_at():
  model, params = built()
  order = rvm.draw_orders(jax.random.key(0), 2, 16)
  state = model.initial_state(params, 2)
  _, state = model.unroll(params, state, {"pixels": frames()}, ())

  def predict_frames(target):
    f = hk.transform(lambda m, t, o: rvm.Rvm(CONFIG).predict_frames(m, t, o)).apply
    return jax.jit(f)(params, None, state.latents[None], target, order)

  target = jnp.asarray(RNG.random((2, 16, 16, 3)), jnp.float32)
  hidden = rvm.mask_of(order, CONFIG.num_visible()).reshape(2, 4, 4)
  pixels = jnp.repeat(jnp.repeat(hidden, 4, axis=1), 4, axis=2)[..., None]
  changed = jnp.where(jnp.broadcast_to(pixels, target.shape) > 0, 0.3, target)
  np.testing.assert_array_equal(predict_frames(target), predict_frames(changed))
  assert np.abs(predict_frames(target) - predict_frames(1 - target)).max() > 1e-3


def objective(window, *displacements):
  config = masked_future.Config(window=window, displacements=displacements, num_targets=1)
  return masked_future.MaskedFuture(zoo.build(CONFIG), config)


def test_the_objective_ignores_other_recordings_and_invalid_targets():
  model, params = built()
  loss = jax.jit(objective(4, 1, 2).loss)
  state, video = model.initial_state(params, 2), frames()
  video = {"pixels": video, "is_first": jnp.zeros((6, 2), bool)}
  run = lambda v: float(loss(params, state, v, jax.random.key(3))[0])  # noqa: E731
  both = run(video)
  cut = video | {"is_first": video["is_first"].at[4].set(True)}
  assert both > 0 and run(cut) == 0
  assert run(video | {"pixels_valid": jnp.zeros((6, 2), bool)}) == 0


def test_state_after_the_sources_is_returned():
  model, params = built()
  state, video = model.initial_state(params, 2), frames()
  _, aux = jax.jit(objective(4, 1, 2).loss)(params, state, {"pixels": video}, jax.random.key(0))
  _, expected = model.unroll(params, state, {"pixels": video[:4]}, ())
  np.testing.assert_allclose(aux.next_state.latents, expected.latents, atol=1e-5)


def test_frames_that_are_no_whole_patches_are_explained():
  with pytest.raises(ValueError, match="rvm: frames 18×16 are not a whole number of 4×4 patches"):
    zoo.build(dataclasses.replace(CONFIG, height=18))


def test_it_learns_a_still_picture():
  """Some steps of its own objective beat the mean colour in the hidden patches."""
  y, x = np.mgrid[:16, :16] * (2 * np.pi / 15)
  frame = np.stack([np.sin(y), np.cos(x), np.sin(x) * np.cos(y)], axis=-1) / 2 + 0.5
  video = {"pixels": jnp.asarray(np.broadcast_to(frame * 255, (3, 2, 16, 16, 3)), jnp.uint8)}
  model, params = built()
  state = model.initial_state(params, 2)
  loss, optimiser = objective(2, 1).loss, optax.adam(1e-2)

  @jax.jit
  def step(params, memory, key):
    value, grads = jax.value_and_grad(lambda p: loss(p, state, video, key)[0])(params)
    with jax.numpy_dtype_promotion("standard"):
      updates, memory = optimiser.update(grads, memory)
    return optax.apply_updates(params, updates), memory, value

  memory = optimiser.init(params)
  for i in range(200):
    params, memory, value = step(params, memory, jax.random.key(i))
  assert float(value) < 0.25 * float(np.var(frame - frame.mean((0, 1))))
