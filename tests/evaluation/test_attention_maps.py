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
from perceiver_stream.evaluation.attention import attention_maps
from perceiver_stream.modalities import vector
from perceiver_stream.models.input_memory import grid_mask
from perceiver_stream.models.stream_perceiver import BottleneckConfig
from perceiver_stream.nn import Attention, capture_attention, mean_weights
from perceiver_stream.zoo.loading import template

TICKS, ROWS, GRID = 4, 2, (6, 5)
NAMES = (
  "stream_perceiver/nano",
  "stream_perceiver/gated_grid",
  "moog/nano",
  "rvm/nano",
)


@functools.cache
def built(name):
  """Returns a model, its parameters, a state and observations `[T, B, ...]`."""
  family, _, variant = name.partition("/")
  config = perceiver_stream.config(f"{family}/nano")
  if family == "stream_perceiver":
    frame = dataclasses.replace(config.modalities["pixels"], motion_levels=1)
    modalities = {"pose": vector.Config(size=3), "pixels": frame}
    config = dataclasses.replace(config, modalities=modalities)
  if variant == "gated_grid":
    core = GatedConfig(num_latents=8, latent_dim=16, num_heads=2, num_layers=1)
    config = dataclasses.replace(config, core=core, bottleneck=BottleneckConfig(latent_grid=(4, 2)))
  model = perceiver_stream.build(config)
  rng = np.random.default_rng(0)
  watched = {
    n: jnp.asarray(m.random_observation(rng, (TICKS, ROWS))) for n, m in model.modalities.items()
  }
  params = model.init(jax.random.key(0), {n: x[0] for n, x in watched.items()})
  watched["is_first"] = jnp.zeros((TICKS, ROWS), bool).at[2, 1].set(True)
  watched["pixels_valid"] = jnp.ones((TICKS, ROWS), bool).at[3, 0].set(False)
  return model, params, model.initial_state(params, ROWS, jax.random.key(1)), watched


@functools.cache
def asked(name):
  """Returns what attention says of a model, and the state after."""
  model, params, state, watched = built(name)
  return attention_maps(model, params, state, watched, GRID)


@pytest.mark.parametrize("name", NAMES)
def test_watching_from_within_is_watching(name):
  model, params, state, watched = built(name)
  attended, last = asked(name)
  states, expected = model.observe(params, state, watched)
  np.testing.assert_allclose(attended.latents, states.latents, atol=1e-5)
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), last, expected)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_shares(name):
  attended, _ = asked(name)
  latents = attended.latents.shape[2]
  assert attended.reads.shape == (TICKS, ROWS, latents, 4, 4)
  assert attended.owns.shape == (TICKS, ROWS, *GRID, latents)
  total = np.sum(attended.reads, axis=(-2, -1))
  assert np.min(attended.reads) >= 0 and np.all(total[:3] > 0) and np.all(total < 1 + 1e-5)
  if name.startswith("stream_perceiver"):  # the others remember the last frame and read that
    assert np.max(total[3, 0]) == 0 < np.min(total[3, 1])
  np.testing.assert_allclose(np.sum(attended.owns, axis=-1), 1, atol=1e-5)


def test_bound_latents_read_their_own_cell_only():
  outside = ~grid_mask([(4, 4)], (4, 2)).reshape(8, 4, 4)
  names = ("stream_perceiver/gated_grid", "stream_perceiver/nano")
  bound, free = (np.asarray(asked(name)[0].reads[:3]) for name in names)
  assert np.max(bound[..., outside]) == 0 < np.min(bound[..., ~outside])
  assert np.min(free) > 0
  free, twin = (
    template(perceiver_stream.build(f"stream_perceiver/nano{n}")) for n in ("", "_grid")
  )
  assert jax.tree.map(np.shape, free) == jax.tree.map(np.shape, twin)


def test_a_latent_of_rvm_is_a_place():
  owns = np.asarray(asked("rvm/nano")[0].owns)
  y, x = np.indices(GRID)
  patch = (2 * y + 1) * 4 // (2 * GRID[0]) * 4 + (2 * x + 1) * 4 // (2 * GRID[1])
  np.testing.assert_array_equal(owns.argmax(axis=-1), np.broadcast_to(1 + patch, owns.shape[:-1]))


def test_own_cells_cover_the_picture_once():
  own = grid_mask([(1,), (6, 8), (3,)], (3, 2))
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

  def asked_for(params):
    with capture_attention() as found:
      run(params, x, mask)
    return found

  found = jax.jit(asked_for)(params)
  assert set(found) == {"a", "b"}
  np.testing.assert_allclose(found["a"].sum(-1), 1, atol=1e-6)
  assert np.max(np.asarray(found["a"])[1, :, 2:]) == 0 and np.min(np.asarray(found["b"])) > 0
  np.testing.assert_allclose(
    mean_weights(found, "^[ab]$"), (found["a"] + found["b"]) / 2, atol=1e-6
  )
  with pytest.raises(ValueError, match=r"no attention matches 'c'; there are \['a', 'b'\]"):
    mean_weights(found, "c")
  before = str(jax.make_jaxpr(lambda p: run(p, x, mask))(params))
  asked_for(params)
  assert str(jax.make_jaxpr(lambda p: run(p, x, mask))(params)) == before


def test_captures_nest_and_end():
  x = jnp.ones((1, 3, 4))
  run = hk.transform(lambda x: Attention(1, name="a")(x, x))
  params = run.init(jax.random.key(0), x)
  with capture_attention() as outer:
    with capture_attention() as inner:
      run.apply(params, None, x)
    assert set(inner) == {"a"} and not outer
  run.apply(params, None, x)
  assert not outer


# --- what cannot be asked -------------------------------------------------------------------------


def refused(config, grid=(16, 16)):
  """Asks without computing anything."""
  model = perceiver_stream.build(config)
  state = jax.eval_shape(lambda p: model.initial_state(p, 1, jax.random.key(0)), template(model))
  clip = {"pixels": jnp.zeros((2, 1, *model.modalities["pixels"].spec.shape), jnp.uint8)}
  jax.eval_shape(lambda p, s: attention_maps(model, p, s, clip, grid), template(model), state)


def test_what_has_no_attention_to_show_says_so():
  moog = perceiver_stream.config("moog/nano")
  with pytest.raises(ValueError, match="is more than config.decoder.chunk=32768; use fewer"):
    refused(moog, (256, 256))
  with pytest.raises(ValueError, match="attention needs the decoder"):
    refused(dataclasses.replace(moog, decoder=None))
  for name, network in (("perceiver_flow", "FlowNetwork"), ("conv3d", "FramePredictorNetwork")):
    with pytest.raises(ValueError, match=f"attention_maps: {network} has no attention to show"):
      refused(perceiver_stream.config(f"{name}/nano"))
  config = perceiver_stream.config("stream_perceiver/nano")
  unread = dataclasses.replace(config.modalities["pixels"], use_output=False)
  with pytest.raises(ValueError, match="attention maps need pixels as input and output"):
    refused(dataclasses.replace(config, modalities=config.modalities | {"pixels": unread}))


def test_a_grid_of_latents_must_have_as_many_cells():
  config = perceiver_stream.config("stream_perceiver/nano")
  with pytest.raises(ValueError, match=r"latent_grid=\(3, 2\) needs 6 latents, one per cell, but"):
    dataclasses.replace(config, bottleneck=BottleneckConfig(latent_grid=(3, 2)))
