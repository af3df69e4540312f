"""The released online TAPIR's own numbers, with weights from the recipe of every golden file."""

import functools
import math
import zlib

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import Golden
from published import golden_files

from perceiver_stream.models.mapping import import_params, published_names
from perceiver_stream.models.point_readout import TrackCommands
from perceiver_stream.models.tapir import Config, Tapir, weights

FILES = golden_files("tapir_online")


def drawn(name, shape):
  """Returns the array of a name by the recipe of the file."""
  r = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
  if len(shape) > 1:
    r = r / math.sqrt(np.prod(shape[1:]))
  else:
    r = 1 + 0.1 * r if name.endswith("weight") else 0.1 * r
  return r.astype(np.float32)


@functools.cache
def setup(path):
  golden = Golden(path)
  flat = {}
  for name, (shape, total, absolute) in golden.about["torch_parameters"].items():
    flat[name] = drawn(name, tuple(shape))
    sums = flat[name].astype(float).sum(), np.abs(flat[name].astype(float)).sum()
    np.testing.assert_allclose(sums, (total, absolute), rtol=1e-6, atol=1e-4)
  h = golden.hyper
  size = h["height"], h["width"]
  found = weights.detect(weights.prepare(flat))
  assert found is not None and (found.config.num_extra > 0) == h["extra_convs"]
  config = Config(**(vars(found.config) | {
    "height": size[0], "width": size[1], "initial_size": size,
    "temperature": h["softmax_temperature"],
  }))  # fmt: skip
  make = hk.without_apply_rng(hk.transform(lambda *a: follow(config, *a)))
  args = arguments(golden, config)
  template = jax.eval_shape(make.init, jax.random.key(0), *args)
  params = import_params(weights.prepare(flat), template, weights.rules(config), source="golden")
  return golden, config, flat, params, jax.jit(make.apply), args


def follow(config, state, frames, commands):
  net = Tapir(config)
  return (net.follow(state, frames, commands), net.maps(frames[0])[0], net.maps(frames[0])[1],
          net.track(state, (frames + 1) / 2, commands)[0])  # fmt: skip


def arguments(golden, config):
  """Returns the first state, frames `[T, B, ...]`, and the commands of the queries."""
  video = np.swapaxes(golden.arrays["inputs/video"], 0, 1)
  queries = golden.arrays["inputs/query_points_tyx"]
  ticks = np.arange(len(video)).reshape(-1, 1, 1)
  start = ticks == queries[..., 0][None]
  size = np.array([config.width, config.height], np.float32)
  place = np.broadcast_to((queries[..., :0:-1] / size).astype(np.float32), (*start.shape, 2))
  commands = TrackCommands(*map(jnp.asarray, (start, place, np.zeros_like(start))))
  net = hk.without_apply_rng(hk.transform(lambda: Tapir(config).initial_state(*start.shape[1:])))
  return net.apply({}), jnp.asarray(video), commands


def tick(x, t):
  return jax.tree.map(lambda a: a[t : t + 1], x)


@pytest.mark.parametrize("path", FILES)
def test_frame_by_frame(path):
  golden, config, _, params, run, (state, frames, commands) = setup(path)
  assert sum(x.size for x in jax.tree.leaves(params)) == golden.about["num_params"]
  guesses, tracks = [], []
  for t in range(len(frames)):
    (found, _, state), initial, refined, shown = run(
      params, state, tick(frames, t), tick(commands, t)
    )
    guesses.append(found)
    tracks.append(shown)
    if t == 0:
      first, maps, query = found[0], (initial, refined), state.queries
  last = jax.tree.map(lambda *x: jnp.moveaxis(jnp.concatenate(x), 0, 2), *(g[-1] for g in guesses))
  golden.close("outputs/tracks_xy", last.position)
  golden.close("outputs/occlusion", last.occluded)
  golden.close("outputs/expected_dist", last.distant)
  golden.close("outputs/first_frame/tracks_unrefined", jnp.moveaxis(first.position, 0, 2))
  golden.close("outputs/first_frame/lowres", maps[1].low[None])
  golden.close("outputs/first_frame/hires_mean", maps[1].high[None].mean((2, 3)))
  golden.close("outputs/query_lowres", query[1].low)
  golden.close("outputs/query_hires", query[1].high)
  check_states(golden, state.mixers[0], query[1].low.shape[:2])
  visible = np.concatenate([np.moveaxis(np.asarray(x.visible), 0, 2) for x in tracks], axis=2)
  product = jax.nn.sigmoid(-last.occluded) * jax.nn.sigmoid(-last.distant)
  decided = np.abs(product - 0.5) > golden.atol
  assert np.all(visible[decided] == golden.arrays["outputs/visible"][decided])


def check_states(golden, states, lead):
  """Compares every stored state, or the mean of its absolute values."""
  stored = [name for name in golden.arrays if "/last_state_" in name]
  assert stored
  for name in stored:
    part = name.rpartition("/")[2].removeprefix("last_state_iter").split("_")
    iteration, block, which = int(part[0]), int(part[2]), int(part[4])
    found = states[which - 1][iteration, block].reshape(*lead, *states[which - 1].shape[3:])
    golden.close(name, jnp.abs(found).mean() if name.endswith("abs_mean") else found)


@pytest.mark.parametrize("path", FILES)
def test_both_layouts_have_exactly_these_names_and_shapes(path):
  golden, config, flat, params, *_ = setup(path)
  haiku = {name: tuple(shape) for name, shape in golden.about["haiku_parameters"].items()}
  wanted = published_names(params, weights.rules(config)).values()
  assert {p.name: p.shape for p in wanted} == haiku
  assert {name: x.shape for name, x in weights.prepare(flat).items()} == haiku
  wrapped = {f"params/{name}": np.zeros(0) for name in haiku} | {"state/x": np.zeros(0)}
  assert set(weights.prepare(wrapped)) == set(haiku)
