"""What MooG promises beyond the released numbers: sampling, open-loop prediction, its objective."""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_stream import zoo
from perceiver_stream.models import moog
from perceiver_stream.models.moog import model as moog_model
from perceiver_stream.models.moog import objective as next_frame
from perceiver_stream.models.moog import readouts as moog_readouts
from perceiver_stream.models.moog.sampling import sampled, sampled_cells

RNG = np.random.default_rng(0)
CONFIG = zoo.config("moog/nano")


def frames(ticks=4, rows=2):
  return jnp.asarray(RNG.integers(0, 256, (ticks, rows, 16, 16, 3)), jnp.uint8)


@pytest.mark.parametrize("family", ["moog", "rvm"])
def test_under_the_contract_pictures_are_rgb(family):
  with pytest.raises(ValueError, match=f"{family}: channels=4, but streams have RGB pixels; use 3"):
    zoo.build(dataclasses.replace(zoo.config(f"{family}/nano"), channels=4))


@functools.cache
def built():
  model = zoo.build(CONFIG)
  params = model.init(jax.random.key(0), {"pixels": frames()[0]})
  shake = lambda x: x + jnp.asarray(0.1 * RNG.normal(size=x.shape), x.dtype)  # noqa: E731
  return model, jax.tree.map(shake, params)


@pytest.mark.parametrize("every", [0, 1, 2, 4])
def test_sampling_rolls_then_keeps_every_nth(every):
  picture = jnp.asarray(RNG.normal(size=(3, 8, 12, 2)), jnp.float32)
  offsets = jnp.asarray([[0, 0], [1, 3], [3, 2]]) % max(every, 1)
  actual = sampled(picture, sampled_cells((8, 12), every, offsets))
  for row in range(3):
    rolled = np.roll(picture[row], tuple(int(o) for o in offsets[row]), axis=(0, 1))
    kept = rolled if every < 2 else rolled[every // 2 :: every, every // 2 :: every]
    np.testing.assert_array_equal(actual[row], kept.reshape(-1, 2))


def test_subsampled_decoding_is_full_decoding_there():
  model, params = built()
  state = model.initial_state(params, 2, jax.random.key(1))
  whole = model.predict(params, state, (0,))["pixels"][:, 0]
  cells = sampled_cells((16, 16), 4, jnp.asarray([[1, 2], [3, 0]]))
  some = model.decode(params, state, model.queries("pixels", 0.0, cells[0]))["pixels"]
  np.testing.assert_allclose(some[0, :, 0, 0], sampled(whole, cells)[0], atol=1e-5)


def test_chunked_decoding_is_decoding():
  model, params = built()
  small = dataclasses.replace(CONFIG.decoder, chunk=30)
  chunked = zoo.build(dataclasses.replace(CONFIG, decoder=small))
  state = model.initial_state(params, 2, jax.random.key(1))
  np.testing.assert_allclose(
    model.predict(params, state)["pixels"], chunked.predict(params, state)["pixels"], atol=1e-5
  )


def test_a_tick_without_a_frame_is_a_prediction():
  """Two missing frames lead to the state from which two ticks ahead is decoded."""
  model, params = built()
  state = model.initial_state(params, 2, jax.random.key(1))
  _, seen = model.unroll(params, state, {"pixels": frames(2)}, ())
  gone = {"pixels": frames(2), "pixels_valid": jnp.zeros((2, 2), bool)}
  _, later = model.unroll(params, seen, gone, ())
  np.testing.assert_allclose(
    model.predict(params, seen, (3,))["pixels"],
    model.predict(params, later, (1,))["pixels"],
    atol=1e-5,
  )


def test_first_states_differ_by_key_and_row():
  model, params = built()
  one = model.initial_state(params, 2, jax.random.key(1)).latents
  two = model.initial_state(params, 2, jax.random.key(2)).latents
  assert np.abs(one - two).max() > 1e-2 and np.abs(one[0] - one[1]).max() > 1e-2
  np.testing.assert_array_equal(one, model.initial_state(params, 2, jax.random.key(1)).latents)


def objective(config, window):
  return next_frame.NextFrame(zoo.build(config), next_frame.Config(window=window))


def test_the_objective_is_the_error_of_each_prediction():
  model, params = built()
  config = dataclasses.replace(CONFIG, sample=1)
  video = frames()
  state = model.initial_state(params, 2, jax.random.key(1))
  loss = jax.jit(objective(config, len(video)).loss)
  value, aux = loss(params, state, {"pixels": video}, jax.random.key(2))
  before, errors = state, []
  for frame in video:
    predicted = model.predict(params, before, (1,))["pixels"][:, 0]
    errors.append(jnp.mean(jnp.square(predicted - frame.astype(jnp.float32) / 255)))
    _, before = model.step(params, before, {"pixels": frame})
  assert float(value) == pytest.approx(float(np.mean(errors)), rel=1e-4)
  np.testing.assert_allclose(aux.next_state.latents, before.latents, atol=1e-5)


def test_detached_ticks_pass_no_gradient_to_the_past():
  model, params = built()
  network = lambda: moog_model.MoogNetwork(CONFIG, moog_model.modalities_of(CONFIG))  # noqa: E731
  loss = hk.transform(lambda *args: moog_model.sampled_loss(network(), *args)).apply
  video, key = {"pixels": frames()}, jax.random.key(2)
  state = model.initial_state(params, 2, jax.random.key(1))
  value = lambda x, prob: loss(params, key, state._replace(latents=x), video, prob)[0]  # noqa: E731
  gradient = jax.jit(jax.grad(value))
  slope = lambda prob: gradient(state.latents, prob)  # noqa: E731
  assert np.abs(slope(0.0)).max() > 0
  np.testing.assert_array_equal(slope(1.0), 0)


def test_it_learns_a_still_picture():
  """Some steps of its own objective on one frame beat the mean colour."""
  model = zoo.build(CONFIG)
  y, x = np.mgrid[:16, :16] * (2 * np.pi / 15)
  frame = np.stack([np.sin(y), np.cos(x), np.sin(x) * np.cos(y)], axis=-1) / 2 + 0.5
  video = jnp.asarray(np.broadcast_to(frame * 255, (2, 1, 16, 16, 3)), jnp.uint8)
  params = model.init(jax.random.key(0), {"pixels": video[0]})
  state = model.initial_state(params, 1, jax.random.key(1))
  optimiser = optax.adam(1e-2)
  loss = objective(dataclasses.replace(CONFIG, sample=2), 2).loss

  @jax.jit
  def step(params, memory, key):
    (value, _), grads = jax.value_and_grad(loss, has_aux=True)(
      params, state, {"pixels": video}, key
    )
    with jax.numpy_dtype_promotion("standard"):
      updates, memory = optimiser.update(grads, memory)
    return optax.apply_updates(params, updates), memory, value

  memory = optimiser.init(params)
  for i in range(100):
    params, memory, value = step(params, memory, jax.random.key(i))
  assert float(value) < 0.25 * float(np.var(frame - frame.mean((0, 1))))


def test_loss_gradient_changes_the_correction_and_gets_its_own_parameters():
  config = dataclasses.replace(CONFIG, use_loss_gradient=True)
  model = zoo.build(config)
  params = model.init(jax.random.key(0), {"pixels": frames()[0]})
  assert params["moog/gradient_projection"]["w"].shape == (32, 16)
  video = {"pixels": frames()}
  loss = objective(config, len(video["pixels"])).loss
  grads = jax.jit(jax.grad(lambda p: loss(p, state, video, jax.random.key(1))[0]))
  state = model.initial_state(params, 2)
  assert np.abs(grads(params)["moog/gradient_projection"]["w"]).max() > 0


# --- read-outs --------------------------------------------------------------------------------------


def readout(config, features, queries):
  make = lambda *a: moog_readouts.ClipReadout(config, name="head")(*a)  # noqa: E731
  f = hk.without_apply_rng(hk.transform(make))
  return f, f.init(jax.random.key(0), features, queries)


def test_clip_heads_want_whole_clips():
  config = moog_readouts.ClipConfig(num_frames=4, dim=8, num_heads=2, query_dim=8)
  features, queries = jnp.zeros((1, 3, 5, 6)), jnp.zeros((1, 2, 2))
  with pytest.raises(ValueError, match="features have 3 frames, expected exactly 4; cut the video"):
    readout(config, features, queries)


def test_clip_heads_answer_every_query_alone():
  config = moog_readouts.ClipConfig(num_frames=4, dim=8, num_heads=2, query_dim=8)
  features = jnp.asarray(RNG.normal(size=(2, 4, 5, 6)), jnp.float32)
  queries = jnp.asarray(RNG.random((2, 3, 2)), jnp.float32)
  f, params = readout(config, features, queries)
  whole = f.apply(params, features, queries)
  assert whole.shape == (2, 4, 3, 4)
  np.testing.assert_allclose(
    f.apply(params, features, queries[:, 1:2]), whole[:, :, 1:2], atol=1e-5
  )


def test_points_can_be_followed_in_pieces_and_are_causal():
  stack = moog.StackConfig(num_layers=1, qkv_dim=8, num_heads=2, mlp_dim=8)
  config = moog_readouts.PointConfig(
    stack=stack, dim=8, hidden_dim=8, num_octaves=4, first_dim=8, predict_dim=8
  )
  make = lambda *a: moog_readouts.PointReadout(config, name="points")(*a)  # noqa: E731
  f = hk.without_apply_rng(hk.transform(make))
  features = jnp.asarray(RNG.normal(size=(5, 2, 6, 8)), jnp.float32)
  queries = jnp.asarray(RNG.random((2, 3, 2)), jnp.float32)
  starts = jnp.zeros((5, 2, 3), bool).at[0].set(True).at[3, 1, 1].set(True)
  params = f.init(jax.random.key(0), features, queries, starts)
  whole, last = f.apply(params, features, queries, starts)
  head, state = f.apply(params, features[:2], queries, starts[:2])
  tail, end = f.apply(params, features[2:], queries, starts[2:], state)
  joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), head, tail)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), (whole, last), (joined, end)
  )
  gradient = jax.grad(lambda x: jnp.sum(f.apply(params, x, queries, starts)[0].points.values))
  np.testing.assert_array_equal(gradient(features), 0)  # read-outs do not train the backbone
  assert (whole.points.seen() == (
    jax.nn.sigmoid(whole.points.visible) * jax.nn.sigmoid(whole.points.certainty) > 0.5
  )).all()  # fmt: skip
