"""SlowFast against released code: stages, softmax at larger sizes, gradients; full-size names."""

import jax.numpy as jnp
import numpy as np
import pytest
from clip_golden import ClipGolden, channels_last, exported, paths_of, train_step
from drawn_clips import drawn, shared

from perceiver_stream.models import slowfast
from perceiver_stream.models.mapping import published_names
from perceiver_stream.models.slowfast import slow_frames, weights
from perceiver_stream.zoo import clip_encoders

FILES = paths_of("slowfast")


def config_of(golden: ClipGolden) -> slowfast.Config:
  h = golden.hyper
  return slowfast.Config(
    num_frames=h["frames"],
    height=h["crop"],
    width=h["crop"],
    channels=h["width_per_group"],
    alpha=h["alpha"],
    beta_inv=h["beta_inv"],
    fusion_ratio=h["fusion_ratio"],
    fusion_kernel=h["fusion_kernel"],
    blocks=tuple(h["blocks"]),
    num_classes=h["classes"],
    norm_eps=h["bn_eps"],
    dropout=0.0,
    mean=(0.0,),
    std=(1.0,),
  )


@pytest.mark.parametrize("path", FILES)
def test_golden(path):
  golden = ClipGolden(path)
  config = config_of(golden)
  np.testing.assert_array_equal(
    slow_frames(config.num_frames, config.alpha), golden["inputs/slow_indices"]
  )
  loaded = golden.load(config, "params/", weights.rules, weights.TORCH_COUNTS)
  clips, labels = channels_last(golden["inputs/fast"]), golden["inputs/labels"]
  outputs, _ = loaded.encoder.apply(*loaded[1:], clips)
  golden.close("outputs/eval/softmax", outputs.parts["probabilities"])
  for name in golden.part("outputs/eval/s"):
    if "/pathway" in name:
      stage, pathway = name.split("/pathway")
      actual = np.moveaxis(outputs.parts[f"s{stage}_{pathway}"], -1, 1)
      golden.close(f"outputs/eval/s{name}", actual)
  if "inputs/larger_fast" in golden.arrays:
    larger = channels_last(golden["inputs/larger_fast"])
    found = loaded.encoder.apply(*loaded[1:], larger)[0].parts["probabilities"]
    golden.close("outputs/eval/larger_softmax", found)
  outputs, loss, grads, after = train_step(loaded, clips, labels)
  golden.close("outputs/train/logits", outputs.logits)
  golden.close("outputs/train/loss", loss)
  rules = weights.rules(config)
  golden.gradients("outputs/train/grads_flat", golden.about["grad_order"], exported(grads, rules))
  if "outputs/train/running_flat" in golden.arrays:
    order = golden.about["running_order"]
    golden.flat("outputs/train/running_flat", order, exported(after, rules))
  golden.all_compared()


@pytest.mark.parametrize("path", FILES)
def test_full_size_has_the_published_names_shapes_and_count(path):
  about = ClipGolden(path).about
  encoder = clip_encoders.build("slowfast/r50_8x8")
  assert clip_encoders.num_parameters(encoder) == about["full_size_params"]
  tree = clip_encoders.merged(*clip_encoders.template(encoder))
  names = published_names(tree, weights.rules(encoder.config)).values()
  expected = about["full_size_8x8_R50"]
  expected = {k: v for k, v in expected.items() if not k.endswith("num_batches_tracked")}
  assert {p.name: list(p.shape) for p in names} == expected


def test_the_slow_pathway_fires_every_alpha_ticks_and_is_held():
  encoder, params, statistics = shared("slowfast/nano_causal")
  c = encoder.config
  frames = jnp.asarray(np.random.default_rng(0).random((5, 2, 32, 32, 3), np.float32))
  state = encoder.initial_state(params, statistics, frames[0])
  slow, fast = [], []
  for frame in frames:
    outputs, state = encoder.step(params, statistics, state, frame)
    slow.append(np.asarray(outputs.features[..., : 32 * c.channels]))
    fast.append(np.asarray(outputs.features[..., 32 * c.channels :]))
    assert bool(outputs.is_new)  # the fast pathway is
  changed = [not np.array_equal(a, b) for a, b in zip(slow[1:], slow, strict=False)]
  assert changed == [t % c.alpha == 0 for t in range(1, 5)]
  assert all(not np.array_equal(a, b) for a, b in zip(fast[1:], fast, strict=False))


def test_sizes_that_do_not_fit_are_named():
  with pytest.raises(ValueError, match="num_frames=30 is no multiple of alpha=4"):
    slowfast.build(slowfast.Config(num_frames=30))
  with pytest.raises(ValueError, match="channels=12 is no multiple of beta_inv=8"):
    slowfast.build(slowfast.Config(channels=12))
  encoder = clip_encoders.build("slowfast/nano")
  with pytest.raises(ValueError, match="clips have 3 frames, no multiple of alpha=2; cut them"):
    encoder.apply(*drawn(encoder)[1:], jnp.zeros((1, 3, 32, 32, 3)))
