"""SAVi's own numbers, every stored array of every golden file; and its streaming contract."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import Golden
from published import golden_files

from perceiver_stream.core.slots import SlotConfig
from perceiver_stream.models import savi
from perceiver_stream.models.mapping import import_params
from perceiver_stream.models.savi import weights

FILES = golden_files("savi")
TRANSFORMER = "params/TransformerBlock_0/MultiHeadDotProductAttention_0/query/kernel"


def config_of(golden: Golden) -> savi.Config:
  h, a = golden.hyper, golden.arrays
  heads = a["params/SlotAttention_0/general_dense_q_0/kernel"].shape[1:]
  pairs = lambda key: tuple(map(tuple, h[key]))  # noqa: E731
  slots = SlotConfig(
    num_slots=h["boxes"] + 1,
    dim=h["slot_dim"],
    qkv_dim=heads[0] * heads[1],
    num_heads=h["corrector_heads"],
    num_iterations=h["iterations"],
    mlp_dim=h["corrector_mlp"] or 0,
    predictor_qkv_dim=int(np.prod(a[TRANSFORMER].shape[1:])),
    predictor_heads=h["predictor_heads"],
    predictor_mlp_dim=h["predictor_mlp"],
  )
  return savi.Config(
    height=h["height"],
    width=h["width"],
    slots=slots,
    channels=tuple(h["encoder_features"]),
    strides=pairs("encoder_strides"),
    kernel=a["params/FrameEncoder_0/CNN_0/conv_0/kernel"].shape[0],
    encoder_dim=h["encoder_mlp"],
    cue_dim=h["init_mlp"],
    centres=h["center_of_mass"],
    canvas=tuple(h["decoder_resolution"]),
    decoder_channels=tuple(h["decoder_features"]),
    decoder_strides=pairs("decoder_strides"),
    decoder_transposed=tuple(h["decoder_transpose"]),
    decoder_kernel=a["params/SpatialBroadcastDecoder_0/CNN_0/conv_0/kernel"].shape[0],
  )


@functools.cache
def setup(path):
  golden = Golden(path)
  config = config_of(golden)
  model = savi.build(config)
  template = jax.eval_shape(model.init, jax.random.key(0))
  published = golden.part("params/")
  params = import_params(published, template, weights.rules(config), source="golden")
  frames = jnp.swapaxes(jnp.asarray(golden.arrays["inputs/video"]), 0, 1)
  slots = model.initial_state(
    params, frames.shape[1], jnp.asarray(golden.arrays["inputs/boxes_yxyx"][:, 0])
  )
  return golden, model, params, frames, slots


@pytest.mark.parametrize("path", FILES)
def test_every_stored_array(path):
  golden, model, params, frames, slots = setup(path)
  assert sum(x.size for x in jax.tree.leaves(params)) == golden.about["num_params"]
  found, decoded, last = model.unroll(params, slots, frames)
  first = lambda x: jnp.swapaxes(x, 0, 1)  # noqa: E731
  seen = {
    "states": first(found.states.corrected),
    "states_pred": first(found.states.predicted),
    "flow": first(decoded.target),
    "flow_from_predicted": first(model.decode(params, found.states.predicted).target),
  }
  for name, value in golden.part("outputs/intermediates/").items():
    kind = (found.attention, found.prediction_attention)["TransformerBlock" in name]
    seen[f"intermediates/{name}"] = first(
      decoded.shares[..., None] if name.endswith("alphas") else kind
    ).reshape(value.shape)
  for name, value in seen.items():
    golden.close(f"outputs/{name}", value)
  top = np.sort(decoded.shares, axis=2)[:, :, -2:]
  clear = np.swapaxes(top[:, :, 1] - top[:, :, 0] > 1e-3, 0, 1)[..., None]
  same = (
    np.asarray(first(decoded.segmentation))[..., None] == golden.arrays["outputs/segmentations"]
  )
  assert np.all(same[clear])
  assert set(golden.part("outputs/")) == {*seen, "segmentations"}
  np.testing.assert_allclose(last, found.states.predicted[-1])


@pytest.mark.parametrize("path", FILES)
def test_any_split_gives_the_same_slots(path):
  _, model, params, frames, slots = setup(path)
  whole, _, last = model.unroll(params, slots, frames)
  for t, frame in enumerate(frames):
    found, decoded, slots = model.step(params, slots, frame)
    np.testing.assert_allclose(found.states.corrected, whole.states.corrected[t], atol=1e-5)
    assert decoded.segmentation.shape == frame.shape[:-1]
  np.testing.assert_allclose(slots, last, atol=1e-5)
  with pytest.raises(ValueError, match=r"conditional=True needs boxes \[B, S - 1, 4\]"):
    model.initial_state(params, 1)
