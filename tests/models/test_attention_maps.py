"""What latents look at: the same mechanism for every recurrent model, and no cost when not asked."""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceiver_stream
from perceiver_stream.core import GatedConfig
from perceiver_stream.models.frames import own_cells
from perceiver_stream.nn import Attention, captured, mean_weights

TICKS, ROWS, GRID = 4, 2, (6, 5)
NAMES = ("stream_perceiver/nano", "stream_perceiver/nano_grid", "gated", "moog/nano", "rvm/nano")


@functools.cache
def built(name):
  """Returns a model, its parameters, a state and observations `[T, B, ...]` with a reset."""
  config = perceiver_stream.config("stream_perceiver/nano" if name == "gated" else name)
  if name == "gated":
    core = GatedConfig(num_latents=8, latent_dim=16, num_heads=2, num_layers=1)
    config = dataclasses.replace(config, core=core)
  model = perceiver_stream.build(config)
  rng = np.random.default_rng(0)
  watched = {n: jnp.asarray(m.fake(rng, (TICKS, ROWS))) for n, m in model.modalities.items()}
  watched["is_first"] = jnp.zeros((TICKS, ROWS), bool).at[2, 1].set(True)
  params = model.init(jax.random.key(0), {n: x[0] for n, x in watched.items()})
  return model, params, model.initial_state(params, ROWS, jax.random.key(1)), watched


@pytest.fixture(params=NAMES)
def watching(request):
  return built(request.param)


def test_watching_from_within_is_watching(watching):
  model, params, state, watched = watching
  attended, last = model.attention(params, state, watched, GRID)
  states, expected = model.observe(params, state, watched)
  np.testing.assert_allclose(attended.latents, model.latents(params, states), atol=1e-5)
  close = functools.partial(np.testing.assert_allclose, atol=1e-5)
  jax.tree.map(close, last, expected)


def test_weights_are_shares(watching):
  model, params, state, watched = watching
  attended, _ = model.attention(params, state, watched, GRID)
  latents = attended.latents.shape[2]
  assert attended.reads.shape == (TICKS, ROWS, latents, 4, 4)
  assert attended.owns.shape == (TICKS, ROWS, *GRID, latents)
  total = np.sum(attended.reads, axis=(-2, -1))
  assert np.min(attended.reads) >= 0 and np.all(total > 0) and np.all(total < 1 + 1e-5)
  np.testing.assert_allclose(np.sum(attended.owns, axis=-1), 1, atol=1e-5)


def test_bound_latents_read_their_own_cell_only():
  model, params, state, watched = built("stream_perceiver/nano_grid")
  attended, _ = model.attention(params, state, watched, GRID)
  outside = ~own_cells([(4, 4)], (4, 2)).reshape(8, 4, 4)
  assert np.max(np.asarray(attended.reads)[..., outside]) == 0
  free, params, state, watched = built("stream_perceiver/nano")
  size = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
  assert size(params) == size(built("stream_perceiver/nano_grid")[1])
  assert np.min(np.asarray(free.attention(params, state, watched, GRID)[0].reads)) > 0


def test_a_latent_of_rvm_is_a_place():
  model, params, state, watched = built("rvm/nano")
  owns = np.asarray(model.attention(params, state, watched, (4, 4))[0].owns)
  np.testing.assert_array_equal(owns[1, 0].reshape(16, 17)[:, 1:], np.eye(16))


def test_a_missing_frame_is_not_read():
  model, params, state, watched = built("stream_perceiver/nano")
  blind = watched | {"pixels_valid": jnp.zeros((TICKS, ROWS), bool)}
  assert np.max(np.asarray(model.attention(params, state, blind, GRID)[0].reads)) == 0


def test_own_cells_cover_the_picture_once():
  own = own_cells([(1,), (6, 8), (3,)], (3, 2))
  assert own.shape == (6, 1 + 48 + 3)
  assert own[:, [0, -3, -2, -1]].all()
  np.testing.assert_array_equal(own[:, 1:49].sum(axis=0), 1)
  np.testing.assert_array_equal(own[:, 1:49].sum(axis=1), 8)
  assert own[1, 1 + 4] and not own[0, 1 + 4]


# --- the capture itself ---------------------------------------------------------------------------


def attending(x, mask):
  return Attention(2, name="a")(x, x, mask), Attention(2, name="b")(x, x)


def test_what_is_captured_is_what_gathers_and_costs_nothing_unasked():
  x = jax.random.normal(jax.random.key(0), (2, 5, 8))
  mask = jnp.asarray([[True] * 5, [True, True, False, False, False]])
  params = hk.transform(attending).init(jax.random.key(1), x, mask)
  run = hk.without_apply_rng(hk.transform(attending)).apply

  def asked(params):
    with captured() as found:
      run(params, x, mask)
    return found

  found = jax.jit(asked)(params)
  assert set(found) == {"a", "b"}
  np.testing.assert_allclose(found["a"].sum(-1), 1, atol=1e-6)
  assert np.max(np.asarray(found["a"])[1, :, 2:]) == 0 and np.min(np.asarray(found["b"])) > 0
  np.testing.assert_allclose(
    mean_weights(found, "^[ab]$"), (found["a"] + found["b"]) / 2, atol=1e-6
  )
  with pytest.raises(ValueError, match=r"no attention matches 'c'; there are \['a', 'b'\]"):
    mean_weights(found, "c")
  before = str(jax.make_jaxpr(lambda p: run(p, x, mask))(params))
  asked(params)
  assert str(jax.make_jaxpr(lambda p: run(p, x, mask))(params)) == before


def test_captures_nest_and_end():
  x = jnp.ones((1, 3, 4))
  run = hk.transform(lambda x: Attention(1, name="a")(x, x))
  params = run.init(jax.random.key(0), x)
  with captured() as outer:
    with captured() as inner:
      run.apply(params, None, x)
    assert set(inner) == {"a"} and not outer
  run.apply(params, None, x)
  assert not outer


# --- what cannot be asked -------------------------------------------------------------------------


def test_what_has_no_attention_to_show_says_so():
  model, params, state, watched = built("moog/nano")
  with pytest.raises(ValueError, match="is more than config.decoder.chunk=32768; ask for fewer"):
    model.attention(params, state, watched, (256, 256))
  blind = dataclasses.replace(model.config, decoder=None)
  model = perceiver_stream.build(blind)
  with pytest.raises(ValueError, match="attention needs the decoder"):
    model.attention(params, state, watched)
  model = perceiver_stream.build("perceiver_flow/nano")
  frame = {"pixels": jnp.zeros((1, *model.modalities["pixels"].spec.shape), jnp.uint8)}
  params = model.init(jax.random.key(0), frame)
  clip = jax.tree.map(lambda x: x[None], frame)
  with pytest.raises(ValueError, match="FlowNetwork carries no latents from tick to tick"):
    model.attention(params, model.initial_state(params, 1), clip)


def test_a_grid_of_latents_must_have_as_many_cells():
  config = perceiver_stream.config("stream_perceiver/nano")
  with pytest.raises(ValueError, match=r"latent_grid=\(3, 2\) needs 6 latents, one per cell, but"):
    dataclasses.replace(config, latent_grid=(3, 2))
