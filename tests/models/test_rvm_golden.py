"""The released RVM's own numbers: every stored array of every golden file."""

import functools

import jax
import jax.numpy as jnp
import pytest
from golden import Golden
from published import golden_files, jitted, load_params, rvm_config
from whole_models import WholeRvm

from perceiver_stream.models.rvm import weights as rvm_weights
from perceiver_stream.models.rvm.network import mask_of, position_table
from perceiver_stream.nn import sincos_1d

time_major = lambda x: jnp.swapaxes(jnp.asarray(x), 0, 1)  # noqa: E731
FILES = golden_files("rvm")


@functools.cache
def setup(path):
  golden = Golden(path)
  config = rvm_config(golden.hyper)
  a = golden.arrays
  frames, targets = time_major(a["inputs/source_frames"]), time_major(a["inputs/target_frames"])
  orders, deltas = time_major(a["inputs/mask_permutation"]), time_major(a["inputs/target_deltas"])
  zero = jnp.zeros((frames.shape[1], golden.about["num_tokens_with_cls"], config.dim))
  args = (frames, zero, targets, orders, deltas)
  make = lambda: WholeRvm(config)  # noqa: E731
  params = load_params(make, args, rvm_weights.rules(config), golden.part("params/"))
  return golden, config, args, params, jitted(make, "__call__")


@pytest.mark.parametrize("path", FILES)
def test_stream_and_reconstruction(path):
  golden, config, args, params, model = setup(path)
  assert config.num_visible() == golden.about["num_visible_target_tokens"]
  assert sum(x.size for x in jax.tree.leaves(params)) == golden.about["num_params"]
  encoded, states, last, painted = model(params, *args)
  golden.close("outputs/stream/encoded", time_major(encoded))
  golden.close("outputs/stream/features", time_major(states))
  golden.close("outputs/stream/state", last)
  golden.close("outputs/reconstruct/state", last)
  golden.close("outputs/reconstruct/reconstructed", time_major(painted))
  check_mask(golden, config, args[3], "reconstruct")


def check_mask(golden, config, orders, kind):
  masks = jax.vmap(lambda o: mask_of(o, config.num_visible()))(orders)
  shape = golden.arrays[f"outputs/{kind}/mask"].shape
  golden.close(f"outputs/{kind}/mask", time_major(masks).reshape(shape))


@pytest.mark.parametrize("path", FILES)
def test_other_orders_states_and_no_delta(path):
  golden, config, (frames, zero, targets, orders, deltas), params, model = setup(path)
  rowwise = time_major(golden.arrays["inputs/mask_permutation_rowwise"])
  *_, painted = model(params, frames, zero, targets, rowwise, deltas)
  golden.close("outputs/reconstruct_rowwise/reconstructed", time_major(painted))
  check_mask(golden, config, rowwise, "reconstruct_rowwise")
  *_, painted = model(params, frames, zero, targets, orders, None)
  golden.close("outputs/reconstruct_no_delta/reconstructed", time_major(painted))
  state = jnp.asarray(golden.arrays["inputs/initial_state"])
  _, states, _, painted = model(params, frames, state, targets, orders, deltas)
  golden.close("outputs/reconstruct_from_state/reconstructed", time_major(painted))
  golden.close("outputs/reconstruct_from_state/features", time_major(states))


@pytest.mark.parametrize("path", FILES)
def test_positions(path):
  golden, config, *_ = setup(path)
  shape = golden.arrays["aux/encoder_position"].shape
  table = position_table(config.base_grid, config.grid(), config.dim)
  golden.close("aux/encoder_position", table.reshape(shape))
  shape = golden.arrays["aux/decoder_position"].shape
  table = sincos_1d(shape[0] * shape[1], config.decoder.dim)
  golden.close("aux/decoder_position", table.reshape(shape))
